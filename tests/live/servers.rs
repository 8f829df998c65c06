//! The servers themselves: that they are there and do what the other tests take for granted.

use crate::support::mailbox::Mailbox;
use crate::support::servers::Servers;
use crate::support::tickets::{Attachment, Tickets};

#[tokio::test]
async fn a_mail_put_into_the_mailbox_is_seen_there() {
    let servers = Servers::up(&["dovecot"]);
    let mut mailbox = Mailbox::open(&servers, "AGENT").await;
    mailbox.clear("INBOX").await;
    mailbox.append("INBOX", ["Subject: one\n\nfirst\n", "Subject: two\r\n\r\nsecond\r\n"]).await;
    let mails = mailbox.mails("INBOX").await;
    let raw: Vec<&[u8]> = mails.iter().map(|mail| &mail.raw[..]).collect();
    assert_eq!(raw, [&b"Subject: one\r\n\r\nfirst\r\n"[..], b"Subject: two\r\n\r\nsecond\r\n"]);
    assert!(mails.iter().all(|mail| !mail.flags.iter().any(|flag| flag == "\\Seen")));

    let many = (0..2000).map(|n| format!("Subject: mail {n}\n\n{}\n", "text ".repeat(100)));
    mailbox.append("INBOX", many).await;
    assert_eq!(mailbox.count("INBOX").await, 2002);
    mailbox.clear("INBOX").await;
    assert_eq!(mailbox.mails("INBOX").await, []);
}

#[tokio::test]
async fn a_ticket_is_made_commented_and_read_back() {
    let servers = Servers::up(&["rt"]);
    let tickets = Tickets::new(&servers);
    let id = tickets.create("A caller from Jönköping").await;
    let ticket = tickets.ticket(id).await;
    assert_eq!((ticket.subject.as_str(), ticket.status.as_str()), ("A caller from Jönköping", "new"));
    assert!(ticket.fields.is_empty(), "{ticket:?}");

    let file = Attachment {
        name: "metadata-1.json".into(),
        content_type: "application/json".into(),
        content: "{\"name\":\"Ägir\"}".into(),
    };
    tickets.comment(id, "voice-1", "It was ☎.", std::slice::from_ref(&file)).await;
    let comments = tickets.comments(id).await;
    assert_eq!(comments.len(), 1);
    assert_eq!((comments[0].subject.as_str(), comments[0].text.as_str()), ("voice-1", "It was ☎."));
    assert_eq!(comments[0].files, [file]);
    let kinds: Vec<_> = tickets.history(id).await.into_iter().map(|t| t.kind).collect();
    assert_eq!(kinds, ["Create", "Comment"]);
}
