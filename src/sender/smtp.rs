//! Sends one mail to a submission server (RFC 6409, RFC 5321; AUTH by RFC 4954) over lettre's connection.
//!
//! Every step has a deadline, and the number of connections a bound, neither of which lettre's own transport
//! has. The mail may have been taken without our knowing only from its final dot on; before that a lost
//! connection is certain. Server texts quote addresses, so verdicts carry codes alone.

mod dkim;
mod wire;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use dkim::DkimSettings;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use rustls::ClientConfig;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::seconds;
use crate::outcome::{Class, Reason, Verdict, of_smtp_code};
use crate::secret::Secret;
use crate::tls;
use crate::transport::is_loopback;

/// Connections to one server at a time, busy or idle.
const CONNECTIONS: usize = 4;
/// An idle connection older than this is not used again; servers wait 30 s to 5 minutes.
const IDLE: Duration = Duration::from_secs(20);
/// Mails over one connection; many servers end it after 100.
const MAILS: u32 = 100;
/// The transfer of the mail, with the server's answer to its final dot, may take this many times as long as
/// any other step: RFC 5321 section 4.5.3.2.6 asks for patience there, because a mail given up too early
/// arrives twice.
const MESSAGE_PATIENCE: u32 = 5;

/// How a connection gets its TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// `STARTTLS` on a clear connection, and nothing without it.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// No TLS: only for a server on this machine.
    None,
}

/// A mail server to send by.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    /// The server's name, as its certificate has it.
    pub host: String,
    /// Its port. Default: 587 with `starttls`, 465 with `implicit`, 25 with `none`.
    pub port: Option<u16>,
    /// `starttls` (default), `implicit`, or `none` for a server on this machine.
    #[serde(default)]
    pub tls: SmtpTls,
    /// The account to log in with; no login without.
    pub user: Option<String>,
    /// The account's password: `{ env = "…" }`, `{ file = "…" }` or `{ command = "…" }`.
    pub password: Option<Secret>,
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Seconds for each step of the dialogue; the transfer of the mail itself may take five times as long.
    #[serde(rename = "timeout_seconds", deserialize_with = "seconds::deserialize", default = "default_timeout")]
    #[schemars(with = "f64")]
    pub timeout: Duration,
    /// The name that this machine gives itself in `EHLO`. Default: its host name.
    pub hello_name: Option<String>,
    /// Signs the mails (DKIM). Leave it away if the server signs.
    #[serde(default)]
    pub dkim: Option<DkimSettings>,
}

fn default_timeout() -> Duration {
    Duration::from_secs(60)
}

impl SmtpSettings {
    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            SmtpTls::StartTls => 587,
            SmtpTls::Implicit => 465,
            SmtpTls::None => 25,
        })
    }

    /// What is wrong with the settings as they are: a sentence that names the key.
    fn fault(&self) -> Option<String> {
        if self.host.is_empty() || self.host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@') {
            return Some(format!("`host` has to be the name of a server, and `{}` is not one", self.host));
        }
        if self.tls == SmtpTls::None && !is_loopback(&self.host) {
            return Some("`tls = \"none\"` is only for a `host` on this machine".to_owned());
        }
        if self.user.is_some() != self.password.is_some() {
            return Some("`user` and `password` go together".to_owned());
        }
        let bad_hello = |name: &String| name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control());
        self.hello_name
            .as_ref()
            .is_some_and(bad_hello)
            .then(|| "`hello_name` has to be a host name or an address in brackets".to_owned())
    }
}

/// Sends mails by one server, over a few connections that are kept while there is work.
pub struct SmtpSender {
    settings: SmtpSettings,
    tls: Arc<ClientConfig>,
    hello: ClientId,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl fmt::Debug for SmtpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A connection that is logged in and has no mail under way.
struct Connection {
    smtp: AsyncSmtpConnection,
    since: Instant,
    mails: u32,
}

/// Where in the dialogue it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    StartTls,
    Auth,
    MailFrom,
    RcptTo,
    Data,
    Message,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the connection",
            Self::Hello => "`EHLO`",
            Self::StartTls => "`STARTTLS`",
            Self::Auth => "`AUTH`",
            Self::MailFrom => "`MAIL FROM`",
            Self::RcptTo => "`RCPT TO`",
            Self::Data => "`DATA`",
            Self::Message => "the mail",
        })
    }
}

