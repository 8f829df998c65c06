//! The main job on real servers: session mails in a Dovecot mailbox become updated tickets in Request Tracker,
//! exactly once, in order, also when the program is killed again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mails::{Made, SHAPES};
use super::support::mailbox::Mailbox;
use super::support::program::Site;
use super::support::servers::Servers;
use super::support::tickets::Tickets;
use super::support::until;

/// The account that the tests of this file read, apart from those of others.
const ACCOUNT: &str = "AGENT";

struct Bench {
    servers: Servers,
    mailbox: Mailbox,
    tickets: Tickets,
    site: Site,
    made: Vec<Made>,
}

impl Bench {
    /// Servers, an empty mailbox, a ticket for each session, and a configuration between them.
    async fn new(sessions: usize, first_id: u64) -> Self {
        let servers = Servers::up(&["dovecot", "rt"]);
        let mut mailbox = Mailbox::open(&servers, ACCOUNT).await;
        mailbox.clear("INBOX").await;
        let tickets = Tickets::new(&servers);
        let mut made = Vec::new();
        for i in 0..sessions {
            let ticket = tickets.create(&format!("Session {i}")).await;
            made.push(Made { ticket, id: first_id + i as u64, voice: i % 3 != 0, shape: i % SHAPES, twice: i % 5 < 3 });
        }
        let configuration = format!(
            r#"
[source.inbox]
kind = "imap"
host = "127.0.0.1"
port = {port}
tls = "starttls"
ca_file = "{ca}"
user = "{user}"
password = {{ env = "LIVE_TEST_PASSWORD" }}
start = "all"
after = "nothing"
trust = "anyone"

[destination.tickets]
connector = "rt"
base_url = "{rt}"
token = "{token}"

[destination.tickets.fields]
session_id = "SessionId"
channel = "Channel"
disposition_code = "Disposition"
handle_minutes = "HandleMinutes"
rating = "Rating"
"#,
            port = servers.port("IMAP_PORT"),
            user = servers.get("MAIL_AGENT"),
            ca = servers.ca_file().display(),
            rt = servers.get("RT_URL"),
            token = servers.get("RT_TOKEN"),
        );
        let site = Site::new(&configuration);
        site.set("LIVE_TEST_PASSWORD", servers.get("PASSWORD"));
        Self { servers, mailbox, tickets, site, made }
    }

    /// How many deliveries are in a state, from the ledger.
    fn count(&self, state: &str) -> usize {
        self.list(state).len()
    }

