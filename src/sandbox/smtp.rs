//! The mail intake's dialogue (RFC 5321, with PIPELINING, SIZE, 8BITMIME, SMTPUTF8, enhanced status codes):
//! a TCP connection into messages for `mail`.
//!
//! A message ends at CR LF `.` CR LF and nowhere else: a dot between bare line feeds is content, so nothing
//! can be smuggled behind it. Lines, recipients, messages, connections and waiting have caps. It relays
//! nothing, and takes mail only for tickets that exist. Lines and messages are read as the source `smtp` reads them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::faults::Fault;
use super::{App, mail};
use crate::source::lines::{Body, Got, Lines};
use crate::source::smtp::path;

/// The largest message.
const MESSAGE: usize = 50 << 20;
/// The longest command line.
const COMMAND: usize = 2_048;
/// Recipients of one message.
const RECIPIENTS: usize = 100;
/// Connections at a time.
const CONNECTIONS: usize = 256;
/// How long a caller may think (RFC 5321 section 4.5.3.2).
const PATIENCE: Duration = Duration::from_secs(300);
/// Commands refused before the caller is sent away.
const MISTAKES: u32 = 50;

/// Serves until the sandbox stops.
pub(crate) async fn serve(listener: TcpListener, app: App) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let callers = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => break,
        };
        let Ok((mut stream, _addr)) = accepted else {
            // Out of file descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            let _gone = stream.write_all(b"421 4.3.2 too many connections\r\n").await;
            continue;
        };
        let app = app.clone();
        callers.spawn(async move {
            let _seat = seat;
            tokio::select! {
                _gone = converse(stream, &app) => {}
                () = app.stopping.cancelled() => {}
            }
        });
    }
    callers.close();
    callers.wait().await;
}

async fn converse(mut stream: TcpStream, app: &App) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.split();
    let mut dialogue = Dialogue {
        app,
        lines: Lines::new(reader),
        writer,
        replies: Vec::new(),
        greeted: false,
        mail: None,
        mistakes: 0,
    };
    if matches!(dialogue.run().await?, Next::Reset) {
        stream.set_zero_linger()?;
    }
    Ok(())
}

/// What comes after a command.
#[derive(PartialEq, Eq)]
enum Next {
    Command,
    Close,
    Reset,
}

