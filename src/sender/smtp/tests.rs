//! The mail sender against a scripted server: each script is what the server expects and says, line by line.
//! Real TLS and a real server are in the live tests.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// What the server waits for (a command's beginning, or `.` for the end of a mail, or nothing) and what it
/// then does.
type Line = (&'static str, Does);

#[derive(Clone, Copy)]
enum Does {
    Say(&'static str),
    Close,
    Hang,
}
use Does::{Close, Hang, Say};

const GREET: [Line; 2] = [
    ("", Say("220 mx.example ESMTP\r\n")),
    ("EHLO ", Say("250-mx.example\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n")),
];
const MAIL: [Line; 4] = [
    ("MAIL FROM:<bridge@acme.example>", Say("250 2.1.0 ok\r\n")),
    ("RCPT TO:<cases@acme.example>", Say("250 2.1.5 ok\r\n")),
    ("DATA", Say("354 go\r\n")),
    (".", Say("250 2.0.0 queued\r\n")),
];

/// Serves one connection for each script; gives back all that clients sent.
async fn server(scripts: Vec<Vec<Line>>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut all = String::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.expect("a client");
            play(&mut stream, &script, &mut all).await;
        }
        all
    });
    (address, task)
}

async fn play(stream: &mut TcpStream, script: &[Line], all: &mut String) {
    let mut pending = String::new();
    for (expected, does) in script {
        let end = if *expected == "." { "\r\n.\r\n" } else { "\r\n" };
        while !expected.is_empty() && !pending.contains(end) {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.expect("a command");
            assert!(n > 0, "the client closed; expected {expected}");
            pending.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
        if !expected.is_empty() {
            let at = pending.find(end).expect("the end") + end.len();
            let got: String = pending.drain(..at).collect();
            assert!(*expected == "." || got.starts_with(expected), "expected {expected}, got {got}");
            all.push_str(&got);
        }
        match does {
            Say(text) => stream.write_all(text.as_bytes()).await.expect("written"),
            Close => return,
            Hang => {
                // Until the client closes.
                stream.read_to_end(&mut Vec::new()).await.ok();
                return;
            }
        }
    }
}

fn settings(address: SocketAddr) -> SmtpSettings {
    SmtpSettings {
        host: address.ip().to_string(),
        port: Some(address.port()),
        tls: SmtpTls::None,
        user: None,
        password: None,
        ca_file: None,
        timeout: Duration::from_secs(20),
        hello_name: Some("bridge.acme.example".into()),
        dkim: None,
    }
}

fn with_login(settings: SmtpSettings) -> SmtpSettings {
    SmtpSettings { user: Some("bridge".into()), password: Some(Secret::Plain("s3cr3t".into())), ..settings }
}

async fn send(sender: &SmtpSender) -> Result<(), Verdict> {
    let to = ["cases@acme.example".to_owned()];
    let result = sender.send("bridge@acme.example", &to, b"Subject: x\r\n\r\nhello\r\n.dot\r\n").await;
    if let Err(verdict) = &result {
        for private in ["acme.example", "hello", "s3cr3t"] {
            assert!(!verdict.detail.contains(private), "{}", verdict.detail);
        }
    }
    result
}

/// Plays a script to a sender; the verdict, without its sentence.
async fn judged(script: Vec<Line>, change: impl FnOnce(SmtpSettings) -> SmtpSettings) -> (Class, Reason, bool) {
    let (address, server) = server(vec![script]).await;
    let sender = SmtpSender::new(change(settings(address))).expect("a sender");
    let verdict = send(&sender).await.expect_err("not taken");
    drop(sender);
    server.await.expect("the server");
    (verdict.class, verdict.reason, verdict.uncertain)
}

fn script(parts: &[&[Line]]) -> Vec<Line> {
    parts.concat()
}

#[tokio::test]
async fn mails_go_over_one_kept_connection_and_arrive_exactly() {
    let (address, server) = server(vec![script(&[&GREET, &MAIL, &MAIL])]).await;
    let sender = SmtpSender::new(settings(address)).expect("a sender");
    send(&sender).await.expect("taken");
    send(&sender).await.expect("taken");
    let seen = server.await.expect("the server");
    assert_eq!(seen.matches("EHLO bridge.acme.example\r\n").count(), 1, "{seen}");
    assert_eq!(seen.matches("DATA\r\nSubject: x\r\n\r\nhello\r\n..dot\r\n.\r\n").count(), 2, "{seen}");
}

#[tokio::test]
async fn a_kept_connection_that_the_server_ended_is_replaced_without_a_failure() {
    for end in [Close, Say("421 4.4.2 idle\r\n")] {
        let first = script(&[&GREET, &MAIL, &[("MAIL", end)]]);
        let (address, server) = server(vec![first, script(&[&GREET, &MAIL])]).await;
        let sender = SmtpSender::new(settings(address)).expect("a sender");
        send(&sender).await.expect("taken");
        send(&sender).await.expect("taken by a fresh connection");
        server.await.expect("the server");
    }
}

#[tokio::test]
async fn a_refused_mail_does_not_cost_the_connection() {
    let refused = [MAIL[0], ("RCPT", Say("550 5.1.1 <cases@acme.example> unknown\r\n")), ("RSET", Say("250 ok\r\n"))];
    let (address, server) = server(vec![script(&[&GREET, &refused, &MAIL])]).await;
    let sender = SmtpSender::new(settings(address)).expect("a sender");
    let verdict = send(&sender).await.expect_err("refused");
    assert_eq!((verdict.class, verdict.reason), (Class::Dead, Reason::MailRefused));
    assert_eq!(verdict.detail, "the mail server answered 550 5.1.1 to `RCPT TO`");
    send(&sender).await.expect("taken by the same connection");
    server.await.expect("the server");
}

#[tokio::test]
async fn a_refusal_is_judged_by_its_code_and_by_where_it_comes() {
    let (retry, dead, pause) = (Class::Retry, Class::Dead, Class::Pause);
    let (deferred, refused, denied) = (Reason::MailDeferred, Reason::MailRefused, Reason::NotPermitted);
    for (at, code, class, reason) in [
        (0, "554 no service for you\r\n", pause, denied),
        (0, "421 busy\r\n", retry, deferred),
        (1, "550 5.7.1 who are you\r\n", pause, denied),
        (2, "451 4.7.1 greylisted\r\n", retry, deferred),
        (2, "530 5.7.0 log in first\r\n", pause, Reason::Unauthorized),
        (3, "452 4.5.3 too many\r\n", retry, deferred),
        (3, "550-5.1.1 no\r\n550 5.1.1 such user\r\n", dead, refused),
        (4, "421 4.3.2 shutting down\r\n", retry, deferred),
        (5, "451 4.3.0 try later\r\n", retry, deferred),
        (5, "552 5.3.4 too large\r\n", dead, refused),
    ] {
        let mut lines = script(&[&GREET, &MAIL]);
        lines[at].1 = Say(code);
        lines.truncate(at + 1);
        // RSET after it finds the connection closed, which changes nothing.
        assert_eq!(judged(lines, |s| s).await, (class, reason, false), "{code}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_uncertain_from_the_final_dot_on() {
    for (at, uncertain) in [(1, false), (2, false), (3, false), (4, false), (5, true)] {
        for (end, reason) in [(Close, Reason::ConnectionLost), (Hang, Reason::Timeout)] {
            let mut lines = script(&[&GREET, &MAIL]);
            lines[at].1 = end;
            lines.truncate(at + 1);
            let reason = if at == 1 && matches!(end, Hang) { Reason::Unreachable } else { reason };
            let short = |s| SmtpSettings { timeout: Duration::from_millis(40), ..s };
            assert_eq!(judged(lines, short).await, (Class::Retry, reason, uncertain), "line {at}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_under_the_text_is_certain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        play(&mut stream, &script(&[&GREET, &MAIL[..3]]), &mut String::new()).await;
        stream.set_zero_linger().expect("linger");
    });
    let sender = SmtpSender::new(settings(address)).expect("a sender");
    // More than the kernel buffers of both sides take.
    let mail = b"a line of sixty-four characters, which a mail has many of .....\r\n".repeat(1 << 18);
    let verdict = sender.send("a@x.example", &["b@x.example".into()], &mail).await.err();
    server.await.ok();
    if let Some(verdict) = verdict {
        assert_eq!((verdict.class, verdict.reason, verdict.uncertain), (Class::Retry, Reason::ConnectionLost, false));
    } else {
        panic!("a mail was taken that nobody read");
    }
}

#[tokio::test]
async fn a_login_is_made_once_a_connection_and_refused_ones_pause() {
    let plain = ("AUTH PLAIN AGJyaWRnZQBzM2NyM3Q=", Say("235 2.7.0 ok\r\n"));
    let (address, taken) = server(vec![script(&[&GREET, &[plain], &MAIL, &MAIL])]).await;
    let sender = SmtpSender::new(with_login(settings(address))).expect("a sender");
    send(&sender).await.expect("taken");
    send(&sender).await.expect("taken");
    taken.await.expect("the server");

    for (answer, class, reason) in [
        ("535 5.7.8 no\r\n", Class::Pause, Reason::Unauthorized),
        ("504 5.5.4 unknown mechanism\r\n", Class::Pause, Reason::Unauthorized),
        ("454 4.7.0 later\r\n", Class::Retry, Reason::MailDeferred),
    ] {
        let lines = script(&[&GREET, &[("AUTH", Say(answer))]]);
        assert_eq!(judged(lines, with_login).await, (class, reason, false), "{answer}");
    }
    let bare = [GREET[0], ("EHLO", Say("250 mx.example\r\n"))];
    assert_eq!(judged(bare.to_vec(), with_login).await, (Class::Pause, Reason::Unauthorized, false));
}

#[tokio::test]
async fn auth_login_serves_where_plain_is_not_offered() {
    let lines = [
        GREET[0],
        ("EHLO", Say("250-mx.example\r\n250 AUTH LOGIN\r\n")),
        ("AUTH LOGIN", Say("334 VXNlcm5hbWU6\r\n")),
        ("YnJpZGdl", Say("334 UGFzc3dvcmQ6\r\n")),
        ("czNjcjN0", Say("235 ok\r\n")),
    ];
    let (address, taken) = server(vec![script(&[&lines, &MAIL])]).await;
    let sender = SmtpSender::new(with_login(settings(address))).expect("a sender");
    send(&sender).await.expect("taken");
    taken.await.expect("the server");
}

#[tokio::test]
async fn starttls_is_never_done_without() {
    let tls = |s| SmtpSettings { tls: SmtpTls::StartTls, ..with_login(s) };
    let offer = ("EHLO", Say("250-mx.example\r\n250 STARTTLS\r\n"));
    for (lines, reason) in [
        (script(&[&GREET]), Reason::Tls),
        (vec![GREET[0], offer, ("STARTTLS", Say("502 no\r\n"))], Reason::Tls),
        (vec![GREET[0], offer, ("STARTTLS", Say("220 go\r\n250 injected\r\n"))], Reason::Tls),
        (
            vec![GREET[0], offer, ("STARTTLS", Say("220 go\r\n")), ("", Say("500 not tls, and a long line\r\n"))],
            Reason::Tls,
        ),
        (vec![("", Say("HTTP/1.1 400 Bad Request\r\n"))], Reason::BadBaseUrl),
    ] {
        assert_eq!(judged(lines, tls).await, (Class::Pause, reason, false));
    }
    let lines = vec![GREET[0], offer, ("STARTTLS", Say("454 later\r\n"))];
    assert_eq!(judged(lines, tls).await, (Class::Retry, Reason::MailDeferred, false));
}

#[tokio::test]
async fn what_is_no_mail_server_is_told() {
    assert_eq!(judged(vec![("", Say("* OK IMAP\r\n"))], |s| s).await, (Class::Pause, Reason::BadBaseUrl, false));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let verdict = send(&SmtpSender::new(settings(address)).expect("a sender")).await.expect_err("nobody there");
    assert_eq!((verdict.class, verdict.reason, verdict.uncertain), (Class::Retry, Reason::Unreachable, false));
    let nowhere = SmtpSettings { host: "no-such-host.invalid".into(), tls: SmtpTls::StartTls, ..settings(address) };
    let verdict = send(&SmtpSender::new(nowhere).expect("a sender")).await.expect_err("no such host");
    assert_eq!((verdict.class, verdict.reason, verdict.uncertain), (Class::Pause, Reason::Dns, false));
}

#[tokio::test]
async fn no_more_connections_than_the_bound_are_open_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let mut clients = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (mut stream, _) = accepted.expect("a client");
                    clients.spawn(async move {
                        let mails = std::iter::repeat_n(MAIL, 40).flatten();
                        let lines: Vec<Line> = GREET.into_iter().chain(mails).collect();
                        play(&mut stream, &lines, &mut String::new()).await;
                    });
                }
                () = std::future::pending() => {}
            }
            assert!(clients.len() <= CONNECTIONS, "{} connections", clients.len());
        }
    });
    let sender = SmtpSender::new(settings(address)).expect("a sender");
    let results = futures_util::future::join_all((0..40).map(|_| send(&sender))).await;
    assert!(results.iter().all(Result::is_ok));
    assert!(!server.is_finished(), "too many connections");
    server.abort();
}

