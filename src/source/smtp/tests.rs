//! Dialogues with the listener over a real socket, with an intake that the test plays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::{Content, Received};
use super::*;
use crate::source::Settled;

const HELLO: &str = "EHLO client.example\r\nMAIL FROM:<vendor@ccaip.example> SIZE=100 BODY=8BITMIME\r\n\
                     RCPT TO:<sessions+k3y@acme.example>\r\n";

/// A listener and what it handed over.
struct Bench {
    address: std::net::SocketAddr,
    /// Whether the ledger can't commit.
    broken: Arc<AtomicBool>,
    received: mpsc::UnboundedReceiver<Received>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), Fault>>,
}

async fn bench(more: &str) -> Bench {
    let settings: Settings =
        toml::from_str(&format!("recipients = ['sessions@acme.example', 'two@acme.example']\n{more}"))
            .expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (to_intake, mut handovers) = mpsc::channel(2);
    let (to, received) = mpsc::unbounded_channel();
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = broken.clone();
    tokio::spawn(async move {
        while let Some(super::super::Handover { batch, answer, .. }) = handovers.recv().await {
            let settle = |item: &Received| match () {
                () if is_broken.load(Ordering::Relaxed) => Settled::TryAgain("the disk is full".to_owned()),
                () if item.content.len() < 20 => Settled::Refused(crate::outcome::Reason::MalformedMetadata),
                () => Settled::Accepted,
            };
            let _ = answer.send(batch.items.iter().map(settle).collect());
            batch.items.into_iter().for_each(|item| to.send(item).expect("the test listens"));
        }
    });
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(settings, listener, Inlet::new("in", to_intake), stop.clone()));
    Bench { address, broken, received, stop, serving }
}

impl Bench {
    /// Sends all at once and reads until the listener hangs up; `QUIT` is added.
    async fn say(&self, text: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(&[text.as_ref(), b"QUIT\r\n"].concat()).await.expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("read");
        said
    }

    fn taken(&mut self) -> Received {
        self.received.try_recv().expect("a mail")
    }
}

fn codes(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.as_bytes().get(3) == Some(&b' ')).filter_map(|line| line.get(..3)).collect()
}

