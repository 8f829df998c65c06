//! The reader against a server that the test scripts: a small honest one, and the ways in which it may lie.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::source::Handover;

/// A mailbox: UIDs with their mails, and what is wrong with the server.
#[derive(Debug, Default)]
struct Mailbox {
    mails: Vec<(String, Vec<u8>)>,
    /// The size that LIST says of every mail.
    announced: Option<u64>,
    /// A mail whose download breaks the connection.
    breaks: Option<String>,
    /// A mail whose download is refused.
    refuses: Option<String>,
    /// A line without an end in place of the list of UIDs.
    endless: bool,
    /// What STLS is answered.
    stls: Option<&'static str>,
    /// What PASS is answered.
    login: Option<&'static str>,
    retrieved: Vec<String>,
    logins: u32,
}

type Shared = Arc<Mutex<Mailbox>>;

async fn serve(stream: TcpStream, shared: Shared) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"+OK ready\r\n").await.ok()?;
    let mut deleted: Vec<usize> = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let (verb, argument) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let index = || argument.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let reply: Vec<u8> = {
            let mut mailbox = shared.lock().expect("no panic while it is held");
            match verb {
                "USER" => {
                    mailbox.logins += 1;
                    b"+OK\r\n".to_vec()
                }
                "STLS" => mailbox.stls.unwrap_or("-ERR what?\r\n").into(),
                "PASS" => mailbox.login.map_or(b"+OK in\r\n".to_vec(), |line| line.into()),
                "UIDL" if mailbox.endless => [b"+OK\r\n".as_slice(), &vec![b'x'; 1 << 20]].concat(),
                "UIDL" | "LIST" => {
                    let mut text = String::from("+OK\r\n");
                    for (i, (uid, raw)) in mailbox.mails.iter().enumerate() {
                        let size = mailbox.announced.unwrap_or(raw.len() as u64).to_string();
                        text.push_str(&format!("{} {}\r\n", i + 1, if verb == "UIDL" { uid } else { &size }));
                    }
                    (text + ".\r\n").into()
                }
                "RETR" => {
                    let (uid, raw) = mailbox.mails.get(index()?)?.clone();
                    if mailbox.breaks.as_ref() == Some(&uid) {
                        return None;
                    }
                    if mailbox.refuses.as_ref() == Some(&uid) {
                        b"-ERR not now\r\n".to_vec()
                    } else {
                        mailbox.retrieved.push(uid);
                        let stuffed = String::from_utf8_lossy(&raw).replace("\r\n.", "\r\n..");
                        format!("+OK\r\n{stuffed}\r\n.\r\n").into()
                    }
                }
                "DELE" => {
                    deleted.push(index()?);
                    b"+OK\r\n".to_vec()
                }
                "QUIT" => {
                    deleted.sort_unstable();
                    for index in deleted.drain(..).rev() {
                        mailbox.mails.remove(index);
                    }
                    b"+OK\r\n".to_vec()
                }
                _ => b"-ERR what?\r\n".to_vec(),
            }
        };
        stream.write_all(&reply).await.ok()?;
    }
}

/// What was committed, and the positions.
#[derive(Default)]
struct Ledger {
    inputs: Vec<(String, usize)>,
    positions: BTreeMap<String, String>,
}

struct Bench {
    mailbox: Shared,
    port: u16,
    ledger: Ledger,
}

impl Bench {
    async fn new(mails: &[(&str, &str)]) -> Self {
        let mailbox = Shared::default();
        mailbox.lock().expect("free").mails =
            mails.iter().map(|(uid, raw)| ((*uid).to_owned(), raw.as_bytes().to_vec())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = mailbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { mailbox, port, ledger: Ledger::default() }
    }

    fn mailbox(&self) -> std::sync::MutexGuard<'_, Mailbox> {
        self.mailbox.lock().expect("no panic while it is held")
    }

