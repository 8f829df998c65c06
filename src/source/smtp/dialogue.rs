//! One caller's dialogue (RFC 5321 and RFC 2033, with PIPELINING, SIZE, 8BITMIME, SMTPUTF8, enhanced status
//! codes and STARTTLS of RFC 3207): commands in, replies and received mails out.
//!
//! What a mail server must never do is refused: commands sent in clear behind STARTTLS, recipients that are not
//! ours. A bare line feed, as scripts write it, is content: only CR LF `.` CR LF ends a message, and nothing is
//! passed on, so there is nothing to smuggle. Nothing of a mail is logged.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::settings::{Protocol, Settings, Tls};
use crate::digest::sha256;
use crate::source::gather::Counter;
use crate::source::lines::{Body, Got, Lines};
use crate::source::listen::{Certificate, Seats};
use crate::source::tls::Duplex;
use crate::source::{Content, Envelope, Peer, Received, Settled};

/// The longest command line.
const COMMAND: usize = 2_048;
/// Commands refused before the caller is sent away.
const MISTAKES: u32 = 20;
/// Commands in a row without a mail before the caller is sent away.
const IDLE_COMMANDS: u32 = 1_000;
/// The longest that one message may take, however steadily it drips.
const LONGEST: Duration = Duration::from_secs(1_800);

/// What all dialogues of a source share.
pub(super) struct Around {
    pub(super) settings: Settings,
    pub(super) certificate: Option<Certificate>,
    pub(super) counter: Counter,
    pub(super) seats: Seats,
    pub(super) stop: CancellationToken,
}

/// Speaks with a caller until one of the two has enough. What goes wrong on the wire concerns only the caller.
pub(super) async fn converse(stream: TcpStream, ip: IpAddr, around: &Around) {
    // Replies are small and whole; not fatal if refused.
    let _slower = stream.set_nodelay(true);
    let implicit = around.settings.tls == Tls::Implicit;
    let stream: Option<Box<dyn Duplex>> = match implicit {
        true => secured(Box::new(stream), around).await,
        false => Some(Box::new(stream)),
    };
    let Some(stream) = stream else { return };
    let mut dialogue = Dialogue {
        around,
        ip: ip.to_canonical(),
        lines: Lines::new(stream),
        replies: Vec::new(),
        secured: implicit,
        helo: None,
        mail: None,
        mistakes: 0,
        idle: 0,
    };
    let host = &around.settings.hostname;
    dialogue.reply(
        220,
        &match around.settings.protocol {
            Protocol::Smtp => format!("{host} ESMTP"),
            Protocol::Lmtp => format!("{host} LMTP"),
        },
    );
    loop {
        match dialogue.run().await {
            Ok(Next::Secure) => {
                // What came in clear behind the command is not taken for what comes secured.
                let Some(stream) = dialogue.lines.into_stream() else { return };
                let Some(stream) = secured(stream, around).await else { return };
                dialogue = Dialogue {
                    lines: Lines::new(stream),
                    replies: Vec::new(),
                    secured: true,
                    helo: None,
                    mail: None,
                    ..dialogue
                };
            }
            Ok(_) | Err(_) => return,
        }
    }
}

async fn secured(stream: Box<dyn Duplex>, around: &Around) -> Option<Box<dyn Duplex>> {
    let acceptor = match around.certificate.as_ref()?.acceptor() {
        Ok(acceptor) => acceptor,
        Err(fault) => {
            tracing::error!(%fault, "a caller could not be served");
            return None;
        }
    };
    let secured = timeout(around.settings.patience(), acceptor.accept(stream)).await.ok()?;
    Some(Box::new(secured.ok()?))
}

/// What comes after a command.
#[derive(PartialEq, Eq)]
enum Next {
    Command,
    Secure,
    Close,
}

/// A mail on its way: from MAIL to the end of DATA.
struct Mail {
    sender: String,
    recipients: Vec<String>,
}

