//! From settings to a connection that is logged in: dial, TLS or STARTTLS, LOGIN or AUTHENTICATE
//! (PLAIN, or OAUTHBEARER and XOAUTH2 with a token; RFC 4959 where offered).
//!
//! The lines before the login are read here, not by the client library, because STARTTLS must not let one
//! byte of the clear text into the secured stream (RFC 8314, CVE-2011-0411). Credentials never go over a
//! network in clear, and LOGINDISABLED is heeded (RFC 3501 section 6.2.3).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_imap::error::Error;
use async_imap::{Authenticator, Client};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::capabilities::Capabilities;
use super::connection::{Connection, said, silence};
use super::settings::{Settings, Tls};
use super::wire::Wire;
use crate::oauth2;
use crate::oauth2::sasl::{self, Mechanism};
use crate::outcome::Reason;
use crate::source::Fault;
use crate::source::tls::{self, Duplex};
use crate::tls::is_loopback;

/// No greeting, capability or STARTTLS answer is longer.
const LONGEST_LINE: usize = 16 << 10;

/// The step at which credentials are shown.
const LOGIN: &str = "login";

/// How the account is proved.
enum Credentials {
    Password(SecretString),
    Bearer(Arc<oauth2::Account>, oauth2::Token),
}

/// Connects, secures and logs in. `trust` is made at the first call and kept. A token that was used before and is
/// refused now is renewed once.
pub(super) async fn open(settings: &Settings, trust: &mut Option<TlsConnector>) -> Result<Connection, Fault> {
    let credentials = prepare(settings, trust).await?;
    match (attempt(settings, trust, &credentials).await, &credentials) {
        (Err(fault), Credentials::Bearer(account, token)) if is_of_the_token(&fault) => {
            account.forget(token).await;
            if !token.is_reused {
                return Err(fault);
            }
            let token = account.token().await.map_err(no_token)?;
            attempt(settings, trust, &Credentials::Bearer(account.clone(), token)).await
        }
        (result, _) => result,
    }
}

/// Whether a fault may be gone with another token: not if this one was not shown, nor if it was taken and only the
/// account is not its owner's (RFC 5530).
fn is_of_the_token(fault: &Fault) -> bool {
    fault.reason == Reason::Unauthorized && fault.step == LOGIN && !fault.detail.contains("[AUTHORIZATIONFAILED]")
}

async fn attempt(
    settings: &Settings,
    trust: &Option<TlsConnector>,
    credentials: &Credentials,
) -> Result<Connection, Fault> {
    let patience = settings.patience();
    let host = settings.host.trim();
    let stream = tls::dial(host, settings.port(), patience).await?;
    // Without a connector there is `tls = "none"`, which was checked to go to this machine.
    let (stream, capabilities): (Box<dyn Duplex>, _) = match (settings.tls, trust) {
        (Tls::Implicit, Some(connector)) => {
            greeted(Box::new(tls::secure(connector, stream, host, patience).await?), patience).await?
        }
        (Tls::Starttls, Some(connector)) => {
            let (mut clear, capabilities) = Opening::new(Box::new(stream), patience).greeting().await?;
            if !clear.learn(capabilities).await?.has("STARTTLS") {
                let detail = "the server does not offer STARTTLS; nothing was sent in clear".to_owned();
                return Err(Fault { reason: Reason::Tls, step: "starttls", detail });
            }
            clear.ask("starttls", "STARTTLS").await?;
            let stream = clear.into_stream("starttls")?;
            let mut secured = Opening::new(Box::new(tls::secure(connector, stream, host, patience).await?), patience);
            let capabilities = secured.learn(Capabilities::default()).await?;
            (secured.into_stream("capability")?, capabilities)
        }
        _ => greeted(Box::new(stream), patience).await?,
    };
    // Some room, because servers round the size of a message that they announce.
    let largest = settings.max_bytes + settings.max_bytes / 4 + (1 << 20);
    let client = Client::new(BufWriter::with_capacity(1024, Wire::new(stream, largest)));
    log_in(client, &capabilities, settings, credentials).await
}

