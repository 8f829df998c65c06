//! What becomes of mails after the commit: flagged, moved or deleted, in the numbers of a batch.
//! Best effort: a refusal is logged and reading goes on; nothing that is read depends on it.

use tracing::{debug, info, warn};

use super::connection::{Answer, Connection, Selected};
use super::cursor::uid_set;
use super::mailbox;
use super::settings::After;
use crate::failpoint::{self, Boundary};
use crate::source::{Fault, Settled};

/// UIDs in one command: its line stays well below the 8192 bytes that servers bear.
const AT_ONCE: usize = 500;

/// The keyword that tells our mark from a person's.
const KEYWORD: &str = "$Mail2crm";

/// The after-actions of one source, and the mails that still wait for them.
#[derive(Debug)]
pub(super) struct AfterActions {
    what: After,
    due: Vec<u32>,
    /// The flags to set in the mailbox that is open; `None`: it takes none.
    flags: Option<String>,
    warned: bool,
    created: bool,
}

impl AfterActions {
    pub(super) fn new(what: After) -> Self {
        Self { what, due: Vec::new(), flags: None, warned: false, created: false }
    }

    /// Whether the mailbox can be opened read-only.
    pub(super) fn read_only(&self) -> bool {
        self.what == After::Nothing
    }

    /// Looks at what the mailbox allows.
    pub(super) fn opened(&mut self, mailbox: &Selected) {
        let wanted = match self.what {
            After::Nothing => return,
            After::Flag => flags(mailbox.permanent_flags.as_deref()),
            After::MoveTo(_) | After::Delete => Some("\\Deleted".to_owned()),
        };
        self.flags = wanted.filter(|_| !mailbox.read_only);
        if self.flags.is_none() {
            self.warn_once("the mailbox can't be changed by this account; mails stay as they are after reading");
        }
    }

    /// Forgets what is due, because the UIDs mean other messages now.
    pub(super) fn clear(&mut self) {
        self.due.clear();
    }

    /// Notes what intake said about a mail. A refused mail is never deleted; one whose bytes we never had
    /// is not moved either.
    pub(super) fn settle(&mut self, uid: u32, settled: &Settled, too_large: bool) {
        let due = match self.what {
            After::Flag => true,
            After::MoveTo(_) => !too_large,
            After::Delete => !too_large && *settled == Settled::Accepted,
            After::Nothing => false,
        };
        if due {
            self.due.push(uid);
        }
    }

    /// Does what is due. A fault is one of the connection.
    pub(super) async fn act(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let Some(flags) = self.flags.clone() else {
            self.due.clear();
            return Ok(());
        };
        self.due.sort_unstable();
        while !self.due.is_empty() {
            let some: Vec<u32> = self.due.drain(..self.due.len().min(AT_ONCE)).collect();
            let set = uid_set(some.iter().copied());
            let done = match self.what.clone() {
                After::Flag => self.store(connection, &set, &flags).await.map(drop),
                After::Delete => self.delete(connection, &set).await,
                After::MoveTo(folder) => self.relocate(connection, &set, &folder).await,
                After::Nothing => Ok(()),
            };
            if let Err(fault) = done {
                // Once more on the next connection; not what may have been copied already.
                if self.what == After::Flag || self.what == After::Delete {
                    self.due.extend(some);
                }
                return Err(fault);
            }
            failpoint::cross(Boundary::Moved);
        }
        Ok(())
    }

    async fn store(&mut self, connection: &mut Connection, set: &str, flags: &str) -> Result<bool, Fault> {
        let answer = connection.run("store", &format!("UID STORE {set} +FLAGS.SILENT ({flags})"), 0, |_| {}).await?;
        Ok(self.went_well(&answer, "flag"))
    }

    async fn delete(&mut self, connection: &mut Connection, set: &str) -> Result<(), Fault> {
        if !self.store(connection, set, "\\Deleted").await? {
            return Ok(());
        }
        // A plain EXPUNGE would also remove what somebody else has marked.
        if !connection.capabilities().has("UIDPLUS") {
            self.warn_once("the mail server can't remove single mails (no UIDPLUS); they are marked as deleted only");
            return Ok(());
        }
        let answer = connection.run("expunge", &format!("UID EXPUNGE {set}"), 0, |_| {}).await?;
        self.went_well(&answer, "remove");
        Ok(())
    }