#[test]
fn line_ends_are_made_whole() {
    for (raw, whole) in [
        ("a\r\nb\r\n", "a\r\nb"),
        ("a\nb\n", "a\r\nb"),
        ("a\r\n.\nb", "a\r\n.\r\nb"),
        ("a\rb\r", "a\r\nb\r\n"),
        ("a\r\n\r\n", "a\r\n"),
        ("a\r\r\nb", "a\r\n\r\nb"),
        ("", ""),
    ] {
        assert_eq!(line_ends(raw.as_bytes()), whole.as_bytes(), "{raw:?}");
    }
    assert!(matches!(line_ends(b"a\r\nb\r\n"), Cow::Borrowed(_)));
}

#[test]
fn settings_have_defaults_by_tls_and_faults_that_name_the_key() {
    let read = |text: &str| toml::from_str::<SmtpSettings>(text);
    let least = read("host = \"mx.acme.example\"").expect("settings");
    assert_eq!((least.port(), least.tls, least.timeout), (587, SmtpTls::StartTls, Duration::from_secs(60)));
    assert_eq!(read("host = \"mx\"\ntls = \"implicit\"").expect("settings").port(), 465);
    assert!(read("host = \"mx\"\ntls = \"maybe\"").is_err());
    assert!(read("host = \"mx\"\npasword = \"x\"").is_err());
    for (text, key) in [
        ("host = \"mx.acme.example\"\ntls = \"none\"", "`tls = \"none\"`"),
        ("host = \"smtp://mx\"", "`host`"),
        ("host = \"mx\"\nuser = \"x\"", "`password`"),
        ("host = \"mx\"\nhello_name = \"a b\"", "`hello_name`"),
        ("host = \"mx\"\nca_file = \"/nowhere/ca.pem\"", "`ca_file`"),
    ] {
        let fault = SmtpSender::new(read(text).expect("settings")).expect_err(text);
        assert!(fault.contains(key), "{fault}");
    }
    let shown = format!("{:?}", read("host = \"mx\"\nuser = \"u\"\npassword = \"s3cr3t\"").expect("settings"));
    assert!(!shown.contains("s3cr3t"), "{shown}");
}
