//! The HTTP sender against small scripted servers on loopback, each doing one thing that a real server
//! does on a bad day.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::connector::http::Body;

const SECRET: &str = "token s3cr3t";

/// A server for one test: runs `script` on its listener; `join` gives back what it saw.
async fn server<F, T>(script: impl FnOnce(TcpListener) -> F) -> (SocketAddr, JoinHandle<T>)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (address, tokio::spawn(script(listener)))
}

/// Accepts, reads a request to the end of its body, and says what was read.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.expect("a request");
        seen.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&seen);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
                .map_or(0, |l| l.parse::<usize>().expect("a length"));
            if body.len() >= length {
                return text.into_owned();
            }
        }
        assert!(n > 0, "the request ends early: {text}");
    }
}

fn sender() -> HttpSender {
    sender_within(Duration::from_secs(20))
}

fn sender_within(timeout: Duration) -> HttpSender {
    HttpSender::new(HttpSettings { timeout, ..HttpSettings::default() }).expect("a sender")
}

fn post(address: SocketAddr) -> Request {
    Request {
        method: "POST".into(),
        url: format!("http://{address}/case/C-1?who=pia"),
        headers: vec![("X-Key".into(), "k1".into())],
        body: Some(Body { content_type: "application/json".into(), bytes: Bytes::from_static(b"{\"note\":\"pia\"}") }),
        with_credentials: true,
    }
}

fn credentials() -> Vec<(String, SecretString)> {
    vec![("Authorization".into(), SECRET.into())]
}

/// Sends and expects no answer; checks that the verdict tells nothing that it must not.
async fn refused(sender: &HttpSender, request: &Request) -> Verdict {
    let verdict = sender.send(request, &credentials()).await.expect_err("no answer");
    for private in ["pia", "C-1", "s3cr3t"] {
        assert!(!verdict.detail.contains(private), "{}", verdict.detail);
    }
    verdict
}

fn said(verdict: &Verdict) -> (Class, Reason, bool) {
    (verdict.class, verdict.reason, verdict.uncertain)
}

#[tokio::test]
async fn an_answer_comes_back_whatever_its_status_and_the_request_is_as_planned() {
    let (address, seen) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let request = read_request(&mut stream).await;
        let answer = b"HTTP/1.1 422 No\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nbody";
        stream.write_all(answer).await.expect("written");
        request
    })
    .await;
    let answer = sender().send(&post(address), &credentials()).await.expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (422, &b"body"[..]));
    assert_eq!(answer.header("x-a"), Some("1"));
    let request = seen.await.expect("the server").to_ascii_lowercase();
    assert!(request.starts_with("post /case/c-1?who=pia http/1.1\r\n"), "{request}");
    for line in ["x-key: k1", "authorization: token s3cr3t", "content-type: application/json", "content-length: 14"] {
        assert!(request.contains(&format!("{line}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_step_without_auth_sends_no_credentials() {
    let (address, seen) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let request = read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("written");
        request
    })
    .await;
    let request = Request { with_credentials: false, ..post(address) };
    assert_eq!(sender().send(&request, &credentials()).await.expect("an answer").status, 204);
    assert!(!seen.await.expect("the server").contains("s3cr3t"));
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let (address, closed) = server(|listener| async move { drop(listener) }).await;
    closed.await.expect("closed");
    assert_eq!(said(&refused(&sender(), &post(address)).await), (Class::Retry, Reason::Unreachable, false));
}

#[tokio::test]
async fn a_reset_is_uncertain_once_the_request_may_have_been_read() {
    for reads in [false, true] {
        let (address, done) = server(move |listener| async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            if reads {
                read_request(&mut stream).await;
            } else {
                stream.peek(&mut [0; 1]).await.expect("a request");
            }
            // With no time to linger, and with unread data too, closing is a reset.
            stream.set_zero_linger().expect("linger");
        })
        .await;
        let verdict = refused(&sender(), &post(address)).await;
        assert_eq!(said(&verdict), (Class::Retry, Reason::ConnectionLost, true), "reads: {reads}");
        done.await.expect("the server");
    }
}

