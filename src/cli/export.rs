//! An export of sessions, as people have it: metadata documents in files, arrays or lines of JSON, mails, or a table
//! with a column of ids (CSV, RFC 4180, also with semicolons or tabs) → the sessions that it names.
//!
//! Of a table only the id, the channel and the time of the last change are read. Whether an id is that of a call or a
//! chat, its column, another one, or the name of the file tells; an id of which that is not known is said, not guessed.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::intake::{self, Rules};
use crate::session::evidence::Extraction;
use crate::session::{Channel, SessionKey};
use crate::source::files;

/// A session that an export names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exported {
    /// The file, with the line in a table.
    pub(super) input: String,
    pub(super) key: SessionKey,
    /// When it last changed, if the export says so.
    pub(super) updated_at: Option<Timestamp>,
    /// The digest of its document; none in a table.
    pub(super) digest: Option<String>,
}

/// What `each` is told: a session, or why something can't be read.
pub(super) type Told = Result<Exported, String>;

/// Tells of every session below these paths, file by file.
pub(super) fn walk<E>(paths: &[PathBuf], rules: &Rules, mut each: impl FnMut(Told) -> Result<(), E>) -> Result<(), E> {
    let (tables, rest): (Vec<PathBuf>, Vec<PathBuf>) = with_tables_apart(paths);
    for path in tables {
        match std::fs::read(&path) {
            Ok(bytes) => {
                let name = path.display().to_string();
                for told in table(&String::from_utf8_lossy(&bytes), &name, &rules.instance) {
                    each(told)?;
                }
            }
            Err(error) => each(Err(format!("can't read `{}`: {error}", path.display())))?,
        }
    }
    for received in files::walk(&rest).max_bytes(rules.limits.message_bytes) {
        let received = match received {
            Ok(received) => received,
            Err((path, error)) => {
                each(Err(format!("can't read `{path}`: {error}")))?;
                continue;
            }
        };
        match intake::read_safely(&received, rules).extraction {
            Extraction::Sessions(found) => {
                for found in found {
                    each(Ok(Exported {
                        input: received.input.clone(),
                        key: found.session.session_key(),
                        updated_at: found.session.updated_at.map(|time| time.instant),
                        digest: Some(found.digest),
                    }))?;
                }
            }
            Extraction::None => each(Err(format!("no session in `{}`", received.input)))?,
            Extraction::Refused(reason, detail) => each(Err(format!("`{}`: {detail} ({reason})", received.input)))?,
        }
    }
    Ok(())
}

/// Tables, also those in the folders that are named; and what is to be read otherwise.
fn with_tables_apart(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_table = |path: &Path| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        ["csv", "tsv"].iter().any(|word| ending.eq_ignore_ascii_case(word))
    };
    let (mut tables, mut rest) = (Vec::new(), Vec::new());
    for path in paths {
        if is_table(path) {
            tables.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        tables.extend(entries.filter(|path| is_table(path)));
        rest.push(path.clone());
    }
    tables.sort();
    (tables, rest)
}

/// Rows of a table: fields as they are between separators, quotes taken off. A file that ends within quotes ends there.
fn rows(text: &str, separator: char) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '\r' if !quoted && letters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            letter if letter == separator && !quoted => row.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

/// Letters and digits in small letters: `Session ID`, `session_id` and `sessionId` are the same.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn channel_in(text: &str) -> Option<Channel> {
    let text = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match (has(&["chat", "messag", "sms"]), has(&["call", "voice", "phone"])) {
        (true, false) => Some(Channel::Chat),
        (false, true) => Some(Channel::Voice),
        _ => None,
    }
}

/// Names of the columns that tell, in the order in which they are looked for.
const IDS: &[(&str, Option<Channel>)] = &[
    ("sessionid", None),
    ("callid", Some(Channel::Voice)),
    ("chatid", Some(Channel::Chat)),
    ("id", None),
    ("session", None),
];
const CHANNELS: &[&str] = &["channel", "sessiontype", "type", "calltype", "chattype", "mediatype", "media"];
const UPDATED: &[&str] = &["updatedat", "updated", "lastupdated", "modifiedat"];

