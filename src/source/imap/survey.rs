//! What there is beside the mailbox that is open: which mailboxes a pattern names (LIST), and the numbers that tell
//! whether one has news (STATUS; both in one command where the server offers LIST-STATUS, RFC 5819).
//!
//! HIGHESTMODSEQ (CONDSTORE, RFC 7162) is a second witness beside UIDNEXT that no message has come; a server that
//! tells none, 0, or one that goes back is taken for one without. Nothing here opens a mailbox.

use async_imap::imap_proto::{MailboxDatum, MailboxListData, NameAttribute, Response, StatusAttribute};
use tracing::debug;

use super::capabilities::Capabilities;
use super::connection::{Connection, Selected};
use super::mailbox::{plain, quoted, same};
use super::settings::{After, Settings};
use crate::source::Fault;

/// The step of these commands: a STATUS at another step was not asked for.
pub(super) const STEP: &str = "status";

/// The most mailboxes that are taken for a pattern.
pub(super) const MOST: usize = 1000;

/// A longer name is left out.
const LONGEST_NAME: usize = 1000;

/// A LIST may take a second for each mailbox, since their numbers may have to be read from a disk first.
const LIST_BYTES: u64 = MOST as u64 * (16 << 10);

/// The most mailboxes that a server is asked to tell of (Dovecot takes no more), and the bytes of their names:
/// servers bear commands of 8192.
const MOST_TOLD: usize = 100;
const LONGEST: usize = 7900;

/// A mailbox in numbers, as SELECT and STATUS tell them. As long as they stay, no message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) uidvalidity: u32,
    pub(super) uid_next: u32,
    pub(super) exists: u32,
    pub(super) modseq: Option<u64>,
}

impl Selected {
    /// Its numbers.
    pub(super) fn standing(&self) -> Standing {
        let Self { uidvalidity, uid_next, exists, modseq, .. } = *self;
        Standing { uidvalidity, uid_next, exists, modseq }
    }
}

/// A mailbox that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    /// What separates the levels of its name.
    delimiter: Option<String>,
    /// Its numbers, if they came along.
    pub(super) standing: Option<Standing>,
}

impl Found {
    /// Whether it is where mails are moved to after reading, or below: then a pattern does not take it.
    pub(super) fn is_at_target(&self, settings: &Settings) -> bool {
        let After::MoveTo(target) = &settings.after else { return false };
        let below = |rest: &str| self.delimiter.as_ref().is_some_and(|between| rest.starts_with(between.as_str()));
        same(&self.name, target) || self.name.strip_prefix(target.as_str()).is_some_and(below)
    }
}

fn wanted(capabilities: &Capabilities) -> &'static str {
    if capabilities.has_modseq() {
        "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
    } else {
        "(MESSAGES UIDNEXT UIDVALIDITY)"
    }
}

/// The numbers of a mailbox that is not open; `None` if it can't be asked about.
pub(super) async fn status(connection: &mut Connection, name: &str) -> Result<Option<Standing>, Fault> {
    let asks = connection.capabilities().has_modseq();
    let command = format!("STATUS {} {}", quoted(name), wanted(connection.capabilities()));
    let mut found = None;
    let read = |response: &Response<'_>| {
        if let Response::MailboxData(MailboxDatum::Status { mailbox, status }) = response
            && plain(mailbox).is_some_and(|one| same(&one, name))
        {
            found = standing(status);
        }
    };
    let answer = connection.run(STEP, &command, 0, read).await?;
    if answer.is_bad && asks {
        connection.capabilities_mut().forget(&["CONDSTORE", "QRESYNC"]);
        return Box::pin(status(connection, name)).await;
    }
    Ok(found.filter(|_| answer.ok))
}

fn standing(attributes: &[StatusAttribute]) -> Option<Standing> {
    let (mut exists, mut uid_next, mut uidvalidity, mut modseq) = (None, None, None, None);
    for attribute in attributes {
        match attribute {
            StatusAttribute::Messages(value) => exists = Some(*value),
            StatusAttribute::UidNext(value) => uid_next = Some(*value),
            StatusAttribute::UidValidity(value) => uidvalidity = Some(*value),
            StatusAttribute::HighestModSeq(value) => modseq = Some(*value).filter(|value| *value > 0),
            _ => {}
        }
    }
    Some(Standing { uidvalidity: uidvalidity?, uid_next: uid_next?, exists: exists?, modseq })
}

