//! An account against a token endpoint on loopback that answers from a script.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers in turn (status, body), the last one for ever; keeps the requests' bodies.
struct Endpoint {
    url: String,
    bodies: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Endpoint {
    async fn start(script: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
        let script: Vec<(u16, String)> = script.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let (kept, next) = (bodies.clone(), AtomicUsize::new(0));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                let body = loop {
                    stream.read_buf(&mut request).await.expect("a request");
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length =
                        head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break body.to_owned();
                    }
                };
                kept.lock().expect("bodies").push(body);
                let (status, body) = &script[next.fetch_add(1, Ordering::SeqCst).min(script.len() - 1)];
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.expect("an answer");
            }
        });
        Self { url, bodies, serving }
    }

    fn settings(&self, folder: &tempfile::TempDir, more: &str) -> Settings {
        let text = format!("client_id = 'c'\nclient_secret = 's'\ntoken_url = '{}'\n{more}", self.url);
        Settings { state: folder.path().join("ledger.db"), ..toml::from_str(&text).expect("settings") }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().expect("bodies").clone()
    }
}

/// As after a new start of the program.
fn fresh(settings: &Settings) -> Arc<Account> {
    let grant = Grant::of(settings).expect("a grant");
    let http = client(&grant).expect("a client");
    Arc::new(Account::new(grant, http))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn many_who_want_a_token_at_once_ask_for_one() {
    let (endpoint, folder) = (Endpoint::start(&[(200, r#"{"access_token":"t1","expires_in":3600}"#)]).await, folder());
    let settings = endpoint.settings(&folder, "");
    let asked = (0..20).map(|_| {
        let account = account(&settings).expect("an account");
        async move { account.token().await.expect("a token") }
    });
    let tokens = futures_util::future::join_all(asked).await;
    assert!(tokens.iter().all(|token| token.secret.expose_secret() == "t1"));
    assert_eq!(tokens.iter().filter(|token| !token.is_reused).count(), 1);
    assert_eq!(endpoint.bodies(), ["grant_type=client_credentials&client_id=c&client_secret=s"]);
    let account = account(&settings).expect("an account");
    account.forget(&tokens[0]).await;
    assert!(!account.token().await.expect("a token").is_reused);
    assert_eq!(endpoint.bodies().len(), 2);
}

#[tokio::test]
async fn an_exchanged_refresh_token_outlives_the_program() {
    let script = [
        (200, r#"{"access_token":"t1","refresh_token":"r2"}"#),
        (200, r#"{"access_token":"t2","refresh_token":"r3"}"#),
        (200, r#"{"access_token":"t3"}"#),
    ];
    let (endpoint, folder) = (Endpoint::start(&script).await, folder());
    let settings = endpoint.settings(&folder, "refresh_token = 'r1'");
    for _ in 0..3 {
        fresh(&settings).token().await.expect("a token");
    }
    let shown: Vec<_> = endpoint.bodies().iter().map(|body| body.split('&').nth(1).expect("one").to_owned()).collect();
    assert_eq!(shown, ["refresh_token=r1", "refresh_token=r2", "refresh_token=r3"]);
    let kept = std::fs::read_to_string(&fresh(&settings).grant.kept_in).expect("a file");
    assert_eq!(kept, r#"{"newest":"r3","before":"r2"}"#);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&fresh(&settings).grant.kept_in).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_refused_newest_token_falls_back_on_those_before_it() {
    let refused = (400, r#"{"error":"invalid_grant"}"#);
    let script = [(200, r#"{"access_token":"t1","refresh_token":"r2"}"#), refused, (200, r#"{"access_token":"t2"}"#)];
    let (endpoint, folder) = (Endpoint::start(&script).await, folder());
    let settings = endpoint.settings(&folder, "refresh_token = 'r1'");
    fresh(&settings).token().await.expect("a token");
    assert_eq!(fresh(&settings).token().await.expect("a token").secret.expose_secret(), "t2");
    assert!(endpoint.bodies()[2].contains("refresh_token=r1"));
}

#[tokio::test]
async fn a_refusal_is_not_asked_for_again_until_the_credentials_change() {
    let (endpoint, folder) = (Endpoint::start(&[(400, r#"{"error":"invalid_grant"}"#)]).await, folder());
    let settings = endpoint.settings(&folder, "refresh_token = 'r1'");
    for _ in 0..3 {
        let fault = account(&settings).expect("an account").token().await.expect_err("refused");
        assert_eq!(fault.reason, Reason::Unauthorized);
        assert!(fault.detail.contains("`oauth2.refresh_token`"), "{fault:?}");
    }
    assert_eq!(endpoint.bodies().len(), 1);
    let changed = endpoint.settings(&folder, "refresh_token = 'other'");
    account(&changed).expect("an account").token().await.expect_err("refused");
    assert_eq!(endpoint.bodies().len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_for_a_while() {
    let (endpoint, folder) = (Endpoint::start(&[(503, "")]).await, folder());
    let account = fresh(&endpoint.settings(&folder, ""));
    for _ in 0..5 {
        assert_eq!(account.token().await.expect_err("no token").reason, Reason::Unavailable);
    }
    assert_eq!(endpoint.bodies().len(), 1);
}

#[tokio::test]
async fn a_refresh_token_that_can_not_be_written_is_not_used_before_it_is() {
    let script = [(200, r#"{"access_token":"t1","refresh_token":"r2"}"#), (200, r#"{"access_token":"t2"}"#)];
    let (endpoint, folder) = (Endpoint::start(&script).await, folder());
    let account = fresh(&endpoint.settings(&folder, "refresh_token = 'r1'"));
    let mut in_the_way = account.grant.kept_in.clone().into_os_string();
    in_the_way.push(".new");
    std::fs::create_dir(&in_the_way).expect("a folder");
    let fault = account.token().await.expect_err("no token");
    assert!(fault.detail.contains("can't keep the new refresh token"), "{fault:?}");
    std::fs::remove_dir(&in_the_way).expect("gone");
    account.state.lock().await.fault = None;
    assert_eq!(account.token().await.expect("a token").secret.expose_secret(), "t2");
    assert!(endpoint.bodies()[1].contains("refresh_token=r2"));
    assert!(std::fs::read_to_string(&account.grant.kept_in).expect("a file").contains("\"newest\":\"r2\""));
}