    /// Runs the source until `batches` with items were answered, or it ends by itself.
    async fn run(&mut self, more: &str, batches: usize, answer: impl Fn(&Received) -> Settled) -> Result<(), Fault> {
        let tls = if more.contains("tls") { "" } else { "tls = 'none'\n" };
        let settings: Settings = toml::from_str(&format!(
            "host = '127.0.0.1'\nport = {}\n{tls}user = 'u'\npassword = 'p'\npoll_seconds = 1\ntimeout_seconds = 2\n{more}",
            self.port
        ))
        .expect("settings");
        let (to_intake, mut handovers) = mpsc::channel(2);
        let stop = CancellationToken::new();
        let positions = self.ledger.positions.clone();
        let mut running = tokio::spawn(settings.build(Timestamp::UNIX_EPOCH).run(
            Inlet::new("pop", to_intake),
            positions,
            stop.clone(),
        ));
        let mut left = batches;
        loop {
            let handover = tokio::select! {
                ended = &mut running => return ended.expect("no panic"),
                handover = handovers.recv() => handover,
            };
            let Some(Handover { batch, answer: to, .. }) = handover else { continue };
            let mut settled: Vec<Settled> = batch.items.iter().map(&answer).collect();
            left -= usize::from(!batch.items.is_empty());
            if !settled.iter().any(|s| matches!(s, Settled::TryAgain(_))) {
                self.ledger.inputs.extend(batch.items.iter().map(|item| (item.input.clone(), item.content.len())));
                self.ledger.positions.extend(batch.position.map(|p| (p.key, p.value)));
            }
            if settled.is_empty() {
                settled.push(Settled::Accepted);
            }
            let _ = to.send(settled);
            if left == 0 {
                // The look may come to its end, so that what is to be deleted is.
                tokio::time::timeout(Duration::from_millis(300), &mut running).await.ok();
                stop.cancel();
                return if running.is_finished() { Ok(()) } else { running.await.expect("no panic") };
            }
        }
    }

    fn inputs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ledger.inputs).into_iter().map(|(input, _)| input).collect()
    }
}

fn accept(_: &Received) -> Settled {
    Settled::Accepted
}

const ALL: &str = "start = 'all'";

#[tokio::test]
async fn what_was_read_is_not_read_again_and_nothing_is_deleted() {
    let mut bench = Bench::new(&[("a", "A: 1\r\n\r\n.dot\r\n"), ("b", "B: 1\r\n\r\nb")]).await;
    let answer = |item: &Received| {
        if item.input == "uid-a" {
            assert_eq!(item.content, Content::Mail("A: 1\r\n\r\n.dot\r\n\r\n".into()));
        }
        Settled::Accepted
    };
    bench.run(ALL, 1, answer).await.expect("stopped");
    assert_eq!(bench.inputs(), ["uid-a", "uid-b"]);
    bench.mailbox().mails.push(("c".into(), b"C: 1\r\n\r\n".to_vec()));
    bench.run(ALL, 1, accept).await.expect("stopped");
    assert_eq!(bench.inputs(), ["uid-c"]);
    assert_eq!(bench.mailbox().mails.len(), 3);
    assert_eq!(bench.mailbox().retrieved, ["a", "b", "c"]);
}

#[tokio::test]
async fn with_start_now_only_what_comes_later_is_read() {
    let mut bench = Bench::new(&[("a", "A: 1\r\n\r\n")]).await;
    let mailbox = bench.mailbox.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        mailbox.lock().expect("free").mails.push(("b".into(), b"B: 1\r\n\r\n".to_vec()));
    });
    bench.run("", 1, accept).await.expect("stopped");
    assert_eq!(bench.inputs(), ["uid-b"]);
    bench.mailbox().mails.push(("c".into(), b"C: 1\r\n\r\n".to_vec()));
    bench.run("", 1, accept).await.expect("stopped");
    assert_eq!(bench.inputs(), ["uid-c"]);
}

#[tokio::test]
async fn a_mail_is_deleted_only_when_it_is_safe_and_not_refused() {
    let mut bench = Bench::new(&[("a", "A: 1\r\n\r\n"), ("b", "B: 1\r\n\r\n"), ("c", &"x".repeat(500))]).await;
    let more = "start = 'all'\nafter = 'delete'\nmax_bytes = 100";
    bench.run(more, 1, |_| Settled::TryAgain("no".into())).await.expect("stopped");
    assert_eq!(bench.mailbox().mails.len(), 3);
    assert!(bench.inputs().is_empty());
    let answer = |item: &Received| match item.content {
        Content::TooLarge(500) => Settled::Refused(crate::outcome::Reason::TooLarge),
        _ if item.input == "uid-b" => Settled::Refused(crate::outcome::Reason::MalformedMetadata),
        _ => Settled::Accepted,
    };
    bench.run(more, 1, answer).await.expect("stopped");
    let left: Vec<String> = bench.mailbox().mails.iter().map(|(uid, _)| uid.clone()).collect();
    assert_eq!(left, ["b", "c"]);
    assert_eq!(bench.inputs(), ["uid-a", "uid-b", "uid-c"]);
}

