//! The program's senders against the real servers: TLS with its verification, logins, refusals.

use std::time::Duration;

use mail2crm::connector::http::{Body, Request};
use mail2crm::outcome::{Class, Reason};
use mail2crm::secret::Secret;
use mail2crm::sender::http::{HttpSender, HttpSettings};
use mail2crm::sender::smtp::{SmtpSender, SmtpSettings, SmtpTls};

use crate::support::mailbox::Mailbox;
use crate::support::servers::Servers;
use crate::support::tickets::Tickets;
use crate::support::until;

fn submission(servers: &Servers, tls: SmtpTls) -> SmtpSettings {
    let port = if tls == SmtpTls::Implicit { "SUBMISSIONS_PORT" } else { "SUBMISSION_PORT" };
    SmtpSettings {
        host: "localhost".into(),
        port: Some(servers.port(port)),
        tls,
        user: Some(servers.get("MAIL_AGENT").to_owned()),
        password: Some(Secret::Plain(servers.get("PASSWORD").to_owned())),
        ca_file: Some(servers.ca_file()),
        timeout: Duration::from_secs(20),
        hello_name: Some("bridge.example.test".into()),
        dkim: None,
    }
}

#[tokio::test]
async fn mails_sent_by_submission_arrive_as_they_were_written() {
    let servers = Servers::up(&["postfix"]);
    let mut mailbox = Mailbox::open(&servers, "ARCHIVE").await;
    mailbox.clear("INBOX").await;
    let to = [servers.get("MAIL_ARCHIVE").to_owned()];
    for tls in [SmtpTls::StartTls, SmtpTls::Implicit] {
        let sender = SmtpSender::new(submission(&servers, tls)).expect("a sender");
        for n in 0..20 {
            let mail = format!("Subject: {tls:?} {n}\r\n\r\nline\r\n.\r\n..dots\r\n\r\n");
            sender.send(servers.get("MAIL_AGENT"), &to, mail.as_bytes()).await.expect("taken");
        }
    }
    let mails = until("40 mails are there", Duration::from_secs(30), async || {
        let mails = mailbox.mails("INBOX").await;
        (mails.len() == 40).then_some(mails)
    })
    .await;
    for mail in mails {
        assert!(mail.raw.ends_with(b"\r\n\r\nline\r\n.\r\n..dots\r\n\r\n"), "{}", String::from_utf8_lossy(&mail.raw));
    }
}

#[tokio::test]
async fn a_mail_server_says_no_in_the_words_of_the_outcomes() {
    let servers = Servers::up(&["postfix"]);
    let good = || submission(&servers, SmtpTls::StartTls);
    let wrong_password = SmtpSettings { password: Some(Secret::Plain("wrong".into())), ..good() };
    let strange_authority = SmtpSettings { ca_file: None, ..good() };
    let strange_implicit = SmtpSettings { ca_file: None, ..submission(&servers, SmtpTls::Implicit) };
    let wrong_tls = SmtpSettings { port: Some(servers.port("SUBMISSION_PORT")), tls: SmtpTls::Implicit, ..good() };
    let no_login = SmtpSettings { user: None, password: None, ..good() };
    let inside = servers.get("MAIL_ARCHIVE");
    for (settings, to, class, reason) in [
        (wrong_password, inside, Class::Pause, Reason::Unauthorized),
        (strange_authority, inside, Class::Pause, Reason::Tls),
        (strange_implicit, inside, Class::Pause, Reason::Tls),
        (wrong_tls, inside, Class::Pause, Reason::Tls),
        (no_login, inside, Class::Dead, Reason::MailRefused),
        (good(), "nobody@example.test", Class::Dead, Reason::MailRefused),
    ] {
        let sender = SmtpSender::new(settings).expect("a sender");
        let verdict = sender.send("bridge@example.test", &[to.to_owned()], b"Subject: x\r\n\r\nx\r\n").await;
        let verdict = verdict.expect_err("refused");
        assert_eq!((verdict.class, verdict.reason, verdict.uncertain), (class, reason, false), "{}", verdict.detail);
        assert!(!verdict.detail.contains('@') && !verdict.detail.contains("wrong"), "{}", verdict.detail);
    }
}

#[tokio::test]
async fn a_ticket_system_takes_a_request_and_refuses_a_wrong_token() {
    let servers = Servers::up(&["rt"]);
    let tickets = Tickets::new(&servers);
    let id = tickets.create("for the sender").await;
    let sender = HttpSender::new(HttpSettings::default()).expect("a sender");
    let request = Request {
        method: "PUT".into(),
        url: format!("{}/REST/2.0/ticket/{id}", servers.get("RT_URL")),
        headers: vec![("Accept".into(), "application/json".into())],
        body: Some(Body {
            content_type: "application/json".into(),
            bytes: r#"{"CustomFields":{"Disposition":"Resolved ✓"}}"#.into(),
        }),
        with_credentials: true,
    };
    let token = format!("token {}", servers.get("RT_TOKEN"));
    for (token, status) in [(token.as_str(), 200), ("token 1-2-3", 401)] {
        let credentials = [("Authorization".to_owned(), token.into())];
        let answer = sender.send(&request, &credentials).await.expect("an answer");
        assert_eq!(answer.status, status);
    }
    let fields = tickets.ticket(id).await.fields;
    assert_eq!(fields.get("Disposition").map(String::as_str), Some("Resolved ✓"));
}
