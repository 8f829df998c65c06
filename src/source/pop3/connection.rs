//! One connection to a POP3 server (RFC 1939, STLS of RFC 2595, response codes of RFC 3206): commands out, their
//! answers in, each with a deadline and a cap.
//!
//! Nothing that a server says is believed without a limit: lines, listings and messages have caps, and a message
//! may be larger or smaller than it was announced. The password goes over TLS, or to this machine itself.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::settings::Settings;
use crate::outcome::Reason;
use crate::source::Fault;
use crate::source::imap::{Tls, said, silence};
use crate::source::lines::{Body, Got, Lines};
use crate::source::tls::{self, Duplex};

/// No answer's first line is longer, and no line of a listing.
const LINE: usize = 2_048;
/// A mailbox with more messages is not read.
const MESSAGES: usize = 2_000_000;
/// A listing with more bytes is not kept.
const LISTING: u64 = 96 << 20;
/// The slowest line that is borne, in bytes a second, beside `timeout_seconds`.
const SLOWEST: u64 = 16 << 10;

/// A connection that is logged in.
pub(super) struct Connection {
    lines: Lines<Box<dyn Duplex>>,
    patience: Duration,
    user: String,
}

/// The password, and what is trusted, read anew for each connection or kept.
pub(super) async fn open(settings: &Settings, trust: &mut Option<TlsConnector>) -> Result<Connection, Fault> {
    let patience = settings.patience();
    let password = prepare(settings, trust).await?;
    let host = settings.host.trim();
    let stream = tls::dial(host, settings.port(), patience).await?;
    // Without a connector there is `tls = "none"`, which was checked to go to this machine.
    let stream: Box<dyn Duplex> = match (settings.tls, &*trust) {
        (Tls::Implicit, Some(connector)) => Box::new(tls::secure(connector, stream, host, patience).await?),
        (Tls::Starttls, Some(connector)) => {
            let mut clear = Connection::new(Box::new(stream), settings);
            clear.greeting().await?;
            clear.command("starttls", "STLS").await.map_err(|fault| match fault.reason {
                Reason::UnexpectedReply => {
                    let detail = format!("the server takes no STLS; nothing was sent in clear: {}", fault.detail);
                    Fault { reason: Reason::Tls, detail, ..fault }
                }
                _ => fault,
            })?;
            // What came in clear behind the answer must not be taken for what comes secured.
            let stream = clear.lines.into_stream().ok_or_else(|| Fault {
                reason: Reason::Tls,
                step: "starttls",
                detail: "the server sent more than it was asked for before TLS".to_owned(),
            })?;
            Box::new(tls::secure(connector, stream, host, patience).await?)
        }
        _ => Box::new(stream),
    };
    let mut connection = Connection::new(stream, settings);
    if settings.tls != Tls::Starttls {
        connection.greeting().await?;
    }
    connection.log_in(&password).await?;
    Ok(connection)
}

/// Reads the password and the authorities: files and commands, so not on the runtime's own threads.
async fn prepare(settings: &Settings, trust: &mut Option<TlsConnector>) -> Result<SecretString, Fault> {
    let wanted = settings.tls != Tls::None && trust.is_none();
    let (secret, ca_file) = (settings.password.clone(), settings.ca_file.clone());
    let read = super::super::blocking(move || {
        Ok((secret.reveal(), wanted.then(|| tls::connector(ca_file.as_deref())).transpose()))
    });
    let (password, connector) = read.await.map_err(|error| Fault {
        reason: Reason::Tls,
        step: "tls",
        detail: format!("reading the authorities failed: {error}"),
    })?;
    if let Some(connector) = connector? {
        *trust = Some(connector);
    }
    password.map_err(|detail| Fault { reason: Reason::Unauthorized, step: "password", detail })
}

impl Connection {
    fn new(stream: Box<dyn Duplex>, settings: &Settings) -> Self {
        Self { lines: Lines::new(stream), patience: settings.patience(), user: settings.user.clone() }
    }

    async fn greeting(&mut self) -> Result<(), Fault> {
        let step = "greeting";
        self.answer(step).await.map(drop).map_err(|fault| match fault.reason {
            Reason::UnexpectedReply if fault.detail.starts_with("the server refuses") => {
                Fault { reason: Reason::Unavailable, ..fault }
            }
            _ => fault,
        })
    }

    async fn log_in(&mut self, password: &SecretString) -> Result<(), Fault> {
        let refused = |fault: Fault| match fault.reason {
            // "Not now" has codes of its own (RFC 2449 and RFC 3206); the rest is about the account.
            Reason::UnexpectedReply if fault.detail.starts_with("the server refuses") => {
                let later = ["[IN-USE]", "[LOGIN-DELAY]", "[SYS/TEMP]"].iter().any(|code| fault.detail.contains(code));
                let reason = if later { Reason::Unavailable } else { Reason::Unauthorized };
                Fault { reason, ..fault }
            }
            _ => fault,
        };
        let password = password.expose_secret();
        if password.contains(['\r', '\n', '\0']) || self.user.contains(['\r', '\n', '\0']) {
            let detail = "the user or the password holds a line end".to_owned();
            return Err(Fault { reason: Reason::Unauthorized, step: "login", detail });
        }
        let user = format!("USER {}", self.user);
        self.command("login", &user).await.map_err(refused)?;
        self.command("login", &format!("PASS {password}")).await.map_err(refused)?;
        Ok(())
    }