#[tokio::test]
async fn a_silent_server_is_uncertain_after_the_time() {
    let (address, server) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_request(&mut stream).await;
        stream.read(&mut [0; 1]).await.expect("the client's close")
    })
    .await;
    let verdict = refused(&sender_within(Duration::from_millis(100)), &post(address)).await;
    assert_eq!(said(&verdict), (Class::Retry, Reason::Timeout, true));
    assert_eq!(server.await.expect("the server"), 0);
}

#[tokio::test]
async fn a_handshake_that_hangs_sent_nothing() {
    let (address, server) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).await.expect("the client's close");
    })
    .await;
    let request = Request { url: format!("https://{address}/"), ..post(address) };
    let settings = HttpSettings { connect_timeout: Duration::from_millis(50), ..HttpSettings::default() };
    let sender = HttpSender::new(settings).expect("a sender");
    let verdict = refused(&sender, &request).await;
    assert_eq!(said(&verdict), (Class::Retry, Reason::Unreachable, false));
    server.await.expect("the server");
}

#[tokio::test]
async fn tls_against_a_plain_server_is_a_fault_of_the_configuration() {
    let (address, server) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).await.ok();
    })
    .await;
    let request = Request { url: format!("https://{address}/"), ..post(address) };
    assert_eq!(said(&refused(&sender(), &request).await), (Class::Pause, Reason::Tls, false));
    server.await.expect("the server");
}

#[tokio::test]
async fn a_server_that_does_not_speak_http_is_a_wrong_base_url() {
    let (address, server) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_request(&mut stream).await;
        stream.write_all(b"* BAD what is this\r\n\r\n").await.expect("written");
    })
    .await;
    assert_eq!(said(&refused(&sender(), &post(address)).await), (Class::Pause, Reason::BadBaseUrl, true));
    server.await.expect("the server");
}

#[tokio::test]
async fn a_broken_body_is_uncertain_after_a_success_and_enough_after_a_refusal() {
    for (status, certain) in [("201 Created", false), ("422 No", true), ("503 Busy", true)] {
        let (address, server) = server(move |listener| async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            read_request(&mut stream).await;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\nhalf");
            stream.write_all(answer.as_bytes()).await.expect("written");
        })
        .await;
        match sender().send(&post(address), &credentials()).await {
            Ok(answer) => assert!(certain && answer.body.as_ref() == b"half", "{status}"),
            Err(verdict) => {
                assert!(!certain, "{status}");
                assert_eq!(said(&verdict), (Class::Retry, Reason::ConnectionLost, true));
            }
        }
        server.await.expect("the server");
    }
}

#[tokio::test]
async fn a_huge_body_is_cut_at_the_cap_and_not_downloaded() {
    let (address, server) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.expect("written");
        let chunk = vec![b'x'; 1 << 16];
        let mut sent = 0usize;
        while sent < 1_000_000_000 && stream.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    })
    .await;
    let answer = sender().send(&post(address), &credentials()).await.expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, BODY_CAP));
    assert!(server.await.expect("the server") < 100_000_000);
}

