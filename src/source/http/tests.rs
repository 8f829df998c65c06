//! Requests over a real socket, with an intake that the test plays.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::source::Handover;

struct Bench {
    address: std::net::SocketAddr,
    broken: Arc<AtomicBool>,
    received: mpsc::UnboundedReceiver<Received>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), Fault>>,
}

async fn bench(more: &str) -> Bench {
    let settings: Settings = toml::from_str(&format!("token = 'k3y'\n{more}")).expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (to_intake, mut handovers) = mpsc::channel(2);
    let (to, received) = mpsc::unbounded_channel();
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = broken.clone();
    tokio::spawn(async move {
        while let Some(Handover { batch, answer, found, .. }) = handovers.recv().await {
            let count = batch.items.len();
            let settled = if is_broken.load(Ordering::Relaxed) {
                Settled::TryAgain("/secret/path is full".to_owned())
            } else if batch.items.iter().any(|item| item.content.len() < 5) {
                Settled::Refused(Reason::MalformedMetadata)
            } else {
                Settled::Accepted
            };
            if let Some(found) = found.filter(|_| !is_broken.load(Ordering::Relaxed)) {
                let sessions = vec![("default/voice/1".to_owned(), "first version")];
                let _ = found.send(vec![Found { message: 7, sessions, deliveries: 2, ..Found::default() }; count]);
            }
            let _ = answer.send(vec![settled; count]);
            batch.items.into_iter().for_each(|item| to.send(item).expect("the test listens"));
        }
    });
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(settings, listener, Inlet::new("in", to_intake), stop.clone()));
    Bench { address, broken, received, stop, serving }
}

impl Bench {
    /// One request on a connection of its own: status, head and JSON.
    async fn send(&self, head: &str, body: &[u8]) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let length =
            if head.contains("Content-Length") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{head}\r\nHost: x\r\nConnection: close\r\n{length}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
        let mut said = Vec::new();
        // A listener that refuses before the end of the body may reset the connection after its answer.
        let _ = stream.read_to_end(&mut said).await;
        let said = String::from_utf8(said).expect("text");
        let (head, body) = said.split_once("\r\n\r\n").expect("an answer");
        let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
    }

    async fn post(&self, kind: &str, body: &str) -> (u16, String, Value) {
        let head = format!("POST / HTTP/1.1\r\nAuthorization: Bearer k3y\r\nContent-Type: {kind}");
        self.send(&head, body.as_bytes()).await
    }
}

#[tokio::test]
async fn a_document_is_taken_and_the_caller_is_told_what_was_found() {
    let mut bench = bench("").await;
    let (status, _, told) = bench.post("application/json; charset=utf-8", "{\"id\":1}").await;
    assert_eq!(status, 202);
    assert_eq!(
        told,
        json!({ "status": "taken", "reason": null, "input": told["input"], "message": 7, "known": false,
                "sessions": [{ "key": "default/voice/1", "standing": "first version" }], "deliveries": 2 })
    );
    let item = bench.received.try_recv().expect("an item");
    assert_eq!(item.content, Content::Document("{\"id\":1}".into()));
    assert_eq!(told["input"], item.input);
    let (status, ..) = bench.post("message/rfc822", "Subject: x\r\n\r\nbody").await;
    assert_eq!(status, 202);
    assert!(matches!(bench.received.try_recv().expect("an item").content, Content::Mail(_)));
    // Kept for a person to look at is taken.
    let (status, _, told) = bench.post("application/x-ndjson", "{").await;
    assert_eq!((status, &told["status"], &told["reason"]), (202, &json!("quarantined"), &json!("malformed_metadata")));
}

#[tokio::test]
async fn what_is_not_committed_is_not_acknowledged() {
    let bench = bench("").await;
    bench.broken.store(true, Ordering::Relaxed);
    let (status, head, told) = bench.post("application/json", "{\"id\":1}").await;
    assert_eq!((status, &told["error"]), (503, &json!("unavailable")));
    assert!(head.contains("retry-after: 30") && !told.to_string().contains("secret"), "{head}");
    bench.broken.store(false, Ordering::Relaxed);
    assert_eq!(bench.post("application/json", "{\"id\":1}").await.0, 202);
}

#[tokio::test]
async fn what_can_never_be_taken_is_refused_with_its_reason() {
    let mut bench = bench("max_bytes = 100").await;
    let auth = "POST / HTTP/1.1\r\nAuthorization: Bearer k3y\r\nContent-Type: application/json";
    let big = format!("[{}]", "1,".repeat(100));
    let chunked = "POST / HTTP/1.1\r\nAuthorization: Bearer k3y\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nX: ";
    for (head, body, status, word) in [
        (auth.replace("k3y", "no"), "{}", 401, "unauthorized"),
        ("POST / HTTP/1.1".to_owned(), "{}", 401, "unauthorized"),
        (auth.to_owned(), big.as_str(), 413, "too_large"),
        (format!("{auth}\r\nContent-Length: 9999999"), "", 413, "too_large"),
        (format!("{chunked}Content-Length"), &format!("c8\r\n{}\r\n0\r\n\r\n", &big[..200]), 413, "too_large"),
        (auth.replace("application/json", "text/plain"), "{}", 415, "unsupported_media_type"),
        (format!("{auth}\r\nContent-Encoding: gzip"), "{}", 415, "unsupported_media_type"),
        (auth.to_owned(), " \r\n", 422, "empty"),
        (auth.replace("application/json", "message/rfc822"), "{\"id\":1}", 422, "not_a_mail"),
        (auth.replace("POST", "PUT"), "{}", 405, "method_not_allowed"),
        (auth.replace("POST / ", "POST /x "), "{}", 404, "not_found"),
    ] {
        let (got, _, told) = bench.send(&head, body.as_bytes()).await;
        assert_eq!((got, told["error"].as_str()), (status, Some(word)), "{head}");
        assert!(told["detail"].is_string());
    }
    assert!(bench.received.try_recv().is_err());
    assert_eq!(bench.send("GET /healthz HTTP/1.1", b"").await.0, 200);
}

#[tokio::test]
async fn a_signed_body_is_taken_and_a_changed_one_is_not() {
    let mut bench = bench("hmac = { secret = 'Jefe' }").await;
    let sign = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let head = format!("POST / HTTP/1.1\r\nX-Signature: sha256={sign}\r\nContent-Type: application/json");
    assert_eq!(bench.send(&head, b"what do ya want for nothing?").await.0, 202);
    assert!(bench.received.try_recv().is_ok());
    let (status, _, told) = bench.send(&head, b"what do ya want for something").await;
    assert_eq!((status, told["error"].as_str()), (401, Some("unauthorized")));
    assert!(bench.received.try_recv().is_err());
}

#[tokio::test]
async fn callers_have_limits_and_a_stop_frees_the_port() {
    let bench = bench("max_connections_per_peer = 1\ntimeout_seconds = 1").await;
    let mut idle = TcpStream::connect(bench.address).await.expect("a connection");
    idle.write_all(b"POST").await.expect("sent");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.send("GET /healthz HTTP/1.1", b"").await.0, 503);
    // Who falls silent loses the seat.
    let mut said = Vec::new();
    let _ = idle.read_to_end(&mut said).await;
    assert_eq!(bench.send("GET /healthz HTTP/1.1", b"").await.0, 200);
    bench.stop.cancel();
    assert_eq!(bench.serving.await.expect("no panic"), Ok(()));
    TcpListener::bind(bench.address).await.expect("the port is free");
}
