//! Keys against a CRM on loopback whose token endpoint checks every parameter, ends tokens, and exchanges refresh
//! tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex as Plain;

use axum::Router;
use axum::extract::{Request as Incoming, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as Answer};
use serde_json::{Map, Value, json};

use super::*;
use crate::connector::Connector;
use crate::diagnostic::SourceFile;
use crate::folder::Folder;
use crate::sender::http::HttpSettings;
use crate::settings;

/// What the CRM knows, and what it saw.
#[derive(Default)]
struct Crm {
    /// Tokens that are good now.
    good: BTreeSet<String>,
    issued: usize,
    /// Token requests as they came: parameters.
    asked: Vec<BTreeMap<String, String>>,
    /// The refresh token that is good now, if they are exchanged.
    refresh: Option<String>,
    /// What the token endpoint answers instead.
    refuses: Option<(u16, Value)>,
    served: usize,
}

type Shared = Arc<Plain<Crm>>;

struct Running {
    crm: Shared,
    address: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn running() -> Running {
    let crm = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let app = Router::new().fallback(answer).with_state(crm.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("a server") });
    Running { crm, address, serving }
}

async fn answer(State(crm): State<Shared>, request: Incoming) -> Answer {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 16).await.expect("a body");
    let mut crm = crm.lock().expect("the CRM");
    if head.uri.path() == "/token" {
        let pairs: BTreeMap<String, String> =
            reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(&body)))
                .expect("a form")
                .query_pairs()
                .into_owned()
                .collect();
        crm.asked.push(pairs.clone());
        if let Some((status, body)) = &crm.refuses {
            return (StatusCode::from_u16(*status).expect("a status"), body.to_string()).into_response();
        }
        if let Some(good) = &crm.refresh
            && pairs.get("refresh_token") != Some(good)
        {
            return (StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant"}"#).into_response();
        }
        crm.issued += 1;
        let token = format!("t{}", crm.issued);
        crm.good.insert(token.clone());
        let mut given = json!({ "access_token": token, "token_type": "Bearer", "instance_url": "@" });
        given["instance_url"] = format!("http://{}/eu7", head.headers["host"].to_str().expect("a host")).into();
        if crm.refresh.is_some() {
            let next = format!("r{}", crm.issued + 1);
            given["refresh_token"] = next.as_str().into();
            crm.refresh = Some(next);
        }
        return given.to_string().into_response();
    }
    let shown = head.headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    if !shown.is_some_and(|token| crm.good.contains(token)) {
        return (StatusCode::UNAUTHORIZED, "{}").into_response();
    }
    crm.served += 1;
    json!({ "path": head.uri.path() }).to_string().into_response()
}

fn destination(address: &str, auth: &str) -> Arc<Destination> {
    let manifest = format!(
        r#"
name = "toy"
title = "Toy"
transports = ["rest"]
[http]
base_url = "{{{{settings.base_url}}}}/api"
[settings.base_url]
type = "url"
required = true
doc = "the address"
[settings.secret]
type = "secret"
doc = "a secret"
[[auth]]
scheme = "oauth2"
token_url = "{{{{settings.base_url}}}}/token"
client_id = "c1"
{auth}
[[step]]
id = "a"
effect = "read"
method = "GET"
"#
    );
    let files = BTreeMap::from([("connector.toml".to_owned(), SourceFile::new("toy/connector.toml", manifest))]);
    let connector = Connector::load(&Folder { name: "toy".into(), files }, None).unwrap_or_else(|f| panic!("{f}"));
    let text = format!("base_url = '{address}'\nsecret = 's1'\n");
    let parsed = settings::parse::<Map<String, Value>>(&SourceFile::new("mail2crm.toml", text)).expect("settings");
    let made = Destination::new("x", Arc::new(connector), None, &parsed.value, &parsed.places, &[]);
    Arc::new(made.unwrap_or_else(|f| panic!("{f}")))
}

const CLIENT: &str =
    "grant = \"client_credentials\"\nclient_secret = \"secret\"\nparams = { scope = \"rw\" }\nlife = 600";

struct Sending {
    to: Arc<Destination>,
    http: HttpSender,
    keys: Keys,
    _folder: tempfile::TempDir,
}

fn sending(running: &Running, auth: &str) -> Sending {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::new(folder.path().join("ledger.db"), None);
    let http = HttpSender::new(HttpSettings::default()).expect("a sender");
    Sending { to: destination(&running.address, auth), http, keys, _folder: folder }
}

impl Sending {
    async fn send(&self) -> Result<Response, Verdict> {
        let url = format!("{}/t/1", self.to.base_url());
        let request = Request { method: "GET".into(), url, headers: Vec::new(), body: None, with_credentials: true };
        self.keys.send(&self.to, &self.http, &request).await
    }
}