struct Dialogue<'a> {
    around: &'a Around,
    ip: IpAddr,
    lines: Lines<Box<dyn Duplex>>,
    /// Replies not yet sent: commands that came together are answered together.
    replies: Vec<u8>,
    secured: bool,
    helo: Option<String>,
    mail: Option<Mail>,
    mistakes: u32,
    idle: u32,
}

impl Dialogue<'_> {
    async fn run(&mut self) -> io::Result<Next> {
        loop {
            if !self.lines.has_line() {
                self.flush().await?;
            }
            let next = self.next().await?;
            if next != Next::Command {
                self.flush().await?;
                if next == Next::Close {
                    // So that TLS says its goodbye; the caller may have hung up already.
                    let _gone = timeout(Duration::from_secs(1), self.lines.stream().shutdown()).await;
                }
                return Ok(next);
            }
        }
    }

    async fn next(&mut self) -> io::Result<Next> {
        let around = self.around;
        let reading = timeout(around.settings.patience(), self.lines.next(COMMAND));
        match around.stop.run_until_cancelled(reading).await {
            None => Ok(self.farewell("421 4.3.2 the service is stopping")),
            Some(Err(_elapsed)) => Ok(self.farewell("421 4.4.2 waited too long")),
            Some(Ok(got)) => match got? {
                Got::End => Ok(Next::Close),
                Got::Long => Ok(self.mistake(500, "5.5.2 line too long")),
                Got::Line => self.command().await,
            },
        }
    }

    fn reply(&mut self, code: u16, text: &str) {
        self.replies.extend_from_slice(format!("{code} {text}\r\n").as_bytes());
    }

    fn fine(&mut self, text: &str) -> Next {
        self.reply(250, text);
        Next::Command
    }

    fn farewell(&mut self, line: &str) -> Next {
        self.replies.extend_from_slice(format!("{line}\r\n").as_bytes());
        Next::Close
    }

    fn mistake(&mut self, code: u16, text: &str) -> Next {
        self.mistakes += 1;
        if self.mistakes > MISTAKES {
            return self.farewell("421 4.7.0 too many mistakes");
        }
        self.reply(code, text);
        Next::Command
    }

    async fn flush(&mut self) -> io::Result<()> {
        let replies = std::mem::take(&mut self.replies);
        let stream = self.lines.stream();
        let sending = async {
            stream.write_all(&replies).await?;
            stream.flush().await
        };
        timeout(self.around.settings.patience(), sending).await.map_err(io::Error::other)?
    }

    async fn command(&mut self) -> io::Result<Next> {
        self.idle += 1;
        if self.idle > IDLE_COMMANDS {
            return Ok(self.farewell("421 4.7.0 too many commands without a mail"));
        }
        let line = std::mem::take(&mut self.lines.line);
        let Some(line) = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()) else {
            return Ok(self.mistake(500, "5.5.2 a command is a line in UTF-8 that ends with CR LF"));
        };
        if line.contains(['\r', '\0']) {
            return Ok(self.mistake(500, "5.5.2 a command has no control characters"));
        }
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        let lmtp = self.around.settings.protocol == Protocol::Lmtp;
        let unsafe_yet = self.around.settings.tls == Tls::StarttlsRequired && !self.secured;
        Ok(match verb.as_str() {
            "EHLO" | "HELO" if lmtp => self.mistake(500, "5.5.1 this is LMTP: say LHLO"),
            "LHLO" if !lmtp => self.mistake(500, "5.5.1 this is SMTP: say EHLO"),
            "EHLO" | "HELO" | "LHLO" => self.greet(&verb, argument.trim()),
            "STARTTLS" => self.start_tls(argument),
            "NOOP" => self.fine("2.0.0 fine"),
            "QUIT" => self.farewell("221 2.0.0 goodbye"),
            "RSET" => {
                self.mail = None;
                self.fine("2.0.0 forgotten")
            }
            "MAIL" | "RCPT" | "DATA" if unsafe_yet => self.mistake(530, "5.7.0 say STARTTLS first"),
            "MAIL" => self.sender(argument),
            "RCPT" => self.recipient(argument),
            "DATA" if !argument.is_empty() => self.mistake(501, "5.5.4 DATA takes no argument"),
            "DATA" => self.data().await?,
            "VRFY" => {
                self.reply(252, "2.5.2 send a mail and see");
                Next::Command
            }
            "HELP" => {
                self.reply(214, "2.0.0 see RFC 5321");
                Next::Command
            }
            "AUTH" | "EXPN" | "BDAT" | "TURN" | "ETRN" => self.mistake(502, "5.5.1 not offered"),
            _ => self.mistake(500, "5.5.1 unknown command"),
        })
    }

    fn greet(&mut self, verb: &str, name: &str) -> Next {
        if name.is_empty() {
            return self.mistake(501, "5.5.4 who is it?");
        }
        (self.helo, self.mail) = (Some(name.to_owned()), None);
        let settings = &self.around.settings;
        if verb == "HELO" {
            let host = settings.hostname.clone();
            return self.fine(&host);
        }
        let starttls = match settings.tls {
            Tls::Starttls | Tls::StarttlsRequired if !self.secured => "250-STARTTLS\r\n",
            _ => "",
        };
        let text = format!(
            "250-{}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n{starttls}\
             250 ENHANCEDSTATUSCODES\r\n",
            settings.hostname, settings.max_bytes
        );
        self.replies.extend_from_slice(text.as_bytes());
        Next::Command
    }

    fn start_tls(&mut self, argument: &str) -> Next {
        match self.around.settings.tls {
            Tls::Starttls | Tls::StarttlsRequired if self.secured => self.mistake(503, "5.5.1 it is secured already"),
            Tls::Starttls | Tls::StarttlsRequired if !argument.is_empty() => {
                self.mistake(501, "5.5.4 STARTTLS takes no argument")
            }
            Tls::Starttls | Tls::StarttlsRequired => {
                self.reply(220, "2.0.0 go ahead");
                Next::Secure
            }
            Tls::None | Tls::Implicit => self.mistake(502, "5.5.1 not offered"),
        }
    }

    fn sender(&mut self, argument: &str) -> Next {
        if self.helo.is_none() {
            return self.mistake(503, "5.5.1 say who you are first");
        }
        if self.mail.is_some() {
            return self.mistake(503, "5.5.1 there is a sender already");
        }
        let Some((address, parameters)) = path(argument, "FROM:") else {
            return self.mistake(501, "5.1.7 write MAIL FROM:<address>");
        };
        for parameter in parameters.split_ascii_whitespace() {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (key.to_ascii_uppercase().as_str(), value.to_ascii_uppercase().as_str()) {
                ("SIZE", size) => match size.parse::<u64>() {
                    Ok(size) if size <= self.around.settings.max_bytes as u64 => {}
                    Ok(_) => return self.mistake(552, "5.3.4 the message is too large"),
                    Err(_) => return self.mistake(501, "5.5.4 SIZE is a number"),
                },
                ("BODY", "7BIT" | "8BITMIME") | ("SMTPUTF8", "") => {}
                _ => return self.mistake(555, "5.5.4 unknown parameter"),
            }
        }
        self.mail = Some(Mail { sender: address.to_owned(), recipients: Vec::new() });
        self.fine("2.1.0 go on")
    }

    fn recipient(&mut self, argument: &str) -> Next {
        let settings = &self.around.settings;
        let Some(mail) = &mut self.mail else { return self.mistake(503, "5.5.1 say MAIL first") };
        let address = match path(argument, "TO:") {
            Some((address, parameters)) if !address.is_empty() && parameters.trim().is_empty() => address,
            Some((address, _)) if !address.is_empty() => return self.mistake(555, "5.5.4 unknown parameter"),
            _ => return self.mistake(501, "5.1.3 write RCPT TO:<address>"),
        };
        if !settings.takes(address) {
            return self.mistake(550, "5.1.1 no mail is taken for this recipient");
        }
        if mail.recipients.len() >= settings.max_recipients {
            return self.mistake(452, "4.5.3 too many recipients");
        }
        mail.recipients.push(address.to_owned());
        self.fine("2.1.5 go on")
    }

    async fn data(&mut self) -> io::Result<Next> {
        let mail = match self.mail.take() {
            Some(mail) if !mail.recipients.is_empty() => mail,
            mail => {
                self.mail = mail;
                return Ok(self.mistake(503, "5.5.1 no recipient was accepted"));
            }
        };
        self.reply(354, "go on, and end with a dot on a line");
        self.flush().await?;
        let settings = &self.around.settings;
        let mut room = self.around.seats.room();
        let mut crowded = false;
        let fits = |size| {
            // An end may be in what was read: the last few bytes are not the message's.
            if size > settings.max_bytes + 8 {
                return false;
            }
            crowded = !room.grow(size);
            !crowded
        };
        let reading = self.lines.message(settings.patience(), fits);
        let Ok(body) = timeout_at(Instant::now() + LONGEST, reading).await else { return Ok(Next::Close) };
        let reply = match body? {
            Body::Gone | Body::Endless => return Ok(Next::Close),
            Body::TooLarge if crowded => (452, "4.3.1 no room for it now, try again later"),
            Body::TooLarge => (552, "5.3.4 the message is too large"),
            Body::Whole(raw) if raw.len() > settings.max_bytes => (552, "5.3.4 the message is too large"),
            Body::Whole(raw) => {
                self.idle = 0;
                match self.around.counter.take(self.received(raw, &mail)).await.0 {
                    Settled::Accepted => (250, "2.0.0 safely taken"),
                    Settled::Refused(_) => (250, "2.0.0 safely kept, for a person to look at"),
                    // The cause is in our log; it is none of the caller's business.
                    Settled::TryAgain(_) => (451, "4.3.0 not taken now, try again later"),
                }
            }
        };
        // LMTP answers once for each recipient that it accepted (RFC 2033 section 4.2).
        let replies = if settings.protocol == Protocol::Lmtp { mail.recipients.len() } else { 1 };
        for _ in 0..replies {
            self.reply(reply.0, reply.1);
        }
        Ok(Next::Command)
    }

    /// The mail with its envelope. Its name is made of both, so that the same mail sent again is known, and
    /// the same text under another envelope is not taken for it.
    fn received(&self, raw: Vec<u8>, mail: &Mail) -> Received {
        let helo = self.helo.clone().unwrap_or_default();
        let about = format!("{}\0{}\0{}\0{}", sha256(&raw), self.ip, mail.sender, mail.recipients.join("\0"));
        let name = sha256(about.as_bytes());
        Received {
            input: format!("mail-{}", name.get(..16).unwrap_or(&name)),
            content: Content::Mail(raw.into()),
            envelope: Envelope {
                sender: Some(mail.sender.clone()),
                recipients: mail.recipients.clone(),
                peer: Some(Peer { address: self.ip, helo }),
            },
            received_at: None,
        }
    }
}