/// Reads the password and the authorities: files and commands, so not on the runtime's own threads.
async fn prepare(settings: &Settings, trust: &mut Option<TlsConnector>) -> Result<Credentials, Fault> {
    if settings.tls == Tls::None && !is_loopback(settings.host.trim()) {
        let detail = "`tls = \"none\"` is only for this machine itself".to_owned();
        return Err(Fault { reason: Reason::Tls, step: "tls", detail });
    }
    let (password, oauth2) = (settings.password.clone(), settings.oauth2.clone());
    let wanted = settings.tls != Tls::None && trust.is_none();
    let ca_file = settings.ca_file.clone();
    let read = tokio::task::spawn_blocking(move || {
        let account = oauth2.as_ref().map(oauth2::account);
        let password = password.as_ref().filter(|_| account.is_none()).map(|secret| secret.reveal());
        (password, account, wanted.then(|| tls::connector(ca_file.as_deref())).transpose())
    });
    let (password, account, connector) = read.await.map_err(|_| Fault {
        reason: Reason::Tls,
        step: "tls",
        detail: "reading the authorities failed".to_owned(),
    })?;
    if let Some(connector) = connector? {
        *trust = Some(connector);
    }
    if let Some(account) = account {
        let account = account.map_err(no_token)?;
        let token = account.token().await.map_err(no_token)?;
        return Ok(Credentials::Bearer(account, token));
    }
    let password = password.unwrap_or_else(|| Err("neither `password` nor `oauth2` is there".to_owned()));
    let password = password.map_err(|detail| Fault { reason: Reason::Unauthorized, step: "password", detail })?;
    Ok(Credentials::Password(password))
}

fn no_token(fault: oauth2::Fault) -> Fault {
    Fault { reason: fault.reason, step: "token", detail: fault.detail }
}

async fn greeted(stream: Box<dyn Duplex>, patience: Duration) -> Result<(Box<dyn Duplex>, Capabilities), Fault> {
    let (mut opening, capabilities) = Opening::new(stream, patience).greeting().await?;
    let capabilities = opening.learn(capabilities).await?;
    Ok((opening.into_stream("capability")?, capabilities))
}

async fn log_in(
    client: Client<BufWriter<Wire>>,
    capabilities: &Capabilities,
    settings: &Settings,
    credentials: &Credentials,
) -> Result<Connection, Fault> {
    let (patience, user) = (settings.patience(), settings.user.as_str());
    let unauthorized = |step, detail: &str| Fault { reason: Reason::Unauthorized, step, detail: detail.to_owned() };
    let told = Told::default();
    let logged_in = match credentials {
        Credentials::Password(password) => {
            let plain = capabilities.has("AUTH=PLAIN");
            let disabled = capabilities.has("LOGINDISABLED");
            if disabled && !plain {
                return Err(unauthorized(
                    LOGIN,
                    "the server takes no password here (LOGINDISABLED, and no AUTH=PLAIN)",
                ));
            }
            let secret = password.expose_secret();
            // LOGIN takes quoted strings, which are ASCII; PLAIN is UTF-8 by its definition (RFC 4616).
            if plain && (disabled || !user.is_ascii() || !secret.is_ascii()) {
                timeout(patience, client.authenticate("PLAIN", Plain(format!("\0{user}\0{secret}")))).await
            } else {
                timeout(patience, client.login(user, secret)).await
            }
        }
        Credentials::Bearer(_, token) => {
            let Some(mechanism) = Mechanism::choose(|name| capabilities.has(&format!("AUTH={name}"))) else {
                let detail = "the server takes no token (neither AUTH=OAUTHBEARER nor AUTH=XOAUTH2); is OAuth allowed for IMAP there?";
                return Err(unauthorized("mechanism", detail));
            };
            if user.contains('\x01') {
                return Err(unauthorized("user", "`user` holds a control character"));
            }
            let initial = mechanism.initial(user, settings.host.trim(), settings.port(), token.secret.expose_secret());
            let (command, initial) = if capabilities.has("SASL-IR") {
                (format!("{} {}", mechanism.name(), STANDARD.encode(initial)), None)
            } else {
                (mechanism.name().to_owned(), Some(initial))
            };
            let bearer = Bearer { mechanism, initial, told: told.clone() };
            timeout(patience, client.authenticate(command, bearer)).await
        }
    };
    let imap = match logged_in {
        Ok(Ok(imap)) => imap,
        Ok(Err((error, _))) => {
            let mut fault = refused(error, user);
            if let Some(why) = told.lock().unwrap_or_else(PoisonError::into_inner).take() {
                fault.detail.push_str(&format!(" (it says of the token: {why})"));
            }
            return Err(fault);
        }
        Err(_) => return Err(silence(LOGIN, patience)),
    };
    let mut connection = Connection::new(imap, patience, user.to_owned());
    connection.learn_capabilities().await?;
    Ok(connection)
}