#[tokio::test]
async fn a_slow_answer_within_the_time_is_read_whole() {
    let (address, server) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_request(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" {
            stream.write_all(&[*byte]).await.expect("written");
            tokio::task::yield_now().await;
        }
    })
    .await;
    let answer = sender().send(&post(address), &credentials()).await.expect("an answer");
    assert_eq!(&answer.body[..], b"hi");
    server.await.expect("the server");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (address, connections) = server(|listener| async move {
        let address = listener.local_addr().expect("an address");
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_request(&mut stream).await;
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/login\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("written");
        // The same connection would carry the request that follows.
        stream.read(&mut [0; 1]).await.expect("the client's close")
    })
    .await;
    let sender = sender();
    let answer = sender.send(&post(address), &credentials()).await.expect("an answer");
    assert_eq!(answer.status, 302);
    drop(sender);
    assert_eq!(connections.await.expect("the server"), 0);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_not_used_again() {
    let (closed, wait) = oneshot::channel();
    let (address, seen) = server(|listener| async move {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (mut first, _) = listener.accept().await.expect("a client");
        read_request(&mut first).await;
        first.write_all(ok).await.expect("written");
        drop(first);
        closed.send(()).expect("the test waits");
        let (mut second, _) = listener.accept().await.expect("a client");
        read_request(&mut second).await;
        second.write_all(ok).await.expect("written");
        read_request(&mut second).await;
        second.write_all(ok).await.expect("written");
    })
    .await;
    let sender = sender();
    sender.send(&post(address), &credentials()).await.expect("an answer");
    wait.await.expect("the close");
    // Some turns of the runtime, for the pool to hear of it.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    sender.send(&post(address), &credentials()).await.expect("an answer on a new connection");
    sender.send(&post(address), &credentials()).await.expect("an answer on the kept connection");
    seen.await.expect("the server");
}

#[tokio::test]
async fn a_kept_connection_that_breaks_under_the_request_is_uncertain_and_not_tried_again() {
    let (address, connections) = server(|listener| async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        read_request(&mut stream).await;
        drop(stream);
        listener
    })
    .await;
    let sender = sender();
    sender.send(&post(address), &credentials()).await.expect("an answer");
    assert_eq!(said(&refused(&sender, &post(address)).await), (Class::Retry, Reason::ConnectionLost, true));
    let listener = connections.await.expect("the server");
    let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(again.is_err(), "the request was sent twice");
}

#[tokio::test]
async fn an_unknown_name_is_a_fault_of_the_configuration() {
    let request = Request {
        method: "GET".into(),
        url: "http://no-such-host.invalid/".into(),
        headers: Vec::new(),
        body: None,
        with_credentials: true,
    };
    // `.invalid` never resolves (RFC 6761), and is not looked up outside by resolvers that follow it. Where
    // the environment names a proxy, the proxy would answer instead: hence the client that uses none.
    let sender = sender();
    let sender = HttpSender { clients: sender.clients.without_proxy() };
    assert_eq!(said(&refused(&sender, &request).await), (Class::Pause, Reason::Dns, false));
}

#[tokio::test]
async fn what_can_not_be_a_header_is_told_apart_by_whose_fault_it_is() {
    let address = "127.0.0.1:9".parse().expect("an address");
    let sender = sender();
    let mut request = post(address);
    request.headers.push(("X-Note".into(), "pia\r\nX-Evil: 1".into()));
    assert_eq!(said(&refused(&sender, &request).await), (Class::Dead, Reason::TemplateFailed, false));
    let secret = [("Authorization".to_owned(), SecretString::from("s3cr3t\n"))];
    let verdict = sender.send(&post(address), &secret).await.expect_err("not a header");
    assert_eq!(said(&verdict), (Class::Pause, Reason::Unauthorized, false));
    assert!(!verdict.detail.contains("s3cr3t"));
    let request = Request { url: "helpdesk/case".into(), ..post(address) };
    assert_eq!(said(&refused(&sender, &request).await), (Class::Pause, Reason::BadBaseUrl, false));
}

#[test]
fn settings_are_seconds_and_unknown_keys_are_errors() {
    let settings: HttpSettings = toml::from_str("timeout_seconds = 2.5\n").expect("settings");
    assert_eq!(settings.timeout, Duration::from_millis(2500));
    for bad in ["timeout_seconds = 0", "timeout_seconds = -1", "timeout_seconds = nan", "time_out = 3"] {
        assert!(toml::from_str::<HttpSettings>(bad).is_err(), "{bad}");
    }
}