/// `FROM:<address> PARAMETERS` into its parts. A source route (RFC 5321 appendix C) is dropped.
pub(crate) fn path<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('<')?;
    // A quoted local part may hold the sign that ends the address.
    let mut quoted = false;
    let mut escaped = false;
    let end = rest.find(|c| {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' => return !quoted,
            _ => {}
        }
        false
    })?;
    let (address, parameters) = (rest.get(..end)?, rest.get(end + 1..)?);
    let address = match address.strip_prefix('@') {
        Some(route) => route.split_once(':')?.1,
        None => address,
    };
    (parameters.is_empty() || parameters.starts_with(' ')).then_some((address, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_with_their_parameters() {
        assert_eq!(path("FROM:<a@b> SIZE=3", "FROM:"), Some(("a@b", " SIZE=3")));
        assert_eq!(path("from: <>", "FROM:"), Some(("", "")));
        assert_eq!(path("TO:<@relay:c@d>", "TO:"), Some(("c@d", "")));
        assert_eq!(path("TO:<\"a>\\\"b\"@d>", "TO:"), Some(("\"a>\\\"b\"@d", "")));
        for wrong in ["TO:c@d", "é", "TO:<a@b", "TO:<a@b>x", ""] {
            assert_eq!(path(wrong, "TO:"), None, "{wrong}");
        }
    }
}
