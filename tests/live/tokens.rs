//! Access tokens at a real Dovecot, which looks each one up (RFC 7662) at the endpoint that this test plays: one
//! that is good, one that ends while the mailbox is in use, and one that was never good.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::mailbox::Mailbox;
use super::support::program::Site;
use super::support::relay::Relay;
use super::support::servers::Servers;
use super::support::until;

/// The issuer of tokens: refresh tokens are exchanged at each use, and an old one is refused.
#[derive(Default)]
struct Issuer {
    active: BTreeSet<String>,
    refresh: String,
    issued: u32,
    /// Whether the tokens are not good from the start.
    issues_dead: bool,
    looked_up: Vec<String>,
}

/// The fields of a form whose values need no decoding.
fn field(form: &str, name: &str) -> String {
    let found = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_default().to_owned()
}

async fn serve(servers: &Servers, user: String, issuer: Arc<Mutex<Issuer>>) -> JoinHandle<()> {
    let (tokens, lookups) = (issuer.clone(), issuer);
    let token = move |form: String| async move {
        let mut issuer = tokens.lock().expect("no panic");
        if field(&form, "refresh_token") != issuer.refresh {
            return (axum::http::StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" })));
        }
        issuer.issued += 1;
        let (access, refresh) = (format!("access-{}", issuer.issued), format!("refresh-{}", issuer.issued));
        if !issuer.issues_dead {
            issuer.active.insert(access.clone());
        }
        issuer.refresh = refresh.clone();
        let answer =
            json!({ "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600 });
        (axum::http::StatusCode::OK, Json(answer))
    };
    let introspect = move |form: String| async move {
        let mut issuer = lookups.lock().expect("no panic");
        let token = field(&form, "token");
        let active = issuer.active.contains(&token);
        issuer.looked_up.push(token);
        Json::<Value>(if active { json!({ "active": true, "username": user }) } else { json!({ "active": false }) })
    };
    let address = ("127.0.0.1", servers.port("TOKEN_PORT"));
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port that Dovecot asks at");
    let app = Router::new().route("/token", post(token)).route("/introspect", post(introspect));
    tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") })
}

// The issuer answers on another thread while this one waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn mail_comes_by_tokens_that_end_and_refresh_tokens_that_are_exchanged() {
    let servers = Servers::up(&["dovecot"]);
    let user = servers.get("MAIL_ARCHIVE").to_owned();
    let issuer = Arc::new(Mutex::new(Issuer { refresh: "first".to_owned(), ..Issuer::default() }));
    let serving = serve(&servers, user.clone(), issuer.clone()).await;
    let mut mailbox = Mailbox::open(&servers, "ARCHIVE").await;
    mailbox.clear("INBOX").await;
    let site = Site::new(&format!(
        r#"
[source.inbox]
kind = "imap"
host = "127.0.0.1"
port = {}
ca_file = "{}"
user = "{user}"
start = "all"
after = "flag"
poll_seconds = 1
trust = "anyone"

[source.inbox.oauth2]
token_url = "http://127.0.0.1:{}/token"
client_id = "test"
refresh_token = {{ env = "LIVE_TEST_REFRESH" }}

[destination.files]
storage = "out"
path = "{{{{key}}}}.json"
"#,
        servers.port("IMAPS_PORT"),
        servers.ca_file().display(),
        servers.port("TOKEN_PORT"),
    ));
    site.set("LIVE_TEST_REFRESH", "first");
    let limit = Duration::from_secs(30);
    let is_flagged = async |mailbox: &mut Mailbox, count: usize| {
        let mails = mailbox.mails("INBOX").await;
        let flagged = mails.iter().filter(|mail| mail.flags.iter().any(|flag| flag == "\\Flagged")).count();
        (flagged == count).then_some(())
    };

    let mut running = site.start(&["run"]);
    running.says("reads the mailbox", limit).await;
    // The token ends while the mailbox is open: what is logged in goes on.
    issuer.lock().expect("no panic").active.clear();
    mailbox.append("INBOX", ["Subject: one\n\nfirst\n"]).await;
    until("the first mail is taken", limit, async || is_flagged(&mut mailbox, 1).await).await;
    running.kill();
    // A new start has nothing but what was kept: the configured refresh token was exchanged long ago.
    let mut running = site.start(&["run"]);
    running.says("reads the mailbox", limit).await;
    mailbox.append("INBOX", ["Subject: two\n\nsecond\n"]).await;
    until("the second mail is taken", limit, async || is_flagged(&mut mailbox, 2).await).await;
    let (status, _) = running.terminate(limit).await;
    assert!(status.success(), "{status}");
    {
        let issuer = issuer.lock().expect("no panic");
        assert_eq!((issuer.issued, issuer.refresh.as_str()), (2, "refresh-2"));
        assert!(issuer.looked_up.contains(&"access-1".to_owned()) && issuer.looked_up.contains(&"access-2".to_owned()));
    }

    // Consent is withdrawn: told with what to do, and without any token.
    issuer.lock().expect("no panic").refresh = "withdrawn".to_owned();
    let output = site.run(&["check", "--online"]);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("invalid_grant") && said.contains("oauth2.refresh_token"), "{said}");
    assert!(!said.contains("refresh-2") && !said.contains("access-"), "{said}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_nothing_but_xoauth2_takes_the_token_so() {
    let servers = Servers::up(&["dovecot"]);
    let user = servers.get("MAIL_ARCHIVE").to_owned();
    let issuer = Arc::new(Mutex::new(Issuer { refresh: "first".to_owned(), ..Issuer::default() }));
    let serving = serve(&servers, user.clone(), issuer.clone()).await;
    let relay = Relay::to(servers.port("IMAP_PORT"), " AUTH=OAUTHBEARER").await;
    let site = Site::new(&format!(
        r#"
[source.inbox]
kind = "imap"
host = "127.0.0.1"
port = {}
tls = "none"
user = "{user}"
trust = "anyone"

[source.inbox.oauth2]
token_url = "http://127.0.0.1:{}/token"
client_id = "test"
refresh_token = {{ env = "LIVE_TEST_REFRESH" }}

[destination.files]
storage = "out"
path = "{{{{key}}}}.json"
"#,
        relay.port,
        servers.port("TOKEN_PORT"),
    ));
    site.set("LIVE_TEST_REFRESH", "first");
    let check = |site: &Site| {
        let output = site.run(&["check", "--online"]);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    let (passed, said) = check(&site);
    assert!(passed && said.contains("`INBOX` holds"), "{said}");
    let commands = relay.commands("AUTHENTICATE");
    assert!(commands.len() == 1 && commands[0].starts_with("AUTHENTICATE XOAUTH2 "), "{commands:?}");
    // A token that Dovecot refuses: its challenge is answered, and its NO is told.
    issuer.lock().expect("no panic").issues_dead = true;
    let (passed, said) = check(&site);
    assert!(!passed && said.contains("refuses the login"), "{said}");
    assert!(!said.contains("access-") && !said.contains("refresh-"), "{said}");
    serving.abort();
}