    async fn relocate(&mut self, connection: &mut Connection, set: &str, folder: &str) -> Result<(), Fault> {
        if connection.capabilities().has("MOVE") {
            let answer = self.with_folder(connection, &format!("UID MOVE {set}"), folder).await?;
            self.went_well(&answer, "move");
        } else if connection.capabilities().has("UIDPLUS") {
            let answer = self.with_folder(connection, &format!("UID COPY {set}"), folder).await?;
            if self.went_well(&answer, "copy") {
                self.delete(connection, set).await?;
            }
        } else {
            self.warn_once("the mail server can't move mails (no MOVE, no UIDPLUS); they stay where they are");
        }
        Ok(())
    }

    /// Runs a command whose last argument is the folder, which is made if the server says that it is missing.
    async fn with_folder(&mut self, connection: &mut Connection, command: &str, folder: &str) -> Result<Answer, Fault> {
        let name = mailbox::quoted(folder);
        let command = format!("{command} {name}");
        let answer = connection.run("move", &command, 0, |_| {}).await?;
        if !answer.try_create || self.created {
            return Ok(answer);
        }
        self.created = true;
        let made = connection.run("create", &format!("CREATE {name}"), 0, |_| {}).await?;
        if !made.ok {
            return Ok(made);
        }
        info!("the mailbox `{folder}` was made, because mails are moved to it after reading");
        connection.run("move", &command, 0, |_| {}).await
    }

    fn went_well(&mut self, answer: &Answer, verb: &str) -> bool {
        if !answer.ok {
            self.warn_once(&format!("the mail server refuses to {verb} mails that were read: {}", answer.text));
        }
        answer.ok
    }

    // One line a connection's lifetime would still be one a minute on some servers: one in a run.
    fn warn_once(&mut self, sentence: &str) {
        if std::mem::replace(&mut self.warned, true) {
            debug!("{sentence}");
        } else {
            warn!("{sentence}");
        }
    }
}

/// What `after = "flag"` sets where these flags can be kept (in upper case; `None`: the server does not say).
fn flags(permanent: Option<&[String]>) -> Option<String> {
    let Some(permanent) = permanent else { return Some("\\Flagged".to_owned()) };
    let has = |flag: &str| permanent.iter().any(|one| one == flag);
    let keyword = has("\\*") || has(&KEYWORD.to_ascii_uppercase());
    match (has("\\FLAGGED"), keyword) {
        (true, true) => Some(format!("\\Flagged {KEYWORD}")),
        (true, false) => Some("\\Flagged".to_owned()),
        (false, true) => Some(KEYWORD.to_owned()),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Reason;

    #[test]
    fn the_flags_are_those_that_the_server_keeps() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(flags(None).as_deref(), Some("\\Flagged"));
        assert_eq!(flags(Some(&list(&["\\FLAGGED", "\\*"]))).as_deref(), Some("\\Flagged $Mail2crm"));
        assert_eq!(flags(Some(&list(&["\\FLAGGED"]))).as_deref(), Some("\\Flagged"));
        assert_eq!(flags(Some(&list(&["$MAIL2CRM"]))).as_deref(), Some("$Mail2crm"));
        assert_eq!(flags(Some(&[])), None);
    }

    #[test]
    fn what_was_not_taken_whole_is_never_deleted() {
        let refused = Settled::Refused(Reason::TooLarge);
        let due = |what: After, settled: &Settled, too_large| {
            let mut after = AfterActions::new(what);
            after.settle(1, settled, too_large);
            after.due.len()
        };
        let folder = || After::MoveTo("x".into());
        assert_eq!(due(After::Delete, &Settled::Accepted, false), 1);
        assert_eq!(due(After::Delete, &refused, false), 0);
        assert_eq!(due(After::Delete, &Settled::Accepted, true), 0);
        assert_eq!((due(folder(), &refused, false), due(folder(), &Settled::Accepted, true)), (1, 0));
        assert_eq!((due(After::Flag, &refused, true), due(After::Nothing, &Settled::Accepted, false)), (1, 0));
    }
}
