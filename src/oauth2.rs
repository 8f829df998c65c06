//! OAuth 2.0 access tokens (RFC 6749) for whoever logs in with one: mailboxes, mail servers, CRMs.
//!
//! One `Account` per set of credentials and process: one request at a time, a token is used for most of its
//! life, a token endpoint that fails is left alone for growing times. A refresh token that the server
//! exchanges is on the disk before the access token that came with it is handed out. Never shows a token.

mod ask;
mod assertion;
mod grant;
mod kept;
mod reply;
pub mod sasl;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, redirect};
use secrecy::{ExposeSecret, SecretString};

use crate::outcome::Reason;
use crate::tls;

pub use ask::{Ask, Base, How, SendAs, token_url};
pub use assertion::{Algorithm, Assertion};
pub use grant::{Provider, Settings};

use grant::Grant;
use kept::Kept;
use reply::{Answer, Granted};

/// A token endpoint that says no more in this time is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of its answer this much is read.
const BODY_CAP: usize = 64 << 10;
/// Waits after failures that may pass: from the first, doubled, to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(300);
/// After a refusal the same credentials are not shown again for so long; changed ones are at once.
const REFUSED_WAIT: Duration = Duration::from_secs(900);

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `unauthorized` is the operator's to mend; others pass.
    pub reason: Reason,
    /// A sentence, with what to do if there is something; without credentials.
    pub detail: String,
    /// How long the endpoint is left alone now.
    pub wait: Option<Duration>,
}

impl Fault {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), wait: None }
    }
}

/// An access token.
#[derive(Debug, Clone)]
pub struct Token {
    /// What goes behind `Bearer`.
    pub secret: SecretString,
    /// Whether it was used before: then a refusal may mean no more than that it ended early.
    pub is_reused: bool,
    /// The address at which it is good, if the answer was to say so; without a slash at its end.
    pub base: Option<Arc<str>>,
}

/// Credentials at a token endpoint, with the token that they brought last.
pub struct Account {
    grant: Grant,
    http: Client,
    state: tokio::sync::Mutex<State>,
    /// A refresh token that could not be written, such as on a full disk: shown first, and written then.
    unwritten: Mutex<Option<SecretString>>,
}

#[derive(Default)]
struct State {
    token: Option<Held>,
    failures: u32,
    /// What was wrong last, and until when the endpoint is left alone because of it.
    fault: Option<(Fault, Instant)>,
}

struct Held {
    secret: SecretString,
    base: Option<Arc<str>>,
    renew_at: Instant,
}

impl Held {
    fn token(&self, is_reused: bool) -> Token {
        Token { secret: self.secret.clone(), is_reused, base: self.base.clone() }
    }
}

/// The account of these settings: the same one for all who have the same credentials. Reads secrets and files, so
/// call it where that may take a while.
pub fn account(settings: &Settings) -> Result<Arc<Account>, Fault> {
    known(Grant::of(settings))
}

/// The account of a destination, like `account`. Newer refresh tokens are kept beside the file `state`.
pub fn destination_account(ask: &Ask, state: &Path) -> Result<Arc<Account>, Fault> {
    known(Grant::of_destination(ask, state))
}

fn known(grant: Result<Grant, String>) -> Result<Arc<Account>, Fault> {
    static ACCOUNTS: OnceLock<Mutex<BTreeMap<String, Arc<Account>>>> = OnceLock::new();
    let grant = grant.map_err(|detail| Fault::new(Reason::Unauthorized, detail))?;
    let mut accounts = ACCOUNTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(account) = accounts.get(&grant.identity) {
        return Ok(account.clone());
    }
    let http = client(&grant).map_err(|detail| Fault::new(Reason::Tls, detail))?;
    let identity = grant.identity.clone();
    let account = Arc::new(Account::new(grant, http));
    accounts.insert(identity, account.clone());
    Ok(account)
}