fn table(text: &str, name: &str, instance: &str) -> Vec<Told> {
    let text = text.trim_start_matches('\u{feff}');
    let head = text.lines().next().unwrap_or_default();
    let separator = [',', ';', '\t'].into_iter().max_by_key(|s| (head.matches(*s).count(), *s == ',')).unwrap_or(',');
    let mut rows = rows(text, separator).into_iter().enumerate();
    let names: Vec<String> =
        rows.next().map(|(_, row)| row.iter().map(|name| plain(name)).collect()).unwrap_or_default();
    let column = |wanted: &str| names.iter().position(|name| name == wanted);
    let ids: Vec<(usize, Option<Channel>)> =
        IDS.iter().filter_map(|(word, channel)| Some((column(word)?, *channel))).collect();
    if ids.is_empty() {
        return vec![Err(format!(
            "`{name}` has no column of session ids: call it `session_id`, `call_id` or `chat_id`"
        ))];
    }
    let channels: Vec<usize> = CHANNELS.iter().filter_map(|word| column(word)).collect();
    let updated = UPDATED.iter().find_map(|word| column(word));
    let of_file = Path::new(name).file_name().and_then(|name| name.to_str()).and_then(channel_in);
    let mut told = Vec::new();
    for (number, row) in rows {
        let cell = |at: usize| row.get(at).map(|text| text.trim()).filter(|text| !text.is_empty());
        let Some((id, of_column)) = ids.iter().find_map(|(at, channel)| Some((cell(*at)?, *channel))) else { continue };
        let input = format!("{name}:{}", number + 1);
        // `voice-48213`, as lists of this program print it.
        let (of_id, id) = match id.split_once('-') {
            Some((word, rest)) if Channel::from_word(word).is_some() => (Channel::from_word(word), rest),
            _ => (None, id),
        };
        let channel = of_id.or(of_column).or_else(|| channels.iter().find_map(|at| channel_in(cell(*at)?))).or(of_file);
        let Some(channel) = channel else {
            told.push(Err(format!("{input}: whether this is a call or a chat is not known: add a column `channel`")));
            continue;
        };
        let key = SessionKey { instance: instance.to_owned(), channel, id: id.to_owned() };
        let updated_at = updated.and_then(cell).and_then(|text| text.replacen(' ', "T", 1).parse().ok());
        told.push(Ok(Exported { input, key, updated_at, digest: None }));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, name: &str) -> Vec<String> {
        let line = |told: Told| match told {
            Ok(one) => format!("{} {}", one.key, one.updated_at.map(|at| at.to_string()).unwrap_or_default()),
            Err(said) => said,
        };
        table(text, name, "default").into_iter().map(line).collect()
    }

    #[test]
    fn a_table_is_read_by_its_head_whatever_its_separator_and_quotes() {
        let text = "\u{feff}Session ID;Session Type;Updated At\r\n48213;Voice Inbound;2026-02-17T16:11:05Z\r\n\
                    \"77\";\"Messaging (\"\"Web\"\"; new)\";2026-02-17 16:00:00Z\r\n;x;y\r\n";
        assert_eq!(read(text, "x.csv"), ["voice-48213 2026-02-17T16:11:05Z", "chat-77 2026-02-17T16:00:00Z"]);
        assert_eq!(read("call_id,chat_id\n1,\n,2\n", "x.csv"), ["voice-1 ", "chat-2 "]);
        assert_eq!(read("id\tname\n5\ta\n", "exports/chats-february.tsv"), ["chat-5 "]);
        assert_eq!(read("session\nvoice-9\nchat-10", "x.csv"), ["voice-9 ", "chat-10 "]);
    }

    #[test]
    fn what_is_not_known_is_said_and_not_guessed() {
        assert!(read("name,age\na,5\n", "x.csv")[0].contains("no column of session ids"));
        assert!(read("", "x.csv")[0].contains("no column"));
        assert!(read("id\n5\n", "x.csv")[0].contains("x.csv:2: whether this is a call or a chat"));
        // Quotes that nobody closes end with the file.
        assert_eq!(read("call_id\n\"5\n6", "x.csv").len(), 1);
    }
}