    /// Sends a command and reads the first line of its answer.
    pub(super) async fn command(&mut self, step: &'static str, command: &str) -> Result<String, Fault> {
        let stream = self.lines.stream();
        let sending = async {
            stream.write_all(format!("{command}\r\n").as_bytes()).await?;
            stream.flush().await
        };
        match timeout(self.patience, sending).await {
            Ok(Ok(())) => self.answer(step).await,
            Ok(Err(e)) => Err(lost(step, &e.to_string())),
            Err(_) => Err(silence(step, self.patience)),
        }
    }

    async fn answer(&mut self, step: &'static str) -> Result<String, Fault> {
        let line = self.line(step).await?;
        let fault = |detail| Err(Fault { reason: Reason::UnexpectedReply, step, detail });
        match line.split_once(' ').map_or((line.as_str(), ""), |(word, rest)| (word, rest)) {
            ("+OK", rest) => Ok(rest.to_owned()),
            ("-ERR", rest) => fault(format!("the server refuses: {}", said(rest, &self.user))),
            _ => fault("what answers at this port is no POP3 server, or out of step".to_owned()),
        }
    }

    async fn line(&mut self, step: &'static str) -> Result<String, Fault> {
        match timeout(self.patience, self.lines.next(LINE)).await {
            Ok(Ok(Got::Line)) => Ok(String::from_utf8_lossy(&self.lines.line).trim_end().to_owned()),
            Ok(Ok(Got::Long)) => {
                let detail = format!("the server sent a line of more than {LINE} bytes");
                Err(Fault { reason: Reason::UnexpectedReply, step, detail })
            }
            Ok(Ok(Got::End)) => Err(lost(step, "the server closed the connection")),
            Ok(Err(e)) => Err(lost(step, &e.to_string())),
            Err(_) => Err(silence(step, self.patience)),
        }
    }

    /// A command whose answer is a list: message numbers, each with a word.
    async fn list(&mut self, step: &'static str, command: &str) -> Result<Vec<(u32, String)>, Fault> {
        self.command(step, command).await?;
        let fault = |detail: &str| Fault { reason: Reason::UnexpectedReply, step, detail: detail.to_owned() };
        // Steady dripping has an end as well.
        let begun = Instant::now();
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            let line = self.line(step).await?;
            if line == "." {
                return Ok(found);
            }
            bytes += line.len() as u64;
            if found.len() >= MESSAGES || bytes > LISTING {
                return Err(fault("the server's list of messages does not end"));
            }
            if begun.elapsed() > self.patience * 2 + Duration::from_secs(bytes / SLOWEST) {
                return Err(silence(step, self.patience));
            }
            let (number, word) = line.split_once(' ').unwrap_or((&line, ""));
            let number = number.parse().map_err(|_| fault("the server's list of messages can't be read"))?;
            found.push((number, word.trim().to_owned()));
        }
    }

    /// Message numbers with their UIDs.
    pub(super) async fn uids(&mut self) -> Result<Vec<(u32, String)>, Fault> {
        self.list("uidl", "UIDL").await.map_err(|fault| match fault.reason {
            Reason::UnexpectedReply if fault.detail.starts_with("the server refuses") => {
                let detail = format!("the server does not number its messages for good (UIDL): {}", fault.detail);
                Fault { detail, ..fault }
            }
            _ => fault,
        })
    }

    /// Message numbers with the sizes that the server says. What can't be read as a size is left out.
    pub(super) async fn sizes(&mut self) -> Result<Vec<(u32, u64)>, Fault> {
        let listed = self.list("list", "LIST").await?;
        Ok(listed.into_iter().filter_map(|(number, size)| Some((number, size.parse().ok()?))).collect())
    }

    /// A whole message, as long as it has no more than `largest` bytes.
    pub(super) async fn retrieve(&mut self, number: u32, largest: u64) -> Result<Body, Fault> {
        let step = "retr";
        self.command(step, &format!("RETR {number}")).await?;
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        // What follows the end of the message may be in the last piece.
        let reading = self.lines.message(self.patience, |size| size <= largest.saturating_add(8));
        let longest = self.patience * 2 + Duration::from_secs(largest as u64 / SLOWEST);
        match timeout_at(Instant::now() + longest, reading).await {
            Ok(Ok(Body::Gone)) => Err(lost(step, "the server fell silent or hung up within a message")),
            Ok(Ok(Body::Whole(raw))) if raw.len() > largest => Ok(Body::TooLarge),
            Ok(Ok(body)) => Ok(body),
            Ok(Err(e)) => Err(lost(step, &e.to_string())),
            Err(_) => Err(silence(step, longest)),
        }
    }

    /// Ends it; what was marked for deletion is deleted only now (RFC 1939 section 6).
    pub(super) async fn quit(mut self) -> Result<(), Fault> {
        self.command("quit", "QUIT").await.map(drop)
    }
}

/// The fault of a connection on which a message came to no end.
pub(super) fn endless() -> Fault {
    let detail = "a message came to no end, far beyond `max_bytes`".to_owned();
    Fault { reason: Reason::TooLarge, step: "retr", detail }
}

fn lost(step: &'static str, detail: &str) -> Fault {
    Fault { reason: Reason::ConnectionLost, step, detail: detail.to_owned() }
}