/// The mailboxes that a pattern names, in order, at most [`MOST`]. The text is the server's refusal.
pub(super) async fn list(connection: &mut Connection, pattern: &str) -> Result<Result<Vec<Found>, String>, Fault> {
    let mut command = format!("LIST \"\" {}", quoted(pattern));
    let asks = connection.capabilities().has("LIST-STATUS");
    if asks {
        command.push_str(&format!(" RETURN (STATUS {})", wanted(connection.capabilities())));
    }
    let mut found: Vec<Found> = Vec::new();
    let read = |response: &Response<'_>| match response {
        Response::MailboxData(MailboxDatum::List(one)) if found.len() < MOST && is_for_patterns(one) => {
            match plain(&one.name) {
                Some(name) => {
                    found.push(Found { name, delimiter: one.delimiter.as_deref().map(str::to_owned), standing: None })
                }
                None => debug!("the mail server lists a mailbox whose name is not in modified UTF-7; it is left out"),
            }
        }
        // It comes after its mailbox, mostly at once.
        Response::MailboxData(MailboxDatum::Status { mailbox, status }) => {
            let name = plain(mailbox);
            if let Some(one) = found.iter_mut().rev().find(|one| name.as_ref() == Some(&one.name)) {
                one.standing = standing(status);
            }
        }
        _ => {}
    };
    let answer = connection.run(STEP, &command, LIST_BYTES, read).await?;
    if answer.is_bad && asks {
        connection.capabilities_mut().forget(&["LIST-STATUS"]);
        return Box::pin(list(connection, pattern)).await;
    }
    if !answer.ok {
        return Ok(Err(answer.text));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    Ok(Ok(found))
}

/// Not what can't be opened, nor what nobody means by a pattern: the account's own mail, what it threw away, and
/// views that show each mail a second time (RFC 6154).
fn is_for_patterns(one: &MailboxListData<'_>) -> bool {
    let is_short = one.name.len() <= LONGEST_NAME;
    is_short
        && !one.name_attributes.iter().any(|attribute| match attribute {
            NameAttribute::NoSelect | NameAttribute::All | NameAttribute::Flagged => true,
            NameAttribute::Drafts | NameAttribute::Junk | NameAttribute::Sent | NameAttribute::Trash => true,
            NameAttribute::Extension(word) => word.eq_ignore_ascii_case("\\NonExistent"),
            _ => false,
        })
}

/// Asks to be told of new mail in these mailboxes, the first of them, besides the open one (NOTIFY, RFC 5465). Of
/// the others, and where that can't be, the next look finds it.
pub(super) async fn be_told<'a>(
    connection: &mut Connection,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Fault> {
    let mut list = String::new();
    for name in names.take(MOST_TOLD).map(quoted) {
        if list.len() + name.len() > LONGEST {
            break;
        }
        list.push_str(if list.is_empty() { "" } else { " " });
        list.push_str(&name);
    }
    let events = "(MessageNew MessageExpunge)";
    let command = format!("NOTIFY SET (SELECTED-DELAYED {events}) (MAILBOXES ({list}) {events})");
    let answer = connection.run(STEP, &command, 0, |_| {}).await?;
    if !answer.ok {
        debug!("the mail server does not tell of other mailboxes: {}", answer.text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_or_none_and_a_modseq_of_nothing_is_none() {
        use StatusAttribute::{HighestModSeq, Messages, UidNext, UidValidity};
        let all = [Messages(3), UidNext(9), UidValidity(7), HighestModSeq(5)];
        let expected = Standing { uidvalidity: 7, uid_next: 9, exists: 3, modseq: Some(5) };
        assert_eq!(standing(&all), Some(expected));
        let none = [Messages(3), UidNext(9), UidValidity(7), HighestModSeq(0)];
        assert_eq!(standing(&none), Some(Standing { modseq: None, ..expected }));
        assert_eq!(standing(&all[..2]), None);
    }

    #[test]
    fn what_is_below_the_mailbox_that_mails_are_moved_to_is_left_alone_too() {
        let text = "host = 'h'\nuser = 'u'\npassword = 'p'\nafter = { move_to = 'Done' }";
        let settings: Settings = toml::from_str(text).expect("settings");
        let at_target = |name: &str, delimiter: Option<&str>| {
            Found { name: name.into(), delimiter: delimiter.map(str::to_owned), standing: None }.is_at_target(&settings)
        };
        assert!(at_target("Done", Some("/")) && at_target("Done/2026", Some("/")) && at_target("Done.2026", Some(".")));
        assert!(!at_target("Done.2026", Some("/")) && !at_target("Done2", Some("/")) && !at_target("Done/2026", None));
    }

    #[test]
    fn a_pattern_takes_no_mailbox_that_nobody_means() {
        let is_taken = |attribute: NameAttribute<'static>| {
            let name_attributes = vec![NameAttribute::Marked, attribute];
            is_for_patterns(&MailboxListData { name_attributes, delimiter: Some("/".into()), name: "a".into() })
        };
        assert!(is_taken(NameAttribute::NoInferiors) && is_taken(NameAttribute::Archive));
        assert!(!is_taken(NameAttribute::NoSelect) && !is_taken(NameAttribute::Sent));
        assert!(!is_taken(NameAttribute::Extension("\\Nonexistent".into())));
    }
}
