//! The ledger's disk fails under the running service: it is full, takes no writes, refuses to flush, or is slow. Every
//! kind of source is there at once. Nothing is acknowledged that is not durable, every source is told or finds that it
//! has to try again, `/healthz` and the log say it, and all of it goes on by itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::mails::Made;
use super::support::bad_disk::{Bad, BadDisk};
use super::support::disk::SmallDisk;
use super::support::mailbox::Mailbox;
use super::support::program::{Running, Site};
use super::support::servers::Servers;
use super::support::until;

/// Sources that deliver a mail of their own in each round.
const SOURCES: usize = 8;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A site with a source of every kind.
struct World {
    servers: Servers,
    site: Site,
    ports: [u16; 4],
}

impl World {
    fn new(servers: Servers, state: &Path) -> Self {
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let [http, smtp, lmtp, console] = ports;
        let site = Site::new(&format!(
            r#"
state = "{state}"

[console]
listen = "127.0.0.1:{console}"

[pipe]
trust = "anyone"

[source.http]
kind = "http"
listen = "127.0.0.1:{http}"
token = "k3y"
trust = "anyone"

[source.smtp]
kind = "smtp"
listen = "127.0.0.1:{smtp}"
recipients = ["@bridge.test"]
trust = "anyone"

[source.lmtp]
kind = "smtp"
protocol = "lmtp"
listen = "127.0.0.1:{lmtp}"
recipients = ["@bridge.test"]
trust = "anyone"

[source.maildir]
kind = "maildir"
path = "box"
start = "all"
after = "delete"
poll_seconds = 1
trust = "anyone"

[source.folder]
kind = "directory"
path = "drop"
after = "delete"
poll_seconds = 1
trust = "anyone"

[source.mbox]
kind = "mbox"
path = "spool"
start = "all"
poll_seconds = 1
trust = "anyone"

[source.imap]
kind = "imap"
host = "localhost"
port = {imap}
tls = "starttls"
ca_file = "{ca}"
user = "{inbox}"
password = {{ env = "LIVE_TEST_PASSWORD" }}
mailbox = "Disk"
start = "all"
after = "delete"
poll_seconds = 1
trust = "anyone"

[source.pop3]
kind = "pop3"
host = "localhost"
port = {pop3}
tls = "starttls"
ca_file = "{ca}"
user = "{agent}"
password = {{ env = "LIVE_TEST_PASSWORD" }}
start = "all"
after = "delete"
poll_seconds = 1
trust = "anyone"

[destination.archive]
storage = "archive"
path = "{{{{key}}}}.json"
"#,
            state = state.display(),
            imap = servers.port("IMAP_PORT"),
            pop3 = servers.port("POP3_PORT"),
            ca = servers.ca_file().display(),
            inbox = servers.get("MAIL_INBOX"),
            agent = servers.get("MAIL_AGENT"),
        ));
        site.set("LIVE_TEST_PASSWORD", servers.get("PASSWORD"));
        for folder in ["box/new", "box/cur", "box/tmp", "drop"] {
            fs::create_dir_all(site.path().join(folder)).expect("made");
        }
        Self { servers, site, ports }
    }

    async fn mailboxes(&self) -> [Mailbox; 2] {
        let mut boxes = [Mailbox::open(&self.servers, "INBOX").await, Mailbox::open(&self.servers, "AGENT").await];
        boxes[0].renew("Disk").await;
        boxes[1].clear("INBOX").await;
        boxes
    }

    async fn started(&self) -> Running {
        let mut running = self.site.start(&["run"]);
        running.says("the console answers", Duration::from_secs(20)).await;
        running
    }

    /// Sends all at once and reads until the other side hangs up.
    fn exchange(port: u16, text: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("an option");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut said = String::new();
        let _reset = stream.read_to_string(&mut said);
        said
    }