#[tokio::test]
async fn a_mail_is_taken_with_its_envelope_and_its_dots() {
    let mut bench = bench("").await;
    let said = bench.say(format!("{HELLO}DATA\r\nSubject: x\r\n\r\n..a\r\nlong enough\r\n.\r\n")).await;
    assert_eq!(codes(&said), ["220", "250", "250", "250", "354", "250", "221"], "{said}");
    for word in ["PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert!(!said.contains("STARTTLS"), "{said}");
    let mail = bench.taken();
    assert_eq!(mail.content, Content::Mail("Subject: x\r\n\r\n.a\r\nlong enough\r\n".into()));
    let peer = mail.envelope.peer.expect("a peer");
    assert!(peer.address.is_loopback());
    assert_eq!(peer.helo, "client.example");
    assert_eq!(mail.envelope.sender.as_deref(), Some("vendor@ccaip.example"));
    assert_eq!(mail.envelope.recipients, ["sessions+k3y@acme.example"]);
}

#[tokio::test]
async fn what_is_not_committed_is_not_acknowledged() {
    let mut bench = bench("").await;
    bench.broken.store(true, Ordering::Relaxed);
    let mail = format!("{HELLO}DATA\r\nSubject: x\r\n\r\nlong enough\r\n.\r\n");
    assert_eq!(codes(&bench.say(&mail).await)[5], "451");
    let first = bench.taken();
    bench.broken.store(false, Ordering::Relaxed);
    assert_eq!(codes(&bench.say(&mail).await)[5], "250");
    assert_eq!(bench.taken(), first, "the same mail comes under the same name");
    // Kept for a person is safe as well.
    assert_eq!(codes(&bench.say(format!("{HELLO}DATA\r\nA: b\r\n\r\n.\r\n")).await)[5], "250");
}

#[tokio::test]
async fn nothing_is_relayed_and_only_named_recipients_are_taken() {
    let mut bench = bench("").await;
    let said = bench
        .say(
            "HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nRCPT TO:<x@acme.example>\r\n\
             RCPT TO:<sessions%elsewhere.example@acme.example>\r\nRCPT TO:<>\r\nDATA\r\n",
        )
        .await;
    assert_eq!(codes(&said), ["220", "250", "250", "550", "550", "550", "501", "503", "221"], "{said}");
    assert!(bench.received.try_recv().is_err());
}

#[tokio::test]
async fn nothing_can_be_smuggled_behind_a_message() {
    let mut bench = bench("").await;
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"] {
        let inner = format!("{HELLO}DATA\r\nSubject: smuggled\r\n\r\n");
        let said = bench.say(format!("{HELLO}DATA\r\nSubject: x\r\n\r\nlong enough{end}{inner}\r\n.\r\n")).await;
        assert_eq!(codes(&said), ["220", "250", "250", "250", "354", "250", "221"], "{end:?}");
        let taken: Vec<_> = std::iter::from_fn(|| bench.received.try_recv().ok()).collect();
        let [Received { content: Content::Mail(raw), .. }] = &taken[..] else { panic!("{end:?}: {taken:?}") };
        assert!(raw.ends_with(b"Subject: smuggled\r\n\r\n\r\n"), "{end:?}: all of it is the one mail's content");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_by_its_size_and_while_it_comes() {
    let mut bench = bench("max_bytes = 5000").await;
    let said = bench.say("EHLO a\r\nMAIL FROM:<a@b> SIZE=5001\r\nMAIL FROM:<a@b> SIZE=x\r\nRCPT TO:<a@b>\r\n").await;
    assert_eq!(codes(&said), ["220", "250", "552", "501", "503", "221"], "{said}");
    let line = "x".repeat(100_000);
    let said = bench.say(format!("{HELLO}DATA\r\n{line}\r\n.\r\nRSET\r\n")).await;
    assert_eq!(codes(&said)[5..], ["552", "250", "221"], "{said}");
    let fits = "y".repeat(4998);
    assert_eq!(codes(&bench.say(format!("{HELLO}DATA\r\n{fits}\r\n.\r\n")).await)[5], "250");
    assert_eq!(bench.taken().content.len(), 5000);
    assert_eq!(codes(&bench.say(format!("{HELLO}DATA\r\n{fits}z\r\n.\r\n")).await)[5], "552");
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let mut bench = bench("protocol = 'lmtp'").await;
    let said = bench
        .say(
            "EHLO a\r\nLHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<sessions@acme.example>\r\nRCPT TO:<no@acme.example>\r\n\
             RCPT TO:<two@acme.example>\r\nDATA\r\nSubject: x\r\n\r\nlong enough\r\n.\r\n",
        )
        .await;
    assert_eq!(codes(&said), ["220", "500", "250", "250", "250", "550", "250", "354", "250", "250", "221"], "{said}");
    assert_eq!(bench.taken().envelope.recipients, ["sessions@acme.example", "two@acme.example"]);
    assert!(bench.received.try_recv().is_err(), "one mail for both");
}

#[tokio::test]
async fn mistakes_and_callers_have_limits() {
    let bench = bench("max_connections_per_peer = 2").await;
    let said = bench.say("NONSENSE\r\n".repeat(30)).await;
    assert!(said.ends_with("421 4.7.0 too many mistakes\r\n"), "{said}");
    assert_eq!(codes(&said).len(), 22);
    let said = bench.say("NOOP\n").await;
    assert!(said.contains("500 5.5.2"), "{said}");
    let said = bench.say([b"x".repeat(10_000), b"\r\n".to_vec(), vec![0xFF, b'\r', b'\n']].concat()).await;
    assert_eq!(codes(&said), ["220", "500", "500", "221"]);

    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(bench.address).await.expect("a connection");
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        assert_eq!(&greeting, b"220 ");
        open.push(stream);
    }
    let mut third = TcpStream::connect(bench.address).await.expect("a connection");
    let mut said = String::new();
    third.read_to_string(&mut said).await.expect("read");
    assert!(said.starts_with("421 4.7.0"), "{said}");
}

#[tokio::test]
async fn a_stop_says_goodbye_and_frees_the_port() {
    let bench = bench("").await;
    let mut idle = TcpStream::connect(bench.address).await.expect("a connection");
    let mut greeting = [0; 4];
    idle.read_exact(&mut greeting).await.expect("a greeting");
    bench.stop.cancel();
    let mut said = String::new();
    idle.read_to_string(&mut said).await.expect("read");
    assert!(said.contains("\r\n421 4.3.2"), "{said}");
    assert_eq!(bench.serving.await.expect("no panic"), Ok(()));
    TcpListener::bind(bench.address).await.expect("the port is free");
}
