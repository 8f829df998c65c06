//! A real mail server (Postfix) that delivers into the program's listeners by SMTP over TLS and by LMTP: while
//! the disk is full, and ten thousand at once. Nothing is lost, nothing bounces, nothing is there twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::mails::{Made, SHAPES};
use super::support::disk::SmallDisk;
use super::support::program::Site;
use super::support::servers::Servers;
use super::support::{post, until};

/// A listener for each protocol, and the documents as files.
fn site(servers: &Servers, state: &Path) -> Site {
    let [certificate, key] = servers.certificate();
    Site::new(&format!(
        r#"
state = "{state}"

[source.mx]
kind = "smtp"
listen = "127.0.0.1:{smtp}"
hostname = "bridge.example.test"
recipients = ["sessions@smtp.bridge.test"]
tls = "starttls_required"
certificate = "{certificate}"
private_key = "{key}"
trust = "anyone"

[source.local]
kind = "smtp"
protocol = "lmtp"
listen = "127.0.0.1:{lmtp}"
recipients = ["@lmtp.bridge.test"]
trust = "anyone"

[destination.archive]
storage = "archive"
path = "{{{{key}}}}.json"
"#,
        state = state.display(),
        smtp = servers.port("BRIDGE_SMTP_PORT"),
        lmtp = servers.port("BRIDGE_LMTP_PORT"),
        certificate = certificate.display(),
        key = key.display(),
    ))
}

/// Mails of as many sessions, by turns for the one listener and the other; each with so many bytes more.
fn mails(count: u64, first_id: u64, ballast: usize) -> Vec<(String, Vec<u8>)> {
    let line = format!("{}\r\n", "x".repeat(70));
    let mail = |i: u64| {
        let made =
            Made { ticket: 1, id: first_id + i, voice: i % 3 != 0, shape: (i as usize / 2) % SHAPES, twice: false };
        let mut raw = made.mail(1, 1);
        if ballast > 0 {
            // What mail servers pass on as it is: more of the header.
            let ballast = format!("X-Ballast: start\r\n{}", format!(" {line}").repeat(ballast / line.len()));
            raw.splice(0..0, ballast.into_bytes());
        }
        let to = if i % 2 == 0 { "sessions+k3y@smtp.bridge.test" } else { "anybody@lmtp.bridge.test" };
        (to.to_owned(), raw)
    };
    (0..count).map(mail).collect()
}

/// The ledger's messages: how many, and how many of them were taken as sessions.
fn counted(state: &Path) -> (u64, u64) {
    let Ok(ledger) = Connection::open(state) else { return (0, 0) };
    let count = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).map_or(0, i64::cast_unsigned);
    (count("SELECT count(*) FROM messages"), count("SELECT count(*) FROM messages WHERE state = 'processed'"))
}

fn files(site: &Site) -> BTreeSet<String> {
    let folder = std::fs::read_dir(site.path().join("archive")).expect("the archive");
    folder.flatten().map(|entry| entry.path().display().to_string()).collect()
}

fn audit_is_clean(site: &Site) {
    let audit = site.run(&["audit"]);
    let said = [audit.stdout, audit.stderr].concat();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn while_the_disk_is_full_the_mail_server_keeps_what_is_not_committed() {
    let servers = Servers::up(&["postfix"]);
    post::clear(&servers);
    let disk = SmallDisk::new(3 << 10);
    let state = disk.path().join("mail2crm.db");
    let site = site(&servers, &state);
    let mut running = site.start(&["run"]);
    running.says("mail2crm is running", Duration::from_secs(20)).await;

    // Five MiB of mail for a disk of three.
    let count = 100;
    post::send(&servers, mails(count, 70_000, 50_000), 4).await;
    let deferred = until("the mail server was told to try again later", Duration::from_secs(60), async || {
        let queue = post::queue(&servers);
        let is_settled = queue.len() as u64 + counted(&state).0 == count;
        (is_settled && !queue.is_empty() && queue.iter().all(|mail| mail.contains("\"delay_reason\""))).then_some(queue)
    })
    .await;
    assert!(deferred.iter().all(|mail| mail.contains(" 451 4.3.0 ") || mail.contains(" 421 ")), "{}", deferred[0]);
    let taken = counted(&state).0;
    assert!(taken > 0 && taken < count, "{taken} of {count} fitted");
    eprintln!("{taken} of {count} mails fitted on the disk, the mail server keeps {}", deferred.len());

    disk.grow(64 << 10);
    post::flush(&servers);
    until("all mails are taken in", Duration::from_secs(120), async || {
        (counted(&state) == (count, count) && post::queue(&servers).is_empty()).then_some(())
    })
    .await;
    until("all are delivered", Duration::from_secs(60), async || (files(&site).len() as u64 == count).then_some(()))
        .await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("could not be committed"), "{log}");
    audit_is_clean(&site);
}