/// Why a mail did not go.
struct Failed {
    verdict: Verdict,
    /// The kept connection was dead before this mail: a fresh one is worth a try.
    stale: bool,
    /// The server answered: the dialogue can go on after `RSET`.
    answered: bool,
}

/// A mail as the server gets it.
struct Outgoing<'a> {
    from: Option<Address>,
    to: Vec<Address>,
    bytes: Cow<'a, [u8]>,
}

impl SmtpSender {
    /// Reads `ca_file`; connects to nothing. The error is a sentence that names the key to change.
    pub fn new(settings: SmtpSettings) -> Result<Self, String> {
        if let Some(fault) = settings.fault() {
            return Err(fault);
        }
        let hello = settings.hello_name.clone().map_or_else(ClientId::default, ClientId::Domain);
        Ok(Self {
            tls: tls::client_config(settings.ca_file.as_deref())?,
            settings,
            hello,
            permits: Semaphore::new(CONNECTIONS),
            idle: Mutex::default(),
        })
    }

    /// The mail with its signature; none if it is to have none.
    async fn signed(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Verdict> {
        let Some(settings) = self.settings.dkim.clone() else { return Ok(None) };
        let mail = line_ends(bytes).into_owned();
        let signing = tokio::task::spawn_blocking(move || dkim::sign(&settings, &settings.key.reveal()?, &mail));
        signing
            .await
            .map_err(|_| Verdict::new(Class::Retry, Reason::Internal, "the signing was broken off"))?
            .map(Some)
            .map_err(|why| Verdict::new(Class::Pause, Reason::Unauthorized, why))
    }

    /// Sends one mail to all of `to`, or to none of them. An empty `from` is the null return path. `bytes` is the
    /// whole mail; bare line feeds become line ends.
    ///
    /// `Ok` means that the server took the responsibility. An `Err` is uncertain only if the connection was lost
    /// after the mail's final dot.
    pub async fn send(&self, from: &str, to: &[String], bytes: &[u8]) -> Result<(), Verdict> {
        let signed = self.signed(bytes).await?;
        let bytes = signed.as_deref().unwrap_or(bytes);
        let mail = Outgoing {
            from: if from.is_empty() { None } else { Some(address(from, "from")?) },
            to: to.iter().map(|to| address(to, "to")).collect::<Result<_, _>>()?,
            bytes: line_ends(bytes),
        };
        if mail.to.is_empty() {
            return Err(Verdict::new(Class::Dead, Reason::TemplateFailed, "the mail has no recipient"));
        }
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Verdict::new(Class::Retry, Reason::Interrupted, "the sender is closed"));
        };
        // A kept connection is probed by the mail's own first command: a lost MAIL FROM has no effect.
        if let Some(kept) = self.take() {
            match self.transact(kept, &mail).await {
                Err(failed) if failed.stale => {}
                other => return other.map_err(|failed| failed.verdict),
            }
        }
        let fresh = self.connect().await?;
        self.transact(fresh, &mail).await.map_err(|failed| failed.verdict)
    }

    /// Logs in and out again: what `check --online` needs.
    pub async fn probe(&self) -> Result<(), Verdict> {
        let mut connection = self.connect().await?;
        timeout(self.settings.timeout, connection.smtp.quit()).await.ok();
        Ok(())
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|c| c.since.elapsed() < IDLE);
        idle.pop()
    }

    fn keep(&self, mut connection: Connection) {
        if connection.mails < MAILS {
            connection.since = Instant::now();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, Verdict> {
        let SmtpSettings { host, tls, timeout: limit, .. } = &self.settings;
        let port = self.settings.port();
        let late = |what: &str| {
            let detail = format!("no {what} with the mail server {host}:{port} within {} s", limit.as_secs_f64());
            Verdict::new(Class::Retry, Reason::Unreachable, detail)
        };
        let mut stream = timeout(*limit, wire::connect(host, port)).await.map_err(|_| late("connection"))??;
        let wire = match tls {
            SmtpTls::None => wire::Wire::Clear(stream),
            SmtpTls::StartTls => {
                let hello = self.hello.to_string();
                timeout(*limit, wire::ask_for_tls(&mut stream, &hello)).await.map_err(|_| late("SMTP dialogue"))??;
                wire::Wire::upgraded(self.secure(stream).await.map_err(|e| e.unwrap_or_else(|| late("TLS")))?)
            }
            SmtpTls::Implicit => {
                wire::Wire::implicit(self.secure(stream).await.map_err(|e| e.unwrap_or_else(|| late("TLS")))?)
            }
        };
        let greeted = timeout(*limit, AsyncSmtpConnection::connect_with_transport(Box::new(wire), &self.hello)).await;
        let smtp = greeted.map_err(|_| late("SMTP dialogue"))?.map_err(|e| judge(Step::Greeting, &e, false))?;
        let mut connection = Connection { smtp, since: Instant::now(), mails: 0 };
        self.log_in(&mut connection.smtp).await?;
        Ok(connection)
    }

    /// `Err(None)`: not in time.
    async fn secure(
        &self,
        stream: tokio::net::TcpStream,
    ) -> Result<Box<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>, Option<Verdict>> {
        match timeout(self.settings.timeout, wire::secure(stream, &self.settings.host, self.tls.clone())).await {
            Ok(done) => done.map_err(Some),
            Err(_) => Err(None),
        }
    }

    async fn log_in(&self, smtp: &mut AsyncSmtpConnection) -> Result<(), Verdict> {
        let (Some(user), Some(password)) = (&self.settings.user, self.settings.password.clone()) else { return Ok(()) };
        if smtp.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let detail = "the mail server offers neither AUTH PLAIN nor AUTH LOGIN";
            return Err(Verdict::new(Class::Pause, Reason::Unauthorized, detail));
        }
        // A file or a command: it can block.
        let password = tokio::task::spawn_blocking(move || password.reveal())
            .await
            .map_err(|_| Verdict::new(Class::Retry, Reason::Internal, "the reading of the password was broken off"))?
            .map_err(|why| Verdict::new(Class::Pause, Reason::Unauthorized, why))?;
        let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
        match timeout(self.settings.timeout, smtp.auth(DEFAULT_MECHANISMS, &credentials)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(judge(Step::Auth, &error, false)),
            Err(_) => Err(self.late(Step::Auth, false)),
        }
    }

    /// One mail over a connection, which is kept afterwards if it still is good for another.
    async fn transact(&self, mut connection: Connection, mail: &Outgoing<'_>) -> Result<(), Failed> {
        connection.mails += 1;
        let result = self.dialogue(&mut connection.smtp, mail).await;
        match &result {
            Ok(()) => self.keep(connection),
            Err(failed) if failed.answered => {
                let reset = timeout(self.settings.timeout, connection.smtp.command(Rset)).await;
                if matches!(reset, Ok(Ok(_))) {
                    self.keep(connection);
                }
            }
            Err(_) => {}
        }
        result
    }

    async fn dialogue(&self, smtp: &mut AsyncSmtpConnection, mail: &Outgoing<'_>) -> Result<(), Failed> {
        let parameters = parameters(smtp, mail)?;
        self.step(Step::MailFrom, smtp.command(Mail::new(mail.from.clone(), parameters))).await?;
        for to in &mail.to {
            self.step(Step::RcptTo, smtp.command(Rcpt::new(to.clone(), Vec::new()))).await?;
        }
        self.step(Step::Data, smtp.command(Data)).await?;

        // lettre asks for the part after the last one just before it writes the final dot.
        let mut dotted = false;
        let mut parts = Some(mail.bytes.as_ref()).into_iter();
        let parts = std::iter::from_fn(|| {
            let part = parts.next();
            dotted = part.is_none();
            part
        });
        let sent = timeout(self.settings.timeout * MESSAGE_PATIENCE, smtp.message_iter(parts)).await;
        let verdict = match sent {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => {
                let answered = error.status().is_some();
                return Err(Failed { verdict: judge(Step::Message, &error, dotted), stale: false, answered });
            }
            Err(_) => self.late(Step::Message, dotted),
        };
        Err(Failed { verdict, stale: false, answered: false })
    }

    /// Waits for the answer to one command.
    async fn step<T>(&self, step: Step, command: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
        match timeout(self.settings.timeout, command).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let code = error.status().map(u16::from);
                // 421: the server ends an idle connection (RFC 5321 section 3.8).
                let stale = step == Step::MailFrom && code.is_none_or(|c| c == 421);
                let answered = code.is_some_and(|c| c != 421);
                Err(Failed { verdict: judge(step, &error, false), stale, answered })
            }
            Err(_) => Err(Failed { verdict: self.late(step, false), stale: false, answered: false }),
        }
    }

    fn late(&self, step: Step, uncertain: bool) -> Verdict {
        let detail = format!("the mail server did not answer to {step} in time");
        Verdict { uncertain, ..Verdict::new(Class::Retry, Reason::Timeout, detail) }
    }
}

