//! Paths → received mail and documents, once: what `process` and `extract` read.
//!
//! What a file is, its name says (`.eml`, `.json`), else its first bytes. Folders are read in the order of
//! their names, Maildirs as such, mbox files message by message; nothing is read before it is asked for,
//! and no more than one message is held.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;

use super::mbox::reader::{self, Reader};
use super::{Content, Envelope, Received};
use crate::message::Limits;
use crate::message::parse::looks_like_mail;

/// How much of a file is looked at to know what it is.
const HEAD_BYTES: u64 = 4 << 10;

/// The mails and documents at these paths, in order, each read when it is asked for. `-` is standard input:
/// one mail or document. An error names the path that could not be read; the walk goes on behind it.
pub fn walk(paths: &[PathBuf]) -> Walk {
    let pending = paths.iter().map(|path| Pending::Given(path.clone())).collect();
    Walk { pending, mbox: None, max_bytes: Limits::default().message_bytes }
}

/// The iterator that `walk` returns.
pub struct Walk {
    pending: VecDeque<Pending>,
    mbox: Option<Open>,
    max_bytes: usize,
}

/// What is still to be looked at.
enum Pending {
    /// Named by the caller: read whatever it is.
    Given(PathBuf),
    /// Found in a folder: read if it is mail or a document.
    Found(PathBuf),
    /// Found in a Maildir: a mail.
    Mail(PathBuf),
}

/// An mbox file that is being read.
struct Open {
    name: String,
    reader: Reader<BufReader<File>>,
    count: u64,
}

impl Walk {
    /// Mails and documents larger than this are not read: `Content::TooLarge`.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    fn open(&mut self, pending: Pending) -> io::Result<Option<Received>> {
        match pending {
            Pending::Given(path) if path.as_os_str() == "-" => self.stream(&mut io::stdin().lock(), "-").map(Some),
            Pending::Given(path) => {
                let metadata = fs::metadata(&path)?;
                if metadata.is_dir() {
                    self.folder(&path)?;
                    Ok(None)
                } else if metadata.is_file() {
                    self.file(&path, None)
                } else {
                    let name = path.display().to_string();
                    self.stream(&mut File::open(&path)?, &name).map(Some)
                }
            }
            Pending::Found(path) => {
                let is_link = fs::symlink_metadata(&path)?.is_symlink();
                let metadata = fs::metadata(&path)?;
                if metadata.is_dir() {
                    // Links could lead in a circle.
                    if !is_link {
                        self.folder(&path)?;
                    }
                    return Ok(None);
                }
                if metadata.is_file() { self.file(&path, Some(is_wanted)) } else { Ok(None) }
            }
            Pending::Mail(path) => read_as_mail(&path, path.display().to_string(), self.max_bytes).map(Some),
        }
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        let (new, cur) = (path.join("new"), path.join("cur"));
        let found: Vec<Pending> = if new.is_dir() && cur.is_dir() {
            let mails = [sorted(&new)?, sorted(&cur)?].concat();
            mails.into_iter().filter(|path| path.is_file()).map(Pending::Mail).collect()
        } else {
            sorted(path)?.into_iter().map(Pending::Found).collect()
        };
        for pending in found.into_iter().rev() {
            self.pending.push_front(pending);
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, is_wanted: Option<fn(&Path, Form) -> bool>) -> io::Result<Option<Received>> {
        let mut file = File::open(path)?;
        let mut head = Vec::new();
        file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        let form = Form::of(path, &head);
        if is_wanted.is_some_and(|is_wanted| !is_wanted(path, form)) {
            tracing::debug!(path = %path.display(), "passed over: neither a mail nor a document");
            return Ok(None);
        }
        let name = path.display().to_string();
        if form == Form::Mbox {
            let reader = BufReader::with_capacity(64 << 10, File::open(path)?);
            self.mbox = Some(Open { name, reader: Reader::new(reader, 0, self.max_bytes), count: 0 });
            return Ok(None);
        }
        let metadata = file.metadata()?;
        if metadata.len() > self.max_bytes as u64 {
            let content = Content::TooLarge(metadata.len());
            let received_at = modified(&metadata);
            return Ok(Some(Received { input: name, content, envelope: Envelope::default(), received_at }));
        }
        head.reserve(metadata.len() as usize);
        let content = content(form, head, file, self.max_bytes)?;
        Ok(Some(Received { input: name, content, envelope: Envelope::default(), received_at: modified(&metadata) }))
    }