#[tokio::test]
async fn nothing_said_before_tls_is_taken_for_what_is_said_over_it() {
    let servers = Servers::up(&["postfix"]);
    let folder = tempfile::tempdir().expect("a folder");
    let site = site(&servers, &folder.path().join("mail2crm.db"));
    let mut running = site.start(&["run"]);
    running.says("mail2crm is running", Duration::from_secs(20)).await;
    let say = async |text: &str| {
        let connected = until("the listener is there", Duration::from_secs(10), async || {
            TcpStream::connect(("127.0.0.1", servers.port("BRIDGE_SMTP_PORT"))).await.ok()
        });
        let mut stream = connected.await;
        stream.write_all(text.as_bytes()).await.expect("written");
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said).await;
        said
    };
    let said = say("EHLO a\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n").await;
    assert!(said.contains("250-STARTTLS\r\n") && said.contains("530 5.7.0"), "{said}");
    assert!(
        said.ends_with("220 2.0.0 go ahead\r\n"),
        "the connection ends, without an answer to what was behind: {said}"
    );
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
}

#[tokio::test]
async fn a_document_is_posted_over_tls() {
    let servers = Servers::up(&["postfix"]);
    let [certificate, key] = servers.certificate();
    let port = servers.port("BRIDGE_SMTP_PORT");
    let site = Site::new(&format!(
        "[source.posted]\nkind = 'http'\nlisten = '127.0.0.1:{port}'\ntoken = 'k3y'\ncertificate = '{}'\n\
         private_key = '{}'\ntrust = 'anyone'\n[destination.archive]\nstorage = 'archive'\npath = '{{{{key}}}}.json'\n",
        certificate.display(),
        key.display()
    ));
    let mut running = site.start(&["run"]);
    running.says("takes mails and documents by HTTP", Duration::from_secs(20)).await;
    let document = Made { ticket: 1, id: 90_000, voice: true, shape: 0, twice: false }.document(1).to_string();
    let post = |url: &str| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "--cacert"])
            .arg(servers.ca_file())
            .args(["-H", "Authorization: Bearer k3y"]);
        curl.args(["-H", "Content-Type: application/json", "--data-binary", &document, url]).output().expect("curl")
    };
    let answer = post(&format!("https://localhost:{port}/"));
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(said.contains("\"status\":\"taken\"") && said.contains("90000"), "{said}{answer:?}");
    assert!(!post(&format!("http://localhost:{port}/")).status.success(), "nothing is answered in clear");
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
}

/// `LIVE_BURST` sets how many; 10,000 take minutes where a disk is slow.
#[tokio::test]
async fn a_burst_of_mail_is_accounted_for_to_the_last() {
    let servers = Servers::up(&["postfix"]);
    post::clear(&servers);
    let count = std::env::var("LIVE_BURST").map_or(1_000, |text| text.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("mail2crm.db");
    let site = site(&servers, &state);
    let mut running = site.start(&["run"]);
    running.says("mail2crm is running", Duration::from_secs(20)).await;

    let begun = Instant::now();
    let limit = Duration::from_secs(60 + count / 10);
    post::send(&servers, mails(count, 100_000, 0), 8).await;
    let sent = begun.elapsed();
    until("all mails are taken in", limit, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (counted(&state).0 >= count).then_some(())
    })
    .await;
    let taken = begun.elapsed();
    until("all are delivered", limit, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (files(&site).len() as u64 >= count).then_some(())
    })
    .await;
    eprintln!(
        "{count} mails: in the mail server after {sent:.1?}, in the ledger after {taken:.1?}, delivered after {:.1?}",
        begun.elapsed()
    );
    until("the mail server has none left", Duration::from_secs(30), async || {
        post::queue(&servers).is_empty().then_some(())
    })
    .await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(counted(&state), (count, count), "each mail once, each as a session");
    assert_eq!(files(&site).len() as u64, count);
    audit_is_clean(&site);
}