fn refused(error: Error, user: &str) -> Fault {
    let fault = |reason, detail: String| Fault { reason, step: LOGIN, detail };
    match error {
        Error::No(text) | Error::Bad(text) => {
            // The library wraps it as `code: …, info: Some("…")`.
            let text = text.split_once("info: ").map_or(text.as_str(), |(_, info)| info);
            let text = text.strip_prefix("Some(\"").and_then(|t| t.strip_suffix("\")")).unwrap_or(text);
            let overload = ["[UNAVAILABLE]", "[LIMIT]", "[INUSE]", "[THROTTLED]"].iter().any(|m| text.contains(m));
            let reason = if overload { Reason::Unavailable } else { Reason::Unauthorized };
            fault(reason, format!("the server refuses the login: {}", said(text, user)))
        }
        Error::Validate(_) => fault(Reason::Unauthorized, "the user or the password holds a line end".to_owned()),
        Error::Io(e) if e.kind() != std::io::ErrorKind::Other => {
            fault(Reason::ConnectionLost, format!("the connection broke: {}", e.kind()))
        }
        Error::ConnectionLost => fault(Reason::ConnectionLost, "the server closed the connection".to_owned()),
        _ => fault(Reason::UnexpectedReply, "a reply of the server can't be read".to_owned()),
    }
}

/// The one answer of SASL PLAIN.
struct Plain(String);

impl Authenticator for Plain {
    type Response = String;

    fn process(&mut self, _: &[u8]) -> String {
        std::mem::take(&mut self.0)
    }
}

/// What the server says against a token, for the fault.
type Told = Arc<Mutex<Option<String>>>;

/// The token, if it did not go with the command; then the answer to an error challenge.
struct Bearer {
    mechanism: Mechanism,
    initial: Option<String>,
    told: Told,
}

impl Authenticator for Bearer {
    type Response = String;

    fn process(&mut self, challenge: &[u8]) -> String {
        self.initial.take().unwrap_or_else(|| {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = sasl::error_in(challenge);
            self.mechanism.after_error().to_owned()
        })
    }
}

/// A connection before its login, line by line.
struct Opening {
    stream: Box<dyn Duplex>,
    read: Vec<u8>,
    patience: Duration,
}

impl Opening {
    fn new(stream: Box<dyn Duplex>, patience: Duration) -> Self {
        Self { stream, read: Vec::new(), patience }
    }

    /// Reads the greeting, which may bring the capabilities.
    async fn greeting(mut self) -> Result<(Self, Capabilities), Fault> {
        let step = "greeting";
        let line = self.line(step).await?;
        let mut words = line.splitn(3, ' ');
        let fault = |reason, detail| Err(Fault { reason, step, detail });
        match (words.next(), words.next().map(str::to_ascii_uppercase).as_deref()) {
            (Some("*"), Some("OK")) => Ok((self, Capabilities::in_line(&line))),
            (Some("*"), Some("BYE")) => {
                let text = said(words.next().unwrap_or_default(), "");
                fault(Reason::Unavailable, format!("the server sends us away: {text}"))
            }
            (Some("*"), Some("PREAUTH")) => {
                let detail = "the server took the connection for logged in already (PREAUTH)".to_owned();
                fault(Reason::UnexpectedReply, detail)
            }
            _ => fault(Reason::UnexpectedReply, "what answers at this port is no IMAP server".to_owned()),
        }
    }

