//! Several mailboxes of one account at a real Dovecot: each mail exactly once, over a restart, with the server's
//! CONDSTORE, LIST-STATUS and NOTIFY in use.

use std::collections::BTreeSet;
use std::time::Duration;

use super::mails::Made;
use super::support::mailbox::Mailbox;
use super::support::program::Site;
use super::support::relay::Relay;
use super::support::servers::Servers;
use super::support::until;

const LIMIT: Duration = Duration::from_secs(30);

fn mail(id: u64) -> Vec<u8> {
    Made { ticket: id, id, voice: true, shape: 0, twice: false }.mail(1, 1)
}

struct Bench {
    mailbox: Mailbox,
    relay: Relay,
    site: Site,
}

impl Bench {
    async fn new(mailboxes: &str, folders: &[&str], more: &str) -> Self {
        let servers = Servers::up(&["dovecot"]);
        let mut mailbox = Mailbox::open(&servers, "INBOX").await;
        mailbox.clear("INBOX").await;
        for folder in folders {
            mailbox.renew(folder).await;
        }
        let relay = Relay::to(servers.port("IMAP_PORT"), "").await;
        let site = Site::new(&format!(
            r#"
[source.inbox]
kind = "imap"
host = "127.0.0.1"
port = {}
tls = "none"
user = "{}"
password = {{ env = "LIVE_TEST_PASSWORD" }}
mailboxes = {mailboxes}
start = "all"
trust = "anyone"
{more}

[destination.files]
storage = "out"
path = "{{{{key}}}}.json"
"#,
            relay.port,
            servers.get("MAIL_INBOX"),
        ));
        site.set("LIVE_TEST_PASSWORD", servers.get("PASSWORD"));
        Self { mailbox, relay, site }
    }

    /// Waits until so many mails of a folder are flagged: then they are safe, and nothing more is due for them.
    async fn flagged(&mut self, folder: &str, count: usize) {
        until(&format!("{count} mails of {folder} are taken"), LIMIT, async || {
            let mails = self.mailbox.mails(folder).await;
            let flagged = mails.iter().filter(|mail| mail.flags.iter().any(|flag| flag == "\\Flagged")).count();
            assert!(flagged <= count, "{flagged} of {count} in {folder}");
            (flagged == count).then_some(())
        })
        .await;
    }

    /// How many mails each download asked for.
    fn downloads(&self) -> Vec<u32> {
        let number = |text: &str| text.parse::<u32>().expect("a UID");
        let range = |one: &str| one.split_once(':').map_or(1, |(a, b)| number(b) - number(a) + 1);
        let fetches = self.relay.commands("UID FETCH").into_iter().filter(|one| one.contains("BODY.PEEK"));
        fetches.map(|one| one.split(' ').nth(2).expect("a set").split(',').map(range).sum()).collect()
    }

    fn listings(&self) -> usize {
        self.relay.commands("UID FETCH").iter().filter(|one| one.contains("RFC822.SIZE")).count()
    }

    /// Waits for so many more looks at the mailboxes that are not open.
    async fn looks(&self, word: &str, more: usize) {
        let before = self.relay.commands(word).len();
        until("the next looks", LIMIT, async || (self.relay.commands(word).len() >= before + more).then_some(())).await;
    }