#[tokio::test]
async fn a_mail_that_can_not_be_had_holds_up_no_other() {
    for breaks in [true, false] {
        let mut bench = Bench::new(&[("a", "A: 1\r\n\r\n"), ("b", "B: 1\r\n\r\n"), ("c", "C: 1\r\n\r\n")]).await;
        let uid = Some("a".to_owned());
        match breaks {
            true => bench.mailbox().breaks = uid,
            false => bench.mailbox().refuses = uid,
        }
        bench.run(ALL, 1, accept).await.expect("stopped");
        assert_eq!(bench.inputs(), ["uid-b", "uid-c"]);
        bench.mailbox().breaks = None;
        bench.mailbox().refuses = None;
        bench.run(ALL, 1, accept).await.expect("stopped");
        assert_eq!(bench.inputs(), ["uid-a"]);
    }
}

#[tokio::test]
async fn sizes_and_uids_that_lie_lose_nothing() {
    let mails = [("a", "A: 1\r\n\r\n"), ("a", "B: 2\r\n\r\n"), ("", "C: 3\r\n\r\n"), ("ü", &"x".repeat(5000))];
    let mut bench = Bench::new(&mails).await;
    bench.mailbox().announced = Some(1);
    let more = "start = 'all'\nmax_bytes = 1000";
    bench.run(more, 1, accept).await.expect("stopped");
    let inputs = std::mem::take(&mut bench.ledger.inputs);
    assert_eq!(inputs.len(), 4);
    assert_eq!((inputs[0].0.as_str(), inputs[1].0.as_str()), ("uid-a", "uid-a#2"));
    assert_eq!(inputs[3].1, 0, "too large, whatever was announced");
    bench.mailbox().mails.remove(0);
    bench.mailbox().mails.push(("d".into(), b"D: 1\r\n\r\n".to_vec()));
    bench.run(more, 1, accept).await.expect("stopped");
    assert_eq!(bench.inputs(), ["uid-d"]);
}

#[tokio::test]
async fn nothing_goes_in_clear_where_tls_is_wanted() {
    let mut bench = Bench::new(&[]).await;
    for (stls, words) in [
        (None, "nothing was sent in clear"),
        (Some("+OK go\r\n+OK in already\r\n"), "more than it was asked for"),
        (Some("+OK go\r\n"), "handshake"),
    ] {
        bench.mailbox().stls = stls;
        let fault = bench.run("start = 'all'\ntls = 'starttls'", 1, accept).await.expect_err("a fault");
        assert!(fault.reason != crate::outcome::Reason::Unauthorized && fault.detail.contains(words), "{fault}");
        assert!(bench.mailbox().logins == 0, "{words}");
    }
}

#[tokio::test]
async fn faults_name_their_step_and_cause() {
    let mut bench = Bench::new(&[]).await;
    for (login, reason) in [
        ("-ERR [AUTH] no u@x\r\n", crate::outcome::Reason::Unauthorized),
        ("-ERR [IN-USE] locked\r\n", crate::outcome::Reason::Unavailable),
        ("hello\r\n", crate::outcome::Reason::UnexpectedReply),
    ] {
        bench.mailbox().login = Some(login);
        let fault = bench.run(ALL, 1, accept).await.expect_err("a fault");
        assert_eq!((fault.step, fault.reason), ("login", reason), "{fault}");
        assert!(!fault.detail.contains("u@x"), "{fault}");
    }
    bench.mailbox().login = None;
    bench.mailbox().endless = true;
    let fault = bench.run(ALL, 1, accept).await.expect_err("a fault");
    assert_eq!(fault.step, "uidl", "{fault}");
}