fn client(grant: &Grant) -> Result<Client, String> {
    let tls = tls::client_config(grant.ca_file.as_deref())?;
    let builder = Client::builder()
        .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("mail2crm/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(0);
    let local = grant.token_url.host_str().is_some_and(grant::is_this_machine);
    let builder = if local { builder.no_proxy() } else { builder };
    builder.build().map_err(|e| format!("can't set up HTTP: {}", e.without_url()))
}

impl Account {
    fn new(grant: Grant, http: Client) -> Self {
        Self { grant, http, state: tokio::sync::Mutex::default(), unwritten: Mutex::default() }
    }

    /// A token that is good for a while yet. A caller that stops waiting does not stop a request under way, since
    /// its answer may hold the only refresh token that is still good.
    pub async fn token(self: &Arc<Self>) -> Result<Token, Fault> {
        let this = self.clone();
        let asked = tokio::spawn(async move { this.current_or_new().await });
        asked.await.unwrap_or_else(|_| Err(Fault::new(Reason::Internal, "asking for a token was broken off")))
    }

    /// The token was refused where it was used: another one is asked for next time.
    pub async fn forget(&self, token: &Token) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|held| held.secret.expose_secret() == token.secret.expose_secret()) {
            state.token = None;
        }
    }

    async fn current_or_new(&self) -> Result<Token, Fault> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(held) = state.token.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.token(true));
        }
        if let Some((fault, until)) = state.fault.as_ref().filter(|(_, until)| now < *until) {
            let seconds = until.duration_since(now).as_secs() + 1;
            let detail = format!("{} (the token endpoint is asked again in {seconds} s)", fault.detail);
            return Err(Fault { reason: fault.reason, detail, wait: Some(Duration::from_secs(seconds)) });
        }
        match self.ask().await {
            Ok(granted) => {
                let renew_at = now + granted.use_for();
                let held = Held { secret: granted.access, base: granted.base.map(Into::into), renew_at };
                let token = held.token(false);
                *state = State { token: Some(held), ..State::default() };
                Ok(token)
            }
            Err((fault, server_wants)) => {
                let grown = (FIRST_WAIT * 2_u32.saturating_pow(state.failures.min(16))).min(LAST_WAIT);
                let wait = match fault.reason {
                    Reason::Unauthorized => REFUSED_WAIT,
                    _ => grown.max(server_wants.unwrap_or_default()).min(REFUSED_WAIT),
                };
                state.failures = state.failures.saturating_add(1);
                state.fault = Some((fault.clone(), Instant::now() + wait));
                Err(Fault { wait: Some(wait), ..fault })
            }
        }
    }

    /// One grant. With a refresh token: the newest that is kept, then those before it, since a crash may have come
    /// between the server's exchange and our writing.
    async fn ask(&self) -> Result<Granted, (Fault, Option<Duration>)> {
        let Some(configured) = &self.grant.refresh_token else {
            return self.post(None).await.map_err(Refusal::into_parts);
        };
        let local = |detail: String| (Fault::new(Reason::Unavailable, detail), None);
        let mut kept = Kept::open(self.grant.kept_in.clone()).await.map_err(local)?;
        let mut refusal = None;
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for candidate in unwritten.into_iter().chain(kept.candidates(configured)) {
            match self.post(Some(&candidate)).await {
                Ok(granted) => {
                    let newest = granted.refresh.as_ref().unwrap_or(&candidate);
                    let written = kept.keep(newest, &candidate, configured).await;
                    *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner) =
                        written.is_err().then(|| newest.clone());
                    written.map_err(local)?;
                    return Ok(granted);
                }
                Err(refused) if refused.is_invalid_grant => _ = refusal.get_or_insert(refused),
                Err(other) => return Err(other.into_parts()),
            }
        }
        Err(refusal.map_or_else(|| local("there is no refresh token".to_owned()), Refusal::into_parts))
    }

    async fn post(&self, refresh_token: Option<&SecretString>) -> Result<Granted, Refusal> {
        let origin = self.grant.token_url.origin().ascii_serialization();
        let lost = |error: reqwest::Error| {
            let (reason, what) = if error.is_timeout() {
                (Reason::Timeout, "does not answer in time")
            } else if tls::find::<rustls::Error>(&error).is_some() {
                (Reason::Tls, "can't be spoken to over TLS; `ca_file` names further authorities")
            } else if error.is_connect() {
                (Reason::Unreachable, "can't be reached")
            } else {
                (Reason::ConnectionLost, "broke the connection off")
            };
            Refusal::passing(reason, format!("the token endpoint {origin} {what}"), None)
        };
        let local = |detail: String| Refusal::local(Fault::new(Reason::Unauthorized, detail));
        let asked = self.grant.request(refresh_token, Timestamp::now().as_second(), &unique()).map_err(local)?;
        let request = self.http.post(self.grant.token_url.clone());
        let mut request =
            request.header(CONTENT_TYPE, asked.content_type).header(ACCEPT, "application/json").body(asked.body);
        if let Some(secret) = &asked.authorization {
            let value = HeaderValue::from_str(secret.expose_secret());
            let mut value = value.map_err(|_| local("the client's id and secret can't be in a header".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let mut answer = request.send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            let room = BODY_CAP - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if body.len() == BODY_CAP {
                break;
            }
        }
        match reply::read(status, &body, &self.grant) {
            Answer::Granted(granted) => Ok(granted),
            Answer::Refused { is_invalid_grant, detail } => Err(Refusal {
                fault: Fault::new(Reason::Unauthorized, format!("{origin} {detail}")),
                retry_after: None,
                is_invalid_grant,
            }),
            Answer::Passing(reason, detail) => {
                let wait = retry_after.map(Duration::from_secs);
                Err(Refusal::passing(reason, format!("the token endpoint {origin} {detail}"), wait))
            }
        }
    }
}

/// An id that no other assertion has.
fn unique() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// A token endpoint's no.
struct Refusal {
    fault: Fault,
    retry_after: Option<Duration>,
    is_invalid_grant: bool,
}

impl Refusal {
    fn passing(reason: Reason, detail: String, retry_after: Option<Duration>) -> Self {
        Self { fault: Fault::new(reason, detail), retry_after, is_invalid_grant: false }
    }

    fn local(fault: Fault) -> Self {
        Self { fault, retry_after: None, is_invalid_grant: false }
    }

    fn into_parts(self) -> (Fault, Option<Duration>) {
        (self.fault, self.retry_after)
    }
}

#[cfg(test)]
mod tests;