    fn taken(&self) -> (usize, BTreeSet<String>) {
        let out = self.site.run(&["--json", "messages", "list", "--limit", "1000"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let files = std::fs::read_dir(self.site.path().join("out")).expect("the destination");
        let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
        (String::from_utf8_lossy(&out.stdout).lines().count(), names)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_in_two_mailboxes_comes_exactly_once_over_a_restart() {
    let mut bench = Bench::new(r#"["INBOX", "Süd & Nord"]"#, &["S&APw-d &- Nord"], "poll_seconds = 1").await;
    let other = "S&APw-d &- Nord";
    bench.mailbox.append("INBOX", (1..=3).map(|n| mail(81_000 + n))).await;
    bench.mailbox.append(other, (4..=5).map(|n| mail(81_000 + n))).await;
    let running = bench.site.start(&["-v", "run"]);
    bench.flagged("INBOX", 3).await;
    bench.flagged(other, 2).await;
    bench.mailbox.append(other, [mail(81_006)]).await;
    bench.flagged(other, 3).await;
    running.kill();
    // While it is down, in both.
    bench.mailbox.append("INBOX", [mail(81_007)]).await;
    bench.mailbox.append(other, [mail(81_008)]).await;
    let running = bench.site.start(&["-v", "run"]);
    bench.flagged("INBOX", 4).await;
    bench.flagged(other, 4).await;
    let (status, log) = running.terminate(LIMIT).await;
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(bench.downloads(), [3, 2, 1, 1, 1], "no mail is downloaded twice");
    let (messages, files) = bench.taken();
    assert_eq!((messages, files.len()), (8, 8), "{files:?}");
    let audit = |expected: &str| {
        let out = bench.site.run(&["audit", "--source", "inbox"]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(said.contains(expected), "{said}");
        out.status.code()
    };
    assert_eq!(audit("source inbox: 8 known"), Some(0));
    bench.mailbox.append(other, [mail(81_009)]).await;
    assert_eq!(audit("not read yet"), Some(1));
    let said = bench.site.run(&["check", "--online"]);
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("`INBOX` holds 4 messages; `Süd & Nord` holds 4 messages"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_in_which_nothing_came_is_not_listed_because_its_modseq_stayed() {
    let mut bench = Bench::new(r#"["INBOX", "Quiet"]"#, &["Quiet"], "poll_seconds = 1").await;
    bench.mailbox.append("Quiet", [mail(82_001)]).await;
    let running = bench.site.start(&["-v", "run"]);
    bench.flagged("Quiet", 1).await;
    // Our own flag has changed the modseq: one more listing finds that out.
    bench.looks("STATUS", 3).await;
    let asked = bench.relay.commands("STATUS");
    assert!(asked.iter().all(|one| one.contains("HIGHESTMODSEQ")), "{asked:?}");
    let (listings, opened) = (bench.listings(), bench.relay.commands("SELECT").len());
    // More looks than numbers without a modseq are believed.
    bench.looks("STATUS", 8).await;
    assert_eq!((bench.listings(), bench.relay.commands("SELECT \"Quiet\"").len()), (listings, 2));
    // The first one is opened anew all the same, every fifth time.
    assert!(bench.relay.commands("SELECT").len() > opened);
    let (status, log) = running.terminate(LIMIT).await;
    assert!(status.success(), "{status}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_new_mailboxes_and_notify_tells_of_mail_at_once() {
    let folders = ["Team", "Team/A", "Team/B", "Team/C"];
    let mut bench = Bench::new(r#"["INBOX", "Team/*"]"#, &folders, "poll_seconds = 3600\nafter = \"flag\"").await;
    bench.mailbox.delete("Team/C").await;
    let mut running = bench.site.start(&["-v", "run"]);
    running.says("`Team/B`", LIMIT).await;
    until("it waits", LIMIT, async || (!bench.relay.commands("IDLE").is_empty()).then_some(())).await;
    bench.mailbox.append("Team/B", [mail(83_001)]).await;
    bench.flagged("Team/B", 1).await;
    let lists = bench.relay.commands("LIST");
    assert!(lists.iter().all(|one| one.contains("RETURN (STATUS (") && one.contains("HIGHESTMODSEQ")), "{lists:?}");
    assert_eq!(bench.relay.commands("NOTIFY").len(), 1);
    // A mailbox that is made now is found when the server tells of anything, or at the next look.
    bench.mailbox.create("Team/C").await;
    bench.mailbox.append("Team/C", [mail(83_002)]).await;
    bench.mailbox.append("Team/A", [mail(83_003)]).await;
    bench.flagged("Team/A", 1).await;
    bench.flagged("Team/C", 1).await;
    let (status, log) = running.terminate(LIMIT).await;
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(bench.taken().0, 3);
}