struct Dialogue<'a, R, W> {
    app: &'a App,
    lines: Lines<R>,
    writer: W,
    /// Replies not yet sent: commands that came together are answered together.
    replies: Vec<u8>,
    greeted: bool,
    /// The recipients, once there is a sender.
    mail: Option<Vec<String>>,
    mistakes: u32,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Dialogue<'_, R, W> {
    async fn run(&mut self) -> io::Result<Next> {
        self.reply(220, "sandbox CRM, mail intake ESMTP");
        loop {
            if !self.lines.has_line() {
                self.flush().await?;
            }
            let next = match timeout(PATIENCE, self.lines.next(COMMAND)).await {
                Err(_elapsed) => {
                    self.reply(421, "4.4.2 waited too long");
                    Next::Close
                }
                Ok(got) => match got? {
                    Got::End => Next::Close,
                    Got::Long => self.mistake(500, "5.5.2 line too long"),
                    Got::Line => self.command().await?,
                },
            };
            match next {
                Next::Command => {}
                Next::Close => {
                    self.flush().await?;
                    return Ok(Next::Close);
                }
                Next::Reset => return Ok(Next::Reset),
            }
        }
    }

    fn reply(&mut self, code: u16, text: &str) {
        self.replies.extend_from_slice(format!("{code} {text}\r\n").as_bytes());
    }

    fn mistake(&mut self, code: u16, text: &str) -> Next {
        self.mistakes += 1;
        if self.mistakes > MISTAKES {
            self.reply(421, "4.7.0 too many mistakes");
            return Next::Close;
        }
        self.reply(code, text);
        Next::Command
    }

    fn fine(&mut self, text: &str) -> Next {
        self.reply(250, text);
        Next::Command
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.replies.is_empty() {
            timeout(PATIENCE, self.writer.write_all(&self.replies)).await.map_err(io::Error::other)??;
            self.replies.clear();
        }
        self.writer.flush().await
    }

    async fn command(&mut self) -> io::Result<Next> {
        let line = String::from_utf8_lossy(&self.lines.line).into_owned();
        let Some(line) = line.strip_suffix("\r\n") else {
            return Ok(self.mistake(500, "5.5.2 lines end with CR LF"));
        };
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        Ok(match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" if argument.trim().is_empty() => self.mistake(501, "5.5.4 who is it?"),
            "EHLO" => {
                (self.greeted, self.mail) = (true, None);
                let text = format!(
                    "250-sandbox\r\n250-PIPELINING\r\n250-SIZE {MESSAGE}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                     250 ENHANCEDSTATUSCODES\r\n"
                );
                self.replies.extend_from_slice(text.as_bytes());
                Next::Command
            }
            "HELO" => {
                (self.greeted, self.mail) = (true, None);
                self.fine("sandbox")
            }
            "MAIL" => self.sender(argument),
            "RCPT" => self.recipient(argument),
            "DATA" => self.data().await?,
            "RSET" => {
                self.mail = None;
                self.fine("2.0.0 forgotten")
            }
            "NOOP" => self.fine("2.0.0 as you say"),
            "VRFY" => {
                self.reply(252, "2.5.2 send a message and see");
                Next::Command
            }
            "HELP" => {
                self.reply(214, "2.0.0 write to tickets+ID@any.domain or say [sandbox #ID] in the subject");
                Next::Command
            }
            "QUIT" => {
                self.reply(221, "2.0.0 goodbye");
                Next::Close
            }
            "AUTH" | "STARTTLS" | "EXPN" | "BDAT" => self.mistake(502, "5.5.1 not offered"),
            _ => self.mistake(500, "5.5.1 unknown command"),
        })
    }

    fn sender(&mut self, argument: &str) -> Next {
        if !self.greeted {
            return self.mistake(503, "5.5.1 say EHLO first");
        }
        if self.mail.is_some() {
            return self.mistake(503, "5.5.1 there is a sender already");
        }
        let Some((_address, parameters)) = path(argument, "FROM:") else {
            return self.mistake(501, "5.1.7 write MAIL FROM:<address>");
        };
        for parameter in parameters.split_ascii_whitespace() {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match (key.to_ascii_uppercase().as_str(), value.parse::<usize>()) {
                ("SIZE", Ok(size)) if size <= MESSAGE => {}
                ("SIZE", Ok(_)) => return self.mistake(552, "5.3.4 the message is too large"),
                ("BODY" | "SMTPUTF8", _) => {}
                _ => return self.mistake(555, "5.5.4 unknown parameter"),
            }
        }
        self.mail = Some(Vec::new());
        self.fine("2.1.0 go on")
    }

    fn recipient(&mut self, argument: &str) -> Next {
        let Some(count) = self.mail.as_ref().map(Vec::len) else {
            return self.mistake(503, "5.5.1 say MAIL first");
        };
        let address = match path(argument, "TO:") {
            Some((address, parameters)) if !address.is_empty() && parameters.trim().is_empty() => address,
            Some((address, _)) if !address.is_empty() => return self.mistake(555, "5.5.4 unknown parameter"),
            _ => return self.mistake(501, "5.1.3 write RCPT TO:<address>"),
        };
        if count >= RECIPIENTS {
            return self.mistake(452, "4.5.3 too many recipients");
        }
        if let Some(id) = mail::record_of(address)
            && let Err(rejection) = mail::addressee(&self.app.store, id)
        {
            let (code, enhanced) = rejection.codes();
            return self.mistake(code, &format!("{enhanced} {rejection}"));
        }
        if let Some(recipients) = &mut self.mail {
            recipients.push(address.to_owned());
        }
        self.fine("2.1.5 go on")
    }

    async fn data(&mut self) -> io::Result<Next> {
        let recipients = match &mut self.mail {
            Some(recipients) if !recipients.is_empty() => std::mem::take(recipients),
            _ => return Ok(self.mistake(503, "5.5.1 say RCPT first")),
        };
        self.mail = None;
        self.reply(354, "go on, and end with a dot on a line");
        self.flush().await?;
        let message = match self.lines.message(PATIENCE, |size| size <= MESSAGE).await? {
            Body::Whole(message) => message,
            Body::TooLarge => return Ok(self.mistake(552, "5.3.4 the message is too large")),
            Body::Endless | Body::Gone => return Ok(Next::Close),
        };
        let fault = self.app.injector.mail().fault;
        if let Some(Fault::MailStatus(code)) = fault {
            self.reply(code, &format!("{}.3.0 a fault as ordered", code / 100));
            return Ok(Next::Command);
        }
        let recorded = mail::deliver(&self.app.store, &message, Some(&recipients), Timestamp::now());
        if fault.is_some() {
            return Ok(Next::Reset);
        }
        Ok(match recorded {
            Ok(applied) => {
                let ids: Vec<_> = applied.into_iter().map(|applied| applied.id).collect();
                self.fine(&format!("2.0.0 recorded on {}", ids.join(", ")))
            }
            Err(rejection) => {
                let (code, enhanced) = rejection.codes();
                self.mistake(code, &format!("{enhanced} {rejection}"))
            }
        })
    }
}