fn address(text: &str, which: &str) -> Result<Address, Verdict> {
    text.parse().map_err(|_| {
        let detail = format!("what the mail has as its `{which}` is not an address");
        Verdict::new(Class::Dead, Reason::TemplateFailed, detail)
    })
}

/// What `MAIL FROM` has to announce (RFC 6152, RFC 6531), if the server takes it.
fn parameters(smtp: &AsyncSmtpConnection, mail: &Outgoing<'_>) -> Result<Vec<MailParameter>, Failed> {
    let refuse = |what: &str| {
        let detail = format!("the mail server does not take {what}");
        Failed { verdict: Verdict::new(Class::Dead, Reason::MailRefused, detail), stale: false, answered: true }
    };
    let mut parameters = Vec::new();
    if mail.from.iter().chain(&mail.to).any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(refuse("addresses outside ASCII (SMTPUTF8)"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !mail.bytes.is_ascii() {
        if !smtp.server_info().supports_feature(Extension::EightBitMime) {
            return Err(refuse("8-bit mails (8BITMIME)"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(parameters)
}

/// Every line end as CR LF (RFC 5321 section 2.3.8), and none at the end: lettre adds that one with the dot.
fn line_ends(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |b| b.strip_suffix(b"\r").unwrap_or(b));
    let mut last = 0u8;
    let mut clean = true;
    for &byte in bytes {
        clean &= (byte == b'\n') == (last == b'\r');
        last = byte;
    }
    if clean && last != b'\r' {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'\r' => {
                rest.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// What an error of lettre means at a step. `dotted`: the mail's final dot may have gone out.
fn judge(step: Step, error: &Error, dotted: bool) -> Verdict {
    if let Some(code) = error.status() {
        let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        return refusal(step, code.into(), &text);
    }
    if error.is_response() && std::error::Error::source(error).is_some_and(|e| e.to_string() != "incomplete response") {
        if step == Step::Greeting {
            let detail = "what listens at the mail server's `host` and `port` does not speak SMTP";
            return Verdict::new(Class::Pause, Reason::BadBaseUrl, detail);
        }
        let detail = format!("the mail server's answer to {step} is not one that SMTP knows");
        return Verdict { uncertain: dotted, ..Verdict::new(Class::Retry, Reason::UnexpectedReply, detail) };
    }
    if error.is_client() {
        let detail = format!("the mail server and this program don't agree on {step}");
        return match step {
            Step::Auth => Verdict::new(Class::Pause, Reason::Unauthorized, detail),
            _ => Verdict { uncertain: dotted, ..Verdict::new(Class::Retry, Reason::UnexpectedReply, detail) },
        };
    }
    let detail = format!("the connection to the mail server was lost at {step}");
    Verdict { uncertain: dotted, ..Verdict::new(Class::Retry, Reason::ConnectionLost, detail) }
}

/// What a negative reply means at a step. A refusal before there is a mail is not the mail's fault.
fn refusal(step: Step, code: u16, text: &str) -> Verdict {
    let mut verdict = of_smtp_code(code);
    match step {
        Step::Greeting | Step::Hello | Step::StartTls if verdict.class != Class::Retry => {
            (verdict.class, verdict.reason) = (Class::Pause, Reason::NotPermitted);
        }
        Step::Auth if verdict.class != Class::Retry => {
            (verdict.class, verdict.reason) = (Class::Pause, Reason::Unauthorized);
        }
        _ => {}
    }
    let enhanced = text.split_whitespace().next().filter(|word| is_enhanced_code(word));
    let enhanced = enhanced.map(|word| format!(" {word}")).unwrap_or_default();
    verdict.detail = format!("the mail server answered {code}{enhanced} to {step}");
    verdict
}

/// `5.7.1` and the like (RFC 3463).
fn is_enhanced_code(word: &str) -> bool {
    let mut parts = word.split('.');
    let mut part =
        |most| parts.next().is_some_and(|p| (1..=most).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    part(1) && part(3) && part(3) && parts.next().is_none()
}

#[cfg(test)]
mod tests;
