//! The source `pop3` on a real server (Dovecot), over TLS from the first byte and by STLS.

use std::time::Duration;

use super::mails::{Made, SHAPES};
use super::support::mailbox::Mailbox;
use super::support::program::Site;
use super::support::servers::Servers;
use super::support::until;

fn site(servers: &Servers, tls: &str, after: &str) -> Site {
    let port = servers.port(if tls == "implicit" { "POP3S_PORT" } else { "POP3_PORT" });
    let site = Site::new(&format!(
        r#"
[source.pop]
kind = "pop3"
host = "localhost"
port = {port}
tls = "{tls}"
ca_file = "{ca}"
user = "{user}"
password = {{ env = "LIVE_TEST_PASSWORD" }}
start = "all"
after = "{after}"
poll_seconds = 1
trust = "anyone"

[destination.archive]
storage = "archive"
path = "{{{{key}}}}.json"
"#,
        ca = servers.ca_file().display(),
        user = servers.get("MAIL_INBOX"),
    ));
    site.set("LIVE_TEST_PASSWORD", servers.get("PASSWORD"));
    site
}

fn mails(ids: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let made = |id: u64| Made { ticket: 1, id, voice: id % 3 != 0, shape: id as usize % SHAPES, twice: false };
    ids.map(|id| made(id).mail(1, 1)).collect()
}

fn messages(site: &Site) -> usize {
    let out = site.run(&["--json", "messages", "list", "--limit", "10000", "--state", "processed"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).lines().count()
}

async fn taken(site: &Site, count: usize) {
    until(&format!("{count} mails are taken in"), Duration::from_secs(60), async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (messages(site) == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn mails_are_read_once_and_left_where_they_are() {
    let servers = Servers::up(&["dovecot"]);
    let mut mailbox = Mailbox::open(&servers, "INBOX").await;
    mailbox.clear("INBOX").await;
    mailbox.append("INBOX", mails(80_000..80_150)).await;
    let site = site(&servers, "starttls", "nothing");
    let check = site.run(&["check", "--online"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("logged in; the mailbox holds 150 messages"), "{said}");

    let running = site.start(&["run"]);
    taken(&site, 150).await;
    mailbox.append("INBOX", mails(80_150..80_160)).await;
    taken(&site, 160).await;
    running.kill();
    // The position is in the ledger: after a kill only what is new is downloaded.
    mailbox.append("INBOX", mails(80_160..80_161)).await;
    let running = site.start(&["-v", "run"]);
    taken(&site, 161).await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(log.matches("took in a session message").count(), 1, "{log}");
    assert_eq!(mailbox.count("INBOX").await, 161);
    let audit = site.run(&["audit", "--source", "pop"]);
    let said = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.status.success() && said.contains("source pop: 161 known"), "{said}");
    mailbox.clear("INBOX").await;
}

#[tokio::test]
async fn mails_are_deleted_once_they_are_safe_if_told_so() {
    let servers = Servers::up(&["dovecot"]);
    let mut mailbox = Mailbox::open(&servers, "INBOX").await;
    mailbox.clear("INBOX").await;
    mailbox.append("INBOX", mails(81_000..81_100)).await;
    let site = site(&servers, "implicit", "delete");
    let running = site.start(&["run"]);
    taken(&site, 100).await;
    until("the mailbox is empty", Duration::from_secs(20), async || (mailbox.count("INBOX").await == 0).then_some(()))
        .await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");

    // A wrong password is told with its step, and nothing else is tried.
    site.set("LIVE_TEST_PASSWORD", "wrong");
    let check = site.run(&["check", "--online"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("FAILED  source pop: login:") && !said.contains("inbox@"), "{said}");
}