    fn stream(&mut self, input: &mut dyn Read, name: &str) -> io::Result<Received> {
        let mut head = Vec::new();
        input.take(HEAD_BYTES).read_to_end(&mut head)?;
        let form = Form::of(Path::new(""), &head);
        let content = content(form, head, input, self.max_bytes)?;
        Ok(Received { input: name.to_owned(), content, envelope: Envelope::default(), received_at: None })
    }

    fn next_of_mbox(&mut self) -> Option<Result<Received, (String, io::Error)>> {
        let open = self.mbox.as_mut()?;
        match open.reader.next_entry() {
            Ok(Some(entry)) => {
                open.count += 1;
                let input = format!("{}#{}", open.name, open.count);
                let envelope = Envelope { sender: entry.sender, ..Envelope::default() };
                Some(Ok(Received { input, content: entry.content, envelope, received_at: entry.received_at }))
            }
            Ok(None) => {
                self.mbox = None;
                None
            }
            Err(error) => {
                let name = std::mem::take(&mut open.name);
                self.mbox = None;
                Some(Err((name, error)))
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<Received, (String, io::Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.next_of_mbox() {
                return Some(next);
            }
            let pending = self.pending.pop_front()?;
            let (Pending::Given(path) | Pending::Found(path) | Pending::Mail(path)) = &pending;
            let name = path.display().to_string();
            match self.open(pending) {
                Ok(None) => {}
                Ok(Some(received)) => return Some(Ok(received)),
                Err(error) => return Some(Err((name, error))),
            }
        }
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Mail,
    Document,
    Mbox,
    /// None of them, as far as its beginning tells; read as a mail if it must be read.
    Unknown,
}

impl Form {
    fn of(path: &Path, head: &[u8]) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let is_empty_mbox = head.is_empty() && extension.eq_ignore_ascii_case("mbox");
        if extension.eq_ignore_ascii_case("eml") {
            Self::Mail
        } else if extension.eq_ignore_ascii_case("json") || looks_like_json(head) {
            Self::Document
        } else if is_empty_mbox || !path.as_os_str().is_empty() && reader::looks_like_mbox(head) {
            Self::Mbox
        } else if looks_like_mail(head) {
            Self::Mail
        } else {
            Self::Unknown
        }
    }
}

fn looks_like_json(head: &[u8]) -> bool {
    let utf16 = head.strip_prefix(b"\xff\xfe").or_else(|| head.strip_prefix(b"\xfe\xff"));
    let head = utf16.or_else(|| head.strip_prefix(b"\xef\xbb\xbf")).unwrap_or(head);
    let first = head.iter().find(|b| !b.is_ascii_whitespace() && **b != 0);
    matches!(first, Some(b'{' | b'['))
}

/// Whether a file that was only found is to be read. What tests expect of a mail stands beside it as
/// `*.expected.json`, and is no document.
fn is_wanted(path: &Path, form: Form) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    form != Form::Unknown && !name.ends_with(".expected.json")
}

/// The entries of a folder by name, hidden ones left out.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(folder.join(entry.file_name()));
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn modified(metadata: &fs::Metadata) -> Option<Timestamp> {
    Timestamp::try_from(metadata.modified().ok()?).ok()
}

/// The whole content, of which `head` is read already; only the size if it is too large.
fn content(form: Form, head: Vec<u8>, rest: impl Read, max_bytes: usize) -> io::Result<Content> {
    let mut bytes = head;
    let mut rest = rest;
    let limit = (max_bytes as u64).saturating_add(1).saturating_sub(bytes.len() as u64);
    rest.by_ref().take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        let more = io::copy(&mut rest, &mut io::sink())?;
        return Ok(Content::TooLarge(bytes.len() as u64 + more));
    }
    let bytes = Bytes::from(bytes);
    Ok(if form == Form::Document { Content::Document(bytes) } else { Content::Mail(bytes) })
}

/// A whole file that is read already, for what its name or its content says that it is: a mail, else a document.
pub(super) fn whole(name: &str, bytes: Bytes) -> Content {
    let head = bytes.get(..bytes.len().min(HEAD_BYTES as usize)).unwrap_or_default();
    match Form::of(Path::new(name), head) {
        Form::Mail => Content::Mail(bytes),
        _ => Content::Document(bytes),
    }
}

