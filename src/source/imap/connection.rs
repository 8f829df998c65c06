//! Commands and answers on one connection (RFC 3501), each with a deadline, as far as this source needs them.
//!
//! The client library parses; the tagged results are judged here, because its own helpers take a NO for the
//! end of the data. After any `Fault` the place in the stream is unknown: drop the connection. Texts of the
//! server go into faults without addresses and without the account's name.

use std::io;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Response, ResponseCode, Status};
use async_imap::{Session, error::Error};
use futures_util::FutureExt;
use tokio::io::BufWriter;
use tokio::time::timeout;
use tracing::debug;

use super::capabilities::Capabilities;
use super::mailbox::quoted;
use super::wire::{TooLong, Wire, too_long};
use crate::outcome::Reason;
use crate::source::Fault;

/// The slowest line that is borne for long answers, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// A connection that is logged in.
pub(super) struct Connection {
    imap: Session<BufWriter<Wire>>,
    capabilities: Capabilities,
    patience: Duration,
    user: String,
    /// How many messages the selected mailbox holds, as last told.
    exists: u32,
    /// Whether that grew since `news` was asked last.
    grew: bool,
    /// Whether the server told of another mailbox by itself since `news_elsewhere` was asked last.
    elsewhere: bool,
    /// The size of the literal that was refused last, if one was.
    refused_literal: Option<u64>,
}

/// The tagged result of a command.
#[derive(Debug)]
pub(super) struct Answer {
    /// Yes, or NO or BAD.
    pub(super) ok: bool,
    /// BAD: the server does not know such a command.
    pub(super) is_bad: bool,
    /// What the server says about it, without addresses.
    pub(super) text: String,
    /// `[TRYCREATE]`.
    pub(super) try_create: bool,
    /// `[READ-ONLY]`.
    pub(super) read_only: bool,
}

impl Answer {
    /// Whether the server says that it, and not the command, is in trouble (RFC 5530, and what Microsoft
    /// and Google write when they throttle).
    pub(super) fn is_overload(&self) -> bool {
        let text = self.text.to_ascii_uppercase();
        ["[UNAVAILABLE]", "[LIMIT]", "[INUSE]", "[THROTTLED]", "[OVERQUOTA]", "BANDWIDTH LIMIT"]
            .iter()
            .any(|mark| text.contains(mark))
    }
}

/// A selected mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) uidvalidity: u32,
    /// The UID that comes next.
    pub(super) uid_next: u32,
    pub(super) exists: u32,
    pub(super) read_only: bool,
    /// The flags that can be kept, in upper case; `None` if the server does not say.
    pub(super) permanent_flags: Option<Vec<String>>,
    /// HIGHESTMODSEQ, if the server keeps one (RFC 7162).
    pub(super) modseq: Option<u64>,
}

impl Connection {
    pub(super) fn new(imap: Session<BufWriter<Wire>>, patience: Duration, user: String) -> Self {
        Self {
            imap,
            capabilities: Capabilities::default(),
            patience,
            user,
            exists: 0,
            grew: false,
            elsewhere: false,
            refused_literal: None,
        }
    }

    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(super) fn capabilities_mut(&mut self) -> &mut Capabilities {
        &mut self.capabilities
    }

    /// How many messages the mailbox holds, as last told.
    pub(super) fn exists(&self) -> u32 {
        self.exists
    }

    /// Whether the server told of more messages since this was asked last.
    pub(super) fn news(&mut self) -> bool {
        std::mem::take(&mut self.grew)
    }

    /// Whether the server told of another mailbox unasked (NOTIFY) since this was asked last.
    pub(super) fn news_elsewhere(&mut self) -> bool {
        std::mem::take(&mut self.elsewhere)
    }

    /// The size of the literal because of which the last command was given up.
    pub(super) fn refused_literal(&mut self) -> Option<u64> {
        self.refused_literal.take()
    }