#[tokio::test]
async fn many_requests_ask_for_one_token_and_a_token_that_ended_is_renewed_once() {
    let running = running().await;
    let sending = sending(&running, CLIENT);
    let answers = futures_util::future::join_all((0..8).map(|_| sending.send())).await;
    assert!(answers.iter().all(|a| a.as_ref().is_ok_and(|a| a.status == 200)), "{answers:?}");
    let asked = [("client_id", "c1"), ("client_secret", "s1"), ("grant_type", "client_credentials"), ("scope", "rw")];
    let asked: BTreeMap<String, String> = asked.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(running.crm.lock().expect("the CRM").asked, [asked]);
    running.crm.lock().expect("the CRM").good.clear();
    let answers = futures_util::future::join_all((0..8).map(|_| sending.send())).await;
    assert!(answers.iter().all(|a| a.as_ref().is_ok_and(|a| a.status == 200)), "{answers:?}");
    let crm = running.crm.lock().expect("the CRM");
    assert_eq!((crm.issued, crm.served), (2, 16));
}

#[tokio::test]
async fn a_new_token_that_is_refused_is_not_renewed_again_and_again() {
    let running = running().await;
    let sending = sending(&running, &CLIENT.replace("rw", "other"));
    sending.send().await.expect("an answer");
    let ended = async {
        loop {
            running.crm.lock().expect("the CRM").good.clear();
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::select! { answer = sending.send() => answer.expect("an answer"), () = ended => unreachable!() };
    assert_eq!(answer.status, 401);
    assert_eq!(running.crm.lock().expect("the CRM").issued, 2);
}

#[tokio::test]
async fn a_refusal_of_the_token_endpoint_is_the_configurations_and_a_failure_passes() {
    let running = running().await;
    running.crm.lock().expect("the CRM").refuses = Some((400, json!({ "error": "invalid_client" })));
    let refused = sending(&running, &CLIENT.replace("rw", "refused"));
    let verdict = refused.send().await.expect_err("no token");
    assert_eq!((verdict.class, verdict.reason), (Class::Pause, Reason::Unauthorized));
    assert!(verdict.detail.contains("`invalid_client`") && !verdict.detail.contains("s1"), "{}", verdict.detail);
    running.crm.lock().expect("the CRM").refuses = Some((503, json!({})));
    let failing = sending(&running, &CLIENT.replace("rw", "failing"));
    for _ in 0..3 {
        let verdict = failing.send().await.expect_err("no token");
        assert_eq!((verdict.class, verdict.reason), (Class::Retry, Reason::Unavailable));
        assert!(verdict.retry_after.is_some() && !verdict.uncertain);
    }
    assert_eq!(running.crm.lock().expect("the CRM").asked.len(), 2, "the endpoint is left alone meanwhile");
}

#[tokio::test]
async fn the_address_that_comes_with_a_token_is_where_it_is_shown() {
    let running = running().await;
    let base = "base_url = { path = \"$.instance_url\", allow = 'http://127\\.0\\.0\\.1:[0-9]+/eu7' }";
    let sending = sending(&running, &format!("{CLIENT}\n{base}"));
    let answer = sending.send().await.expect("an answer");
    assert_eq!(answer.body, r#"{"path":"/eu7/api/t/1"}"#);
    let elsewhere = sending_elsewhere(&running).send().await.expect_err("refused");
    assert_eq!((elsewhere.class, elsewhere.reason), (Class::Pause, Reason::Unauthorized));
    assert_eq!(running.crm.lock().expect("the CRM").served, 1);
}

fn sending_elsewhere(running: &Running) -> Sending {
    sending(running, &format!("{CLIENT}\nbase_url = {{ path = \"$.instance_url\", allow = 'https://x\\.example' }}"))
}

#[tokio::test]
async fn an_exchanged_refresh_token_is_kept_before_its_access_token_is_used() {
    let running = running().await;
    running.crm.lock().expect("the CRM").refresh = Some("s1".into());
    let sending = sending(&running, "grant = \"refresh_token\"\nrefresh_token = \"secret\"");
    for round in 1..=3 {
        assert_eq!(sending.send().await.expect("an answer").status, 200);
        let kept = std::fs::read_dir(sending._folder.path()).expect("a folder").flatten().find_map(|entry| {
            let path = entry.path();
            (!path.to_string_lossy().ends_with(".lock")).then(|| std::fs::read_to_string(path).expect("a file"))
        });
        assert!(kept.expect("a file").contains(&format!("\"newest\":\"r{}\"", round + 1)));
        running.crm.lock().expect("the CRM").good.clear();
    }
    let crm = running.crm.lock().expect("the CRM");
    let shown: Vec<&str> = crm.asked.iter().map(|asked| asked["refresh_token"].as_str()).collect();
    assert_eq!(shown, ["s1", "r2", "r3"]);
}