    /// What the server can do: `known`, if it said so already, else asked.
    async fn learn(&mut self, known: Capabilities) -> Result<Capabilities, Fault> {
        if !known.is_empty() {
            return Ok(known);
        }
        let lines = self.ask("capability", "CAPABILITY").await?;
        Ok(lines.iter().map(|line| Capabilities::in_line(line)).find(|found| !found.is_empty()).unwrap_or_default())
    }

    /// One command and the lines up to its OK.
    async fn ask(&mut self, step: &'static str, command: &str) -> Result<Vec<String>, Fault> {
        let sent = self.stream.write_all(format!("P1 {command}\r\n").as_bytes()).await;
        sent.map_err(|e| Fault { reason: Reason::ConnectionLost, step, detail: e.to_string() })?;
        // A stream over TLS holds back what is not flushed.
        let sent = self.stream.flush().await;
        sent.map_err(|e| Fault { reason: Reason::ConnectionLost, step, detail: e.to_string() })?;
        let mut lines = Vec::new();
        for _ in 0..100 {
            let line = self.line(step).await?;
            match line.strip_prefix("P1 ") {
                Some(rest) if rest.get(..2).is_some_and(|word| word.eq_ignore_ascii_case("OK")) => return Ok(lines),
                Some(rest) => {
                    let reason = if step == "starttls" { Reason::Tls } else { Reason::UnexpectedReply };
                    let detail = format!("the server refuses {command}: {}", said(rest, ""));
                    return Err(Fault { reason, step, detail });
                }
                None => lines.push(line),
            }
        }
        Err(Fault { reason: Reason::UnexpectedReply, step, detail: "the server does not come to an end".to_owned() })
    }

    async fn line(&mut self, step: &'static str) -> Result<String, Fault> {
        let fault = |reason, detail: &str| Fault { reason, step, detail: detail.to_owned() };
        let reading = async {
            loop {
                if let Some(end) = memchr::memchr(b'\n', &self.read) {
                    let line: Vec<u8> = self.read.drain(..=end).collect();
                    return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                if self.read.len() > LONGEST_LINE {
                    return Err(fault(Reason::UnexpectedReply, "what answers at this port is no IMAP server"));
                }
                match self.stream.read_buf(&mut self.read).await {
                    Ok(0) => return Err(fault(Reason::ConnectionLost, "the server closed the connection")),
                    Ok(_) => {}
                    Err(e) => return Err(fault(Reason::ConnectionLost, &e.to_string())),
                }
            }
        };
        timeout(self.patience, reading).await.unwrap_or_else(|_| Err(silence(step, self.patience)))
    }

    /// The stream itself; an error if the server has said more than it was asked.
    fn into_stream(self, step: &'static str) -> Result<Box<dyn Duplex>, Fault> {
        if self.read.is_empty() {
            return Ok(self.stream);
        }
        let detail = "the server sent more than it was asked for before the login".to_owned();
        Err(Fault { reason: if step == "starttls" { Reason::Tls } else { Reason::UnexpectedReply }, step, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_blamed_only_for_what_another_one_may_mend() {
        let refusal = |text: &str| refused(Error::No(format!("code: None, info: Some(\"{text}\")")), "pia@x");
        assert!(is_of_the_token(&refusal("[AUTHENTICATIONFAILED] invalid credentials")));
        assert!(is_of_the_token(&refusal("AUTHENTICATE failed.")));
        assert!(!is_of_the_token(&refusal("[AUTHORIZATIONFAILED] not yours")));
        assert!(!is_of_the_token(&refusal("[UNAVAILABLE] later")));
        assert!(!is_of_the_token(&Fault { step: "mechanism", ..refusal("none fits") }));
    }

    #[test]
    fn a_refusal_keeps_the_servers_words_and_loses_the_name() {
        let error = Error::No("code: None, info: Some(\"[AUTHENTICATIONFAILED] pia@x is wrong\")".into());
        let fault = refused(error, "pia@x");
        assert_eq!(fault.reason, Reason::Unauthorized);
        assert_eq!(fault.detail, "the server refuses the login: [AUTHENTICATIONFAILED] … is wrong");
    }
}