/// A file that is known to be one mail.
pub(super) fn read_as_mail(path: &Path, input: String, max_bytes: usize) -> io::Result<Received> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let content = if metadata.len() > max_bytes as u64 {
        Content::TooLarge(metadata.len())
    } else {
        content(Form::Mail, Vec::with_capacity(metadata.len() as usize), file, max_bytes)?
    };
    Ok(Received { input, content, envelope: Envelope::default(), received_at: modified(&metadata) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// Input names below the folder, with `m` for mail and `d` for document.
    fn walked(folder: &tempfile::TempDir) -> Vec<String> {
        walk(&[folder.path().to_owned()])
            .map(|item| {
                let item = item.unwrap();
                let name = item.input.strip_prefix(&format!("{}/", folder.path().display())).unwrap().to_owned();
                assert!(item.received_at.is_some());
                match item.content {
                    Content::Mail(_) => format!("m {name}"),
                    Content::Document(_) => format!("d {name}"),
                    Content::TooLarge(size) => format!("{size} {name}"),
                }
            })
            .collect()
    }

    #[test]
    fn a_folder_is_read_in_order_and_each_file_for_what_it_is() {
        let folder = folder(&[
            ("b.eml", "Subject: b\n\nb"),
            ("b.expected.json", "{}"),
            ("a.json", "{}"),
            ("c.txt", " \n[{}]"),
            ("d.txt", "Subject: d\n\nd"),
            ("e", "\u{feff}{}"),
            ("README.md", "# About\n\nNote: this is none\n"),
            (".hidden.eml", "Subject: h\n\nh"),
            ("sub/x.eml", "no header at all"),
            (
                "sub/y.mbox",
                "From a@x Tue Feb 17 10:11:31 2026\nSubject: 1\n\n1\n\nFrom b@x Tue Feb 17 10:11:32 2026\nSubject: 2\n\n2\n",
            ),
            ("box/new/2.host", "Subject: n\n\nn"),
            ("box/cur/1.host:2,S", "no header"),
            ("box/tmp/3.host", "Subject: t\n\nt"),
        ]);
        assert_eq!(
            walked(&folder),
            [
                "d a.json",
                "m b.eml",
                "m box/new/2.host",
                "m box/cur/1.host:2,S",
                "d c.txt",
                "m d.txt",
                "d e",
                "m sub/x.eml",
                "m sub/y.mbox#1",
                "m sub/y.mbox#2",
            ]
        );
    }

    #[test]
    fn a_path_that_is_named_is_read_whatever_it_is_and_errors_name_theirs() {
        let folder = folder(&[("notes", "just text"), ("z.json", "{}")]);
        let path = |name: &str| folder.path().join(name);
        let items: Vec<_> = walk(&[path("notes"), path("missing"), path("z.json")]).collect();
        assert!(matches!(&items[0], Ok(Received { content: Content::Mail(raw), .. }) if raw == "just text"));
        assert!(
            matches!(&items[1], Err((name, error)) if name.ends_with("missing") && error.kind() == io::ErrorKind::NotFound)
        );
        assert!(matches!(&items[2], Ok(Received { content: Content::Document(_), .. })));
    }

    #[test]
    fn relative_paths_stay_relative() {
        let items: Vec<_> = walk(&[PathBuf::from("src/source/files.rs")]).collect();
        assert_eq!(items[0].as_ref().unwrap().input, "src/source/files.rs");
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = folder(&[
            ("a.eml", &"x".repeat(5_000)),
            (
                "b.mbox",
                "From a@x Tue Feb 17 10:11:31 2026\nSubject: 1\n\nvery long\n\nFrom a@x Tue Feb 17 10:11:31 2026\n\n2\n",
            ),
        ]);
        let contents: Vec<_> =
            walk(&[folder.path().to_owned()]).max_bytes(10).map(|item| item.unwrap().content).collect();
        assert_eq!(contents, [Content::TooLarge(5_000), Content::TooLarge(23), Content::Mail("\n2\n".into())]);
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_end() {
        let folder = folder(&[("sub/a.eml", "Subject: a\n\na")]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("sub/up")).unwrap();
        assert_eq!(walked(&folder), ["m sub/a.eml"]);
    }
}