    /// What the three listeners say to a mail of this round: whether they took it.
    fn call(&self, round: u64) -> [bool; 3] {
        let [http, smtp, lmtp, _] = self.ports;
        let body = String::from_utf8(raw(round, 0)).expect("a mail");
        let said = Self::exchange(
            http,
            &format!(
                "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k3y\r\nContent-Type: message/rfc822\r\n\
                 Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(said.starts_with("HTTP/1.1 202 ") || said.starts_with("HTTP/1.1 503 "), "{said}");
        let mut took = [said.starts_with("HTTP/1.1 202 "), false, false];
        for (at, (port, hello)) in [(smtp, "EHLO"), (lmtp, "LHLO")].into_iter().enumerate() {
            let text = String::from_utf8(raw(round, 1 + at as u64))
                .expect("a mail")
                .replace("\r\n", "\n")
                .replace('\n', "\r\n");
            let said = Self::exchange(
                port,
                &format!(
                    "{hello} x.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<s@bridge.test>\r\nDATA\r\n{text}\r\n.\r\nQUIT\r\n"
                ),
            );
            took[at + 1] = said.contains("safely taken");
            assert!(took[at + 1] || said.contains("\r\n451 4.3.0 ") || said.contains("\r\n421 "), "{said}");
        }
        took
    }

    /// Puts a mail of this round where each of the other five sources finds it.
    async fn put(&self, round: u64, boxes: &mut [Mailbox; 2]) {
        let at = |name: String| -> PathBuf { self.site.path().join(name) };
        fs::write(at(format!("box/tmp/{round}.x")), raw(round, 3)).expect("a mail");
        fs::rename(at(format!("box/tmp/{round}.x")), at(format!("box/new/{round}.x"))).expect("moved");
        fs::write(at(format!("drop/{round}.eml")), raw(round, 4)).expect("a mail");
        let mut spool = fs::read(at("spool".to_owned())).unwrap_or_default();
        spool.extend_from_slice(b"From a@b Tue Feb 17 10:11:31 2026\n");
        spool.extend_from_slice(&raw(round, 5));
        spool.extend_from_slice(b"\n\n");
        fs::write(at("spool".to_owned()), spool).expect("a spool");
        boxes[0].append("Disk", [raw(round, 6)]).await;
        boxes[1].append("INBOX", [raw(round, 7)]).await;
    }

    /// What maildir, folder, IMAP and POP3 still hold.
    async fn held(&self, boxes: &mut [Mailbox; 2]) -> [usize; 4] {
        let files = |name: &str| fs::read_dir(self.site.path().join(name)).expect("a folder").count();
        let held = [boxes[0].count("Disk").await as usize, boxes[1].count("INBOX").await as usize];
        [files("box/new") + files("box/cur"), files("drop"), held[0], held[1]]
    }

    fn healthz(&self) -> (u16, String) {
        let said = Self::exchange(self.ports[3], "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let status = said.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, said)
    }

    async fn is(&self, status: u16, part: &str) {
        until(&format!("/healthz answers {status} with `{part}`"), Duration::from_secs(60), async || {
            let (now, said) = self.healthz();
            (now == status && said.contains(part)).then_some(())
        })
        .await;
    }

    /// Messages in which a session was found.
    fn recorded(&self) -> usize {
        let out = self.site.run(&["--json", "messages", "list", "--limit", "1000", "--state", "processed"]);
        String::from_utf8_lossy(&out.stdout).lines().count()
    }

    async fn takes(&self, count: usize) {
        until(&format!("{count} messages are recorded"), Duration::from_secs(180), async || {
            (self.recorded() == count).then_some(())
        })
        .await;
    }

    fn audit_is_clean(&self) {
        for more in [&["audit", "--contents"][..], &["audit", "--source"]] {
            let audit = self.site.run(more);
            let said = [audit.stdout, audit.stderr].concat();
            assert!(audit.status.success(), "{more:?}: {}", String::from_utf8_lossy(&said));
        }
    }

    /// The pipe of an MTA.
    fn pipes(&self, mail: &[u8]) -> Option<i32> {
        let mut command = self.site.command(&["process", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let _closed = child.stdin.take().expect("a pipe").write_all(mail);
        child.wait().expect("an end").code()
    }

    /// The story: well, bad, well again.
    async fn story(&self, goes_bad: impl FnOnce(), gets_well: impl FnOnce()) {
        let mut boxes = self.mailboxes().await;
        let running = self.started().await;
        self.put(1, &mut boxes).await;
        assert_eq!(self.call(1), [true; 3]);
        self.takes(SOURCES).await;
        until("what was taken is gone from its sources", Duration::from_secs(60), async || {
            (self.held(&mut boxes).await == [0; 4]).then_some(())
        })
        .await;
        self.is(200, "\"writable\":true").await;

        goes_bad();
        self.is(503, "no source is told that anything is safe").await;
        self.put(2, &mut boxes).await;
        assert_eq!(self.call(2), [false; 3], "nothing is acknowledged");
        assert_eq!(self.pipes(&raw(2, 8)), Some(75));
        // Each of them has tried by now.
        running_says(&running, "could not be committed", 4).await;
        assert_eq!(self.held(&mut boxes).await, [1; 4], "nothing is moved on");
        assert_eq!(self.recorded(), SOURCES);

        gets_well();
        self.is(200, "\"writable\":true").await;
        assert_eq!(self.call(2), [true; 3]);
        assert_eq!(self.pipes(&raw(2, 8)), Some(0));
        self.takes(2 * SOURCES + 1).await;
        until("what was taken is gone from its sources", Duration::from_secs(90), async || {
            (self.held(&mut boxes).await == [0; 4]).then_some(())
        })
        .await;
        let archived = || fs::read_dir(self.site.path().join("archive")).expect("the archive").count();
        until("all are delivered", Duration::from_secs(60), async || (archived() == 2 * SOURCES + 1).then_some(()))
            .await;
        let (status, log) = running.terminate(Duration::from_secs(30)).await;
        assert!(status.success(), "{status}\n{log}");
        self.audit_is_clean();
    }
}

/// Waits until the log has this so often.
async fn running_says(running: &Running, text: &str, times: usize) {
    until(&format!("the log says `{text}` {times} times"), Duration::from_secs(60), async || {
        (running.stderr().matches(text).count() >= times).then_some(())
    })
    .await;
}

/// The mail of one source in one round: a session of its own.
fn raw(round: u64, source: u64) -> Vec<u8> {
    Made { ticket: 1, id: 95_000 + round * 100 + source, voice: true, shape: 0, twice: false }.mail(1, 1)
}

#[tokio::test]
async fn while_the_disk_refuses_to_flush_nothing_is_acknowledged_and_then_all_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(Servers::up(&["dovecot"]), &folder.path().join("mail2crm.db"));
    let disk = BadDisk::under(&world.site);
    world.story(|| disk.goes(Bad::Flush), || disk.gets_well()).await;
}

#[tokio::test]
async fn while_the_disk_takes_no_writes_nothing_is_acknowledged_and_then_all_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(Servers::up(&["dovecot"]), &folder.path().join("mail2crm.db"));
    let disk = BadDisk::under(&world.site);
    world.story(|| disk.goes(Bad::ReadOnly), || disk.gets_well()).await;
}

#[tokio::test]
async fn while_the_disk_is_full_nothing_is_acknowledged_and_then_all_goes_on() {
    let disk = SmallDisk::new(8 << 10);
    let world = World::new(Servers::up(&["dovecot"]), &disk.path().join("mail2crm.db"));
    let ballast = disk.path().join("ballast");
    let fill = || {
        let mut file = fs::File::create(&ballast).expect("a file");
        // To the last byte.
        for size in [1 << 16, 1 << 12, 1 << 8, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    };
    world.story(fill, || fs::remove_file(&ballast).expect("removed")).await;
}

#[tokio::test]
async fn a_slow_disk_slows_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(Servers::up(&["dovecot"]), &folder.path().join("mail2crm.db"));
    let disk = BadDisk::under(&world.site);
    let mut boxes = world.mailboxes().await;
    let running = world.started().await;
    disk.goes(Bad::Slow);
    world.put(1, &mut boxes).await;
    assert_eq!(world.call(1), [true; 3]);
    world.takes(SOURCES).await;
    world.is(200, "\"writable\":true").await;
    disk.gets_well();
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    world.audit_is_clean();
}

#[tokio::test]
async fn a_ledger_that_is_moved_away_takes_nothing_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("mail2crm.db");
    let world = World::new(Servers::up(&["dovecot"]), &state);
    let away = folder.path().join("away.db");
    let _boxes = world.mailboxes().await;
    let running = world.started().await;
    assert_eq!(world.call(1), [true; 3]);
    fs::rename(&state, &away).expect("moved");
    assert_eq!(world.call(2), [false; 3], "what is written there would be lost");
    world.is(503, "moved or removed").await;
    fs::rename(&away, &state).expect("moved back");
    world.is(200, "\"writable\":true").await;
    assert_eq!(world.call(2), [true; 3]);
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    world.audit_is_clean();
}

#[tokio::test]
async fn a_start_on_a_disk_that_takes_no_writes_says_so_and_a_pipe_is_told_to_try_again() {
    let disk = SmallDisk::new(8 << 10);
    let world = World::new(Servers::up(&["dovecot"]), &disk.path().join("ledger/mail2crm.db"));
    let remount = |how: &str| {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(disk.path()).status();
        assert!(done.expect("mount can be run").success());
    };
    remount("ro");
    let out = world.site.run(&["run"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("Read-only") && said.contains("`state`"), "{said}");
    assert_eq!(world.pipes(&raw(1, 8)), Some(75));
    remount("rw");
    assert_eq!(world.pipes(&raw(1, 8)), Some(0));
    // The ledger is there, its key and its lock can't be made.
    fs::remove_file(disk.path().join("ledger/mail2crm.db.key")).expect("removed");
    remount("ro");
    assert_eq!(world.pipes(&raw(1, 9)), Some(75));
    let out = world.site.run(&["run"]);
    assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    remount("rw");
    assert_eq!(world.pipes(&raw(1, 9)), Some(0));
    world.audit_is_clean();
}