    /// Runs a command to its tagged result. `bytes` is about what the answer holds, for the deadline;
    /// `each` sees every untagged response on the way.
    pub(super) async fn run(
        &mut self,
        step: &'static str,
        command: &str,
        bytes: u64,
        each: impl FnMut(&Response<'_>) + Send,
    ) -> Result<Answer, Fault> {
        let deadline = self.patience + Duration::from_secs(bytes / SLOWEST);
        match timeout(deadline, self.exchange(step, command, each)).await {
            Ok(result) => result,
            Err(_) => Err(silence(step, deadline)),
        }
    }

    async fn exchange(
        &mut self,
        step: &'static str,
        command: &str,
        mut each: impl FnMut(&Response<'_>) + Send,
    ) -> Result<Answer, Fault> {
        let tag = self.imap.run_command(command).await.map_err(|e| self.broken(step, e))?;
        let user = self.user.clone();
        loop {
            let read = |response: &Response<'_>| match response {
                Response::Done { tag: of, status, outcome } if *of == tag => Some(Answer {
                    ok: *status == Status::Ok,
                    is_bad: *status == Status::Bad,
                    text: said(outcome.information.as_deref().unwrap_or_default(), &user),
                    try_create: outcome.code == Some(ResponseCode::TryCreate),
                    read_only: outcome.code == Some(ResponseCode::ReadOnly),
                }),
                other => {
                    each(other);
                    None
                }
            };
            match self.next(step, self.patience, read).await? {
                Some(Some(answer)) => return Ok(answer),
                Some(None) => {}
                None => return Err(silence(step, self.patience)),
            }
        }
    }

    /// Reads the next response. `None`: not a byte came for so long. May be dropped without harm.
    pub(super) async fn next<R>(
        &mut self,
        step: &'static str,
        patience: Duration,
        read: impl FnOnce(&Response<'_>) -> R,
    ) -> Result<Option<R>, Fault> {
        loop {
            let before = self.imap.get_ref().get_ref().received();
            // The parser has places that panic on replies nobody should send; they end the connection only.
            let response = AssertUnwindSafe(self.imap.read_response()).catch_unwind();
            let response = match timeout(patience, response).await {
                Ok(Ok(Ok(Some(response)))) => response,
                Ok(Ok(Ok(None))) => return Err(lost(step, "the server closed the connection")),
                Ok(Ok(Err(e))) => return Err(self.broken(step, Error::Io(e))),
                Ok(Err(_panic)) => return Err(unreadable(step)),
                Err(_) if self.imap.get_ref().get_ref().received() > before => continue,
                Err(_) => return Ok(None),
            };
            let response = response.parsed();
            self.note(step, response);
            if let Response::Data { status: Status::Bye, outcome } = response
                && step != "logout"
            {
                let text = said(outcome.information.as_deref().unwrap_or_default(), &self.user);
                return Err(lost(step, &format!("the server ended it: {text}")));
            }
            return Ok(Some(read(response)));
        }
    }

    fn note(&mut self, step: &'static str, response: &Response<'_>) {
        match response {
            Response::MailboxData(MailboxDatum::Status { .. }) => self.elsewhere |= step != super::survey::STEP,
            Response::MailboxData(MailboxDatum::Exists(count)) => {
                self.grew |= *count > self.exists;
                self.exists = *count;
            }
            Response::Expunge(_) => self.exists = self.exists.saturating_sub(1),
            Response::Vanished { earlier: false, uids } => {
                let gone = uids.iter().map(|r| r.end().saturating_sub(*r.start()).saturating_add(1));
                self.exists = gone.fold(self.exists, u32::saturating_sub);
            }
            _ => {}
        }
    }

    /// Asks what the server can do, now that we are logged in.
    pub(super) async fn learn_capabilities(&mut self) -> Result<(), Fault> {
        let mut found: Vec<String> = Vec::new();
        self.run("capability", "CAPABILITY", 0, |response| {
            if let Response::Capabilities(list) = response {
                use async_imap::imap_proto::Capability;
                found.extend(list.iter().filter_map(|capability| match capability {
                    Capability::Atom(word) => Some(word.to_string()),
                    _ => None,
                }));
            }
        })
        .await?;
        self.capabilities = Capabilities::of(found.iter().map(String::as_str));
        // Some providers let no client read that has not said its name (RFC 2971).
        if self.capabilities.has("ID") {
            let id = concat!(r#"ID ("name" "mail2crm" "version" ""#, env!("CARGO_PKG_VERSION"), r#"")"#);
            let answer = self.run("id", id, 0, |_| {}).await?;
            if !answer.ok {
                debug!("the mail server does not want to know who we are: {}", answer.text);
            }
        }
        Ok(())
    }

    /// Opens a mailbox. The fault within is this mailbox's alone; none is open then.
    pub(super) async fn select(&mut self, name: &str, read_only: bool) -> Result<Result<Selected, Fault>, Fault> {
        // Without being asked Dovecot tells no HIGHESTMODSEQ.
        let asks = self.capabilities.has_modseq();
        let verb = if read_only { "EXAMINE" } else { "SELECT" };
        let command = format!("{verb} {}{}", quoted(name), if asks { " (CONDSTORE)" } else { "" });
        let (mut uidvalidity, mut uid_next, mut modseq, mut flags) = (None, None, None, None);
        self.exists = 0;
        let answer = self
            .run("select", &command, 0, |response| {
                if let Response::Data { status: Status::Ok, outcome } = response {
                    match &outcome.code {
                        Some(ResponseCode::UidValidity(value)) => uidvalidity = Some(*value),
                        Some(ResponseCode::UidNext(value)) => uid_next = Some(*value),
                        Some(ResponseCode::HighestModSeq(value)) => modseq = Some(*value).filter(|value| *value > 0),
                        Some(ResponseCode::PermanentFlags(list)) => {
                            flags = Some(list.iter().map(|flag| flag.to_ascii_uppercase()).collect());
                        }
                        _ => {}
                    }
                }
            })
            .await?;
        if answer.is_bad && asks {
            self.capabilities.forget(&["CONDSTORE", "QRESYNC"]);
            return Box::pin(self.select(name, read_only)).await;
        }
        let fault = |reason, detail| Fault { reason, step: "select", detail };
        if !answer.ok {
            let reason = if answer.is_overload() { Reason::Unavailable } else { Reason::NotPermitted };
            return Ok(Err(fault(reason, format!("the server does not open the mailbox `{name}`: {}", answer.text))));
        }
        self.grew = false;
        let Some(uidvalidity) = uidvalidity.filter(|v| *v > 0) else {
            let detail = "the server gives no UIDVALIDITY, so that messages can't be told apart".to_owned();
            return Ok(Err(fault(Reason::UnexpectedReply, detail)));
        };
        let uid_next = match uid_next {
            Some(uid) => uid,
            None => self.last_uid().await?.saturating_add(1),
        };
        Ok(Ok(Selected {
            uidvalidity,
            uid_next,
            exists: self.exists,
            read_only: read_only || answer.read_only,
            permanent_flags: flags,
            modseq,
        }))
    }

    /// The highest UID there is, for servers that don't say UIDNEXT; 0 in an empty mailbox.
    async fn last_uid(&mut self) -> Result<u32, Fault> {
        let mut last = 0;
        if self.exists > 0 {
            self.run("select", "UID FETCH * (UID)", 0, |response| {
                if let Response::Fetch(_, attributes) = response {
                    last = super::fetch::uid_of(attributes).unwrap_or(0).max(last);
                }
            })
            .await?;
        }
        Ok(last)
    }

    /// Starts IDLE (RFC 2177). False: the server does not want to.
    pub(super) async fn idle(&mut self) -> Result<bool, Fault> {
        let step = "idle";
        let tag = self.imap.run_command("IDLE").await.map_err(|e| self.broken(step, e))?;
        loop {
            let read = |response: &Response<'_>| match response {
                Response::Continue(_) => Some(true),
                Response::Done { tag: of, .. } if *of == tag => Some(false),
                _ => None,
            };
            match self.next(step, self.patience, read).await? {
                Some(Some(begun)) => return Ok(begun),
                Some(None) => {}
                None => return Err(silence(step, self.patience)),
            }
        }
    }

    /// Ends IDLE. The tagged result is awaited, so that the next command is not taken for part of it.
    pub(super) async fn done(&mut self) -> Result<(), Fault> {
        let step = "idle";
        self.imap.run_command_untagged("DONE").await.map_err(|e| self.broken(step, e))?;
        loop {
            match self.next(step, self.patience, |response| matches!(response, Response::Done { .. })).await? {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => return Err(silence(step, self.patience)),
            }
        }
    }

    /// Says goodbye; what the server thinks of it does not matter any more.
    pub(super) async fn logout(mut self) {
        let patience = self.patience.min(Duration::from_secs(2));
        if timeout(patience, self.exchange("logout", "LOGOUT", |_| {})).await.is_err() {
            debug!("the mail server did not answer to LOGOUT");
        }
    }

    // The library's error texts hold whole replies: nothing of them is passed on.
    fn broken(&mut self, step: &'static str, error: Error) -> Fault {
        let Error::Io(e) = error else { return unreadable(step) };
        match too_long(&e) {
            Some(TooLong::Literal(bytes)) => {
                self.refused_literal = Some(bytes);
                let detail = format!("the server announced {bytes} bytes at once, which is over the limit");
                Fault { reason: Reason::TooLarge, step, detail }
            }
            Some(TooLong::Line) => unreadable(step),
            None => match e.kind() {
                io::ErrorKind::UnexpectedEof => lost(step, "the server closed the connection within a reply"),
                io::ErrorKind::Other if e.raw_os_error().is_none() => unreadable(step),
                _ => lost(step, &e.to_string()),
            },
        }
    }
}

fn lost(step: &'static str, detail: &str) -> Fault {
    Fault { reason: Reason::ConnectionLost, step, detail: detail.to_owned() }
}

fn unreadable(step: &'static str) -> Fault {
    Fault { reason: Reason::UnexpectedReply, step, detail: "a reply of the server can't be read".to_owned() }
}

pub(in crate::source) fn silence(step: &'static str, patience: Duration) -> Fault {
    Fault { reason: Reason::Timeout, step, detail: format!("no answer in {patience:?}") }
}

/// A server's text for people: one line, short, without addresses and the account's name.
pub(in crate::source) fn said(text: &str, user: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace().take(40) {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.contains('@') || (!user.is_empty() && word.contains(user)) {
            out.push('…');
        } else {
            out.extend(word.chars().filter(|c| !c.is_control()).take(60));
        }
    }
    if out.is_empty() { "(no text)".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_loses_addresses_and_names() {
        assert_eq!(
            said("[AUTHENTICATIONFAILED] no  such user <pia@acme.example>", "x"),
            "[AUTHENTICATIONFAILED] no such user …"
        );
        assert_eq!(said("user 'robot' is unknown\r\n", "robot"), "user … is unknown");
        assert_eq!(said("", ""), "(no text)");
    }

    #[test]
    fn an_overload_is_told_from_a_refusal() {
        let answer =
            |text: &str| Answer { ok: false, is_bad: false, text: text.into(), try_create: false, read_only: false };
        assert!(answer("[UNAVAILABLE] later").is_overload());
        assert!(answer("Account exceeded command or bandwidth limits").is_overload());
        assert!(!answer("[CANNOT] no such message").is_overload());
    }
}