    fn list(&self, state: &str) -> Vec<serde_json::Value> {
        let out = self.site.run(&["--json", "deliveries", "list", "--limit", "10000", "--state", state]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
    }

    fn messages(&self) -> usize {
        let out = self.site.run(&["--json", "messages", "list", "--limit", "10000"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).lines().count()
    }

    /// Waits until so many messages are in the ledger and nothing is on its way.
    async fn settled(&self, messages: usize) {
        let limit = Duration::from_secs(400);
        until("all mails are taken in and delivered", limit, async || {
            tokio::time::sleep(Duration::from_millis(250)).await;
            (self.messages() >= messages && self.count("waiting") == 0 && self.count("sending") == 0).then_some(())
        })
        .await;
    }

    fn audit_is_clean(&self) {
        let audit = self.site.run(&["audit"]);
        assert!(
            audit.status.success(),
            "{}{}",
            String::from_utf8_lossy(&audit.stdout),
            String::from_utf8_lossy(&audit.stderr)
        );
    }

    /// What every ticket must say, whatever happened on the way; gives the number of comments of each.
    async fn tickets_are_right(&self, both_versions: bool) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for session in &self.made {
            let ticket = self.tickets.ticket(session.ticket).await;
            let mut expected = BTreeMap::from([
                ("SessionId".to_owned(), session.id.to_string()),
                ("Channel".to_owned(), if session.voice { "voice" } else { "chat" }.to_owned()),
                ("HandleMinutes".to_owned(), session.minutes().to_string()),
            ]);
            if session.twice {
                expected.insert("Disposition".to_owned(), session.code());
                expected.insert("Rating".to_owned(), (1 + session.id % 4).to_string());
            }
            assert_eq!(ticket.fields, expected, "ticket {} of {session:?}", session.ticket);

            let comments = self.tickets.comments(session.ticket).await;
            let most = if session.twice { 2 } else { 1 };
            let least = if both_versions { most } else { 1 };
            assert!(
                (least..=most).contains(&comments.len()),
                "ticket {} of {session:?} has {} comments",
                session.ticket,
                comments.len()
            );
            let mut subjects: Vec<&str> = comments.iter().map(|c| c.subject.as_str()).collect();
            subjects.sort_unstable();
            subjects.dedup();
            assert_eq!(subjects.len(), comments.len(), "ticket {}: a comment is there twice", session.ticket);
            for comment in &comments {
                assert_eq!(comment.files.len(), 1, "ticket {}: one attachment per version", session.ticket);
            }
            let last = comments.last().expect("a comment");
            let attached: serde_json::Value =
                serde_json::from_slice(&last.files[0].content).expect("the metadata is JSON");
            assert_eq!(attached["out_ticket_id"], session.ticket.to_string());
            if session.twice {
                assert!(
                    last.text.contains(&session.note()),
                    "ticket {}: the note is not in\n{}",
                    session.ticket,
                    last.text
                );
                assert_eq!(attached["dispositions"][0]["code"], session.code());
            }
            counts.insert(session.ticket, comments.len());
        }
        counts
    }

    async fn histories(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        for session in &self.made {
            lengths.push(self.tickets.history(session.ticket).await.len());
        }
        lengths
    }
}

#[tokio::test]
async fn two_hundred_session_mails_become_exactly_the_right_tickets() {
    let mut bench = Bench::new(100, 50_000).await;
    let first: Vec<Vec<u8>> = bench
        .made
        .iter()
        .flat_map(|m| {
            let again = (m.id % 5 == 0).then(|| m.mail(1, 2));
            [Some(m.mail(1, 1)), again].into_iter().flatten()
        })
        .collect();
    let second: Vec<Vec<u8>> = bench
        .made
        .iter()
        .filter(|m| m.twice)
        .flat_map(|m| {
            // An old copy after the new version, and a second copy of the new one.
            let late = (m.id % 4 == 0).then(|| m.mail(1, 3));
            let again = (m.id % 6 == 0).then(|| m.mail(2, 2));
            [Some(m.mail(2, 1)), late, again].into_iter().flatten()
        })
        .collect();
    let all = first.len() + second.len();
    assert!(all >= 200, "{all} mails");

    let count = first.len();
    bench.mailbox.append("INBOX", first).await;
    let running = bench.site.start(&["-v", "run"]);
    bench.settled(count).await;
    bench.mailbox.append("INBOX", second).await;
    bench.settled(all).await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");

    bench.tickets_are_right(true).await;
    bench.audit_is_clean();
    assert_eq!((bench.count("dead"), bench.count("parked")), (0, 0));

    // A second run changes nothing: neither the tickets nor the ledger.
    let before = (bench.histories().await, bench.messages(), bench.count("delivered"));
    let running = bench.site.start(&["-v", "run"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    assert_eq!((bench.histories().await, bench.messages(), bench.count("delivered")), before);
    // Nor does losing the cursor: what the mailbox holds is known by its content.
    bench.audit_is_clean();
    assert_eq!(bench.mailbox.count("INBOX").await as usize, all, "`after = nothing` leaves every mail");
    drop(bench.servers);
}

#[tokio::test]
async fn twenty_kills_at_random_moments_end_in_the_same_state() {
    let mut bench = Bench::new(60, 60_000).await;
    let mails: Vec<Vec<u8>> = bench
        .made
        .iter()
        .map(|m| m.mail(1, 1))
        .chain(bench.made.iter().filter(|m| m.twice).map(|m| m.mail(2, 1)))
        .chain(bench.made.iter().filter(|m| m.id % 3 == 0).map(|m| m.mail(1, 2)))
        .collect();
    let all = mails.len();
    bench.mailbox.append("INBOX", mails).await;
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    for kill in 1..=20 {
        let running = bench.site.start(&["run"]);
        tokio::time::sleep(Duration::from_millis(random.u64(60..900))).await;
        running.kill();
        eprintln!("kill {kill} of 20 (seed {seed})");
    }
    let running = bench.site.start(&["run"]);
    bench.settled(all).await;
    let (status, log) = running.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
    let counts = bench.tickets_are_right(false).await;
    bench.audit_is_clean();
    // A version whose sending was cut off and that a newer one replaced may have left its comment, or not.
    let delivered = bench.count("delivered");
    let cut_off = bench.list("superseded").iter().filter(|d| d["attempts"].as_u64() > Some(0)).count();
    let comments = counts.values().sum::<usize>();
    assert!(
        (delivered..=delivered + cut_off).contains(&comments),
        "{comments} comments of {delivered} delivered and {cut_off} cut off versions"
    );
}
