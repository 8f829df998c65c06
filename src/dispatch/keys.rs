//! What authorises the requests of one destination: its secrets as last read, or a token from a token endpoint;
//! and the sending with it. A token that the CRM says has ended is renewed, and the request sent again, once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::Mutex;

use crate::connector::Destination;
use crate::connector::http::{Request, Response};
use crate::oauth2::{self, Account, Token};
use crate::outcome::{Class, Reason, Verdict};
use crate::sender::http::HttpSender;

/// How long credentials are used before they are read again: a rotated one is picked up within a minute, and
/// at once when the old one is refused.
const FRESH: Duration = Duration::from_secs(60);

/// The credentials of one destination.
pub struct Keys {
    /// Beside which file newer refresh tokens are kept.
    state: PathBuf,
    /// Authorities to trust at the token endpoint besides those of the system.
    ca_file: Option<PathBuf>,
    /// Held while they are read, so that those who need them together read once.
    read: Mutex<Option<(Instant, Read)>>,
}

/// What was read last.
#[derive(Clone)]
enum Read {
    Secrets(Vec<SecretString>),
    Account(Arc<Account>),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Nothing is read yet. Refresh tokens that are exchanged are kept beside the file `state`; `ca_file` is the
    /// destination's.
    pub fn new(state: PathBuf, ca_file: Option<PathBuf>) -> Self {
        Self { state, ca_file, read: Mutex::default() }
    }

    /// Sends one request with what authorises it. An answer is returned whatever its status.
    pub(super) async fn send(
        &self,
        to: &Arc<Destination>,
        http: &HttpSender,
        request: &Request,
    ) -> Result<Response, Verdict> {
        if !request.with_credentials {
            return http.send(request, &[]).await;
        }
        let account = match self.read(to).await? {
            Read::Secrets(secrets) => return http.send(request, &header(to, &secrets, request)).await,
            Read::Account(account) => account,
        };
        let token = account.token().await.map_err(no_token)?;
        let answer = with_token(to, http, request, &token).await?;
        if !to.grants().is_some_and(|grants| grants.is_ended(answer.status)) {
            return Ok(answer);
        }
        account.forget(&token).await;
        if !token.is_reused {
            return Ok(answer);
        }
        let token = account.token().await.map_err(no_token)?;
        with_token(to, http, request, &token).await
    }

    /// What is read anew when it is a minute old; off the runtime, since a command or a file may take a while.
    async fn read(&self, to: &Arc<Destination>) -> Result<Read, Verdict> {
        let mut read = self.read.lock().await;
        if let Some((at, known)) = &*read
            && at.elapsed() < FRESH
        {
            return Ok(known.clone());
        }
        let (from, state, ca_file) = (to.clone(), self.state.clone(), self.ca_file.clone());
        let reading = tokio::task::spawn_blocking(move || match from.grants() {
            Some(grants) => {
                let ask = oauth2::Ask { ca_file, ..grants.ask.clone() };
                oauth2::destination_account(&ask, &state).map(Read::Account).map_err(|fault| fault.detail)
            }
            None => from.reveal(|secret| secret.reveal()).map(Read::Secrets),
        });
        let known = reading.await.unwrap_or_else(|_| Err("reading it was broken off".to_owned()));
        let known = known.map_err(|detail| Verdict::new(Class::Pause, Reason::Unauthorized, detail))?;
        *read = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    /// They were refused: read anew before the next request.
    pub(super) async fn forget(&self) {
        *self.read.lock().await = None;
    }
}

fn header(to: &Destination, secrets: &[SecretString], request: &Request) -> Vec<(String, SecretString)> {
    to.credential(secrets, request).map(|c| (c.name, c.value)).into_iter().collect()
}

async fn with_token(
    to: &Destination,
    http: &HttpSender,
    request: &Request,
    token: &Token,
) -> Result<Response, Verdict> {
    let headers = header(to, std::slice::from_ref(&token.secret), request);
    match &token.base {
        Some(base) => http.send(&to.moved(request, base), &headers).await,
        None => http.send(request, &headers).await,
    }
}

/// A refusal is the configuration's; the rest passes, and comes back when the endpoint is asked again.
fn no_token(fault: oauth2::Fault) -> Verdict {
    let class = match fault.reason {
        Reason::Unauthorized | Reason::Tls => Class::Pause,
        _ => Class::Retry,
    };
    let mut verdict = Verdict::new(class, fault.reason, fault.detail);
    verdict.retry_after = fault.wait;
    verdict
}

#[cfg(test)]
mod tests;
