//! A folder on an SFTP server (version 3 of draft-ietf-secsh-filexfer-02, over SSH), with OpenSSH's extensions where the
//! server has them.
//!
//! The server's key is pinned: an unknown one is refused, before any credential is sent. A file is written beside its
//! place, flushed, and renamed over it, so a reader never sees half of it. One connection is kept, and made anew when
//! it breaks.

mod ssh;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use tokio::sync::Mutex;

use super::{Access, Depth, Expected, Found, Object, Page, Stored};
use crate::digest::sha256;
use crate::outcome::{Class, Reason, Verdict};
use ssh::Link;

/// What every server takes in one request.
const CHUNK: usize = 32 << 10;
/// Requests of one file under way.
const AT_ONCE: usize = 8;
/// Entries of one folder that are looked at.
const MOST_ENTRIES: usize = 1_000_000;
/// Stands between the folders of a cursor: no name has it.
const BETWEEN: char = '\0';
const TEMPORARY: &str = ".mail2crm-";

/// A folder on a server.
pub(super) struct Sftp {
    server: ssh::Server,
    path: String,
    link: Mutex<Option<Arc<Link>>>,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sftp").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Sftp {
    pub(super) fn new(user: &str, host: &str, port: u16, path: &str, access: &Access) -> Result<Self, String> {
        let server = ssh::Server::new(user, host, port, access);
        Ok(Self { server, path: path.to_owned(), link: Mutex::default() })
    }

    /// The connection, and whether it was used before.
    async fn link(&self) -> Result<(Arc<Link>, bool), Verdict> {
        let mut held = self.link.lock().await;
        if let Some(link) = held.as_ref().filter(|link| link.is_open()) {
            return Ok((link.clone(), true));
        }
        let link = Arc::new(self.server.connect().await?);
        *held = Some(link.clone());
        Ok((link, false))
    }

    /// Does some work over the connection; over a new one, once, if it turns out that the old one had ended.
    async fn with<T, F>(&self, work: impl Fn(Arc<Link>) -> F + Send) -> Result<T, Verdict>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        loop {
            let (link, is_reused) = self.link().await?;
            match work(link.clone()).await {
                Err(Fault::Sftp(error)) if is_lost(&error) => {
                    let mut held = self.link.lock().await;
                    if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &link)) {
                        *held = None;
                    }
                    if !is_reused || matches!(error, Error::Timeout) {
                        return Err(self.judge(&error));
                    }
                }
                Err(Fault::Sftp(error)) => return Err(self.judge(&error)),
                Err(Fault::Judged(verdict)) => return Err(verdict),
                Ok(done) => return Ok(done),
            }
        }
    }

    fn judge(&self, error: &Error) -> Verdict {
        let shown = self.server.shown();
        let (class, reason, what) = match error {
            Error::Status(status) => match status.status_code {
                StatusCode::PermissionDenied => (Class::Pause, Reason::NotPermitted, "does not permit this"),
                StatusCode::NoSuchFile => (Class::Pause, Reason::StorageFailed, "does not have the folder"),
                StatusCode::OpUnsupported => (Class::Pause, Reason::StorageFailed, "can't do this"),
                // Also a full disk: version 3 has no word for it.
                _ => (Class::Retry, Reason::StorageFailed, "failed at this"),
            },
            Error::Timeout => (Class::Retry, Reason::Timeout, "does not answer in time"),
            _ => (Class::Retry, Reason::ConnectionLost, "broke the connection off"),
        };
        Verdict::new(class, reason, format!("{shown} {what}"))
    }

    fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(super) async fn list(&self, prefix: &str, depth: Depth, from: Option<&str>) -> Result<Page, Verdict> {
        let above = prefix.rfind('/').map_or("", |at| prefix.get(..at).unwrap_or_default());
        let mut waiting: Vec<&str> = from.unwrap_or(above).split(BETWEEN).collect();
        let folder = waiting.pop().unwrap_or_default().to_owned();
        // A folder that is gone by now, or was never there below the place, has nothing in it.
        let is_top = folder.is_empty();
        let entries = self
            .with(|link| {
                let folder = folder.clone();
                async move {
                    match entries(&link, &self.path(&folder)).await {
                        Err(Fault::Sftp(error)) if is_missing(&error) && !is_top => Ok(Vec::new()),
                        listed => listed,
                    }
                }
            })
            .await?;
        let mut page = Page::default();
        for (name, attributes) in entries {
            let name = join_relative(&folder, &name);
            if attributes.is_dir() {
                if format!("{name}/").starts_with(prefix) || prefix.starts_with(&format!("{name}/")) {
                    page.folders.push(format!("{name}/"));
                }
            } else if name.starts_with(prefix) {
                page.objects.push(object(name, &attributes));
            }
        }
        page.objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        page.folders.sort_unstable();
        if depth == Depth::All {
            // The last of the stack is the next.
            let below = page.folders.drain(..).rev();
            let stack: Vec<String> = waiting
                .into_iter()
                .map(str::to_owned)
                .chain(below.map(|folder| folder.trim_end_matches('/').to_owned()))
                .collect();
            page.next = (!stack.is_empty()).then(|| stack.join(&BETWEEN.to_string()));
        }
        Ok(page)
    }

    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, Verdict> {
        let found = self.with(|link| async move { stat(&link, &self.path(name)).await }).await?;
        Ok(found
            .filter(FileAttributes::is_file_or_unsaid)
            .map(|attributes| Found { object: object(name.to_owned(), &attributes), digest: None }))
    }

    pub(super) async fn read(&self, object: &Object) -> Result<Option<Bytes>, Verdict> {
        let path = self.path(&object.name);
        let content = self
            .with(|link| {
                let path = path.clone();
                async move {
                    match content(&link, &path, object.size).await {
                        Err(Fault::Sftp(error)) if is_missing(&error) => Ok(None),
                        read => read.map(Some),
                    }
                }
            })
            .await?;
        // What is longer or shorter by now is still being written, or another one.
        Ok(content.filter(|content| content.len() as u64 == object.size))
    }

    pub(super) async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        digest: &str,
        expected: &Expected,
    ) -> Result<Stored, Verdict> {
        let path = self.path(name);
        let there = *expected != Expected::Absent;
        self.with(|link| {
            let (path, bytes) = (path.clone(), bytes.clone());
            async move {
                if there && has_content(&link, &path, &bytes).await? {
                    return Ok(Stored::Same);
                }
                self.make_folders(&link, name).await?;
                let folder = path.rfind('/').map_or("", |at| path.get(..=at).unwrap_or_default());
                // Of the content as well: whoever writes to the same file at the same time writes the same.
                let short = sha256(format!("{path}\n{digest}").as_bytes());
                let temporary = format!("{folder}{TEMPORARY}{}.part", short.get(..16).unwrap_or_default());
                let written = match put(&link, &temporary, &bytes).await {
                    Ok(()) => replace(&link, &temporary, &path).await,
                    failed => failed,
                };
                if let Err(fault) = written {
                    // Best effort: the error that counts is the first one.
                    link.sftp.remove(temporary).await.ok();
                    if stat(&link, &path).await.ok().flatten().is_some_and(|attributes| attributes.is_dir()) {
                        return Err(Fault::dead("a folder is in the way of the file"));
                    }
                    return Err(fault);
                }
                Ok(Stored::Written)
            }
        })
        .await
    }

    /// Makes the folders between the place, which has to exist, and the file.
    async fn make_folders(&self, link: &Link, name: &str) -> Result<(), Fault> {
        let Some((parent, _)) = name.rsplit_once('/') else { return Ok(()) };
        if stat(link, &self.path(parent)).await?.is_some_and(|attributes| attributes.is_dir()) {
            return Ok(());
        }
        if stat(link, &self.path).await?.is_none() {
            let detail = format!("{} does not have the folder", self.server.shown());
            return Err(Fault::Judged(Verdict::new(Class::Pause, Reason::StorageFailed, detail)));
        }
        let mut at = self.path.clone();
        for part in parent.split('/') {
            at = join(&at, part);
            if let Err(error) = link.sftp.mkdir(at.clone(), FileAttributes::empty()).await {
                // Its refusal to make what is there has no code of its own.
                match stat(link, &at).await? {
                    Some(attributes) if attributes.is_dir() => {}
                    Some(_) => return Err(Fault::dead("a file is in the way of a folder")),
                    None => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    pub(super) async fn remove(&self, object: &Object) -> Result<(), Verdict> {
        if self.is_replaced(object).await? {
            return Ok(());
        }
        let path = self.path(&object.name);
        self.with(|link| {
            let path = path.clone();
            async move { gone_is_good(link.sftp.remove(path).await.map(|_| ())) }
        })
        .await
    }

    pub(super) async fn rename(&self, object: &Object, to: &str) -> Result<(), Verdict> {
        if self.is_replaced(object).await? {
            return Ok(());
        }
        let (from, target) = (self.path(&object.name), self.path(to));
        self.with(|link| {
            let (from, target) = (from.clone(), target.clone());
            async move {
                self.make_folders(&link, to).await?;
                match replace(&link, &from, &target).await {
                    Err(Fault::Sftp(error)) if is_missing(&error) => Ok(()),
                    moved => moved,
                }
            }
        })
        .await
    }

    async fn is_replaced(&self, object: &Object) -> Result<bool, Verdict> {
        Ok(self.find(&object.name).await?.is_none_or(|found| found.object.tag != object.tag))
    }

    pub(super) async fn check(&self, writes: bool) -> Result<String, Verdict> {
        let top = self.with(|link| async move { stat(&link, &self.path).await }).await?;
        match top {
            Some(attributes) if attributes.is_dir() => {}
            _ => {
                let detail = format!("{} does not have the folder `{}`", self.server.shown(), self.path);
                return Err(Verdict::new(Class::Pause, Reason::StorageFailed, detail));
            }
        }
        self.list("", Depth::One, None).await.and_then(|_| super::listed(writes))
    }
}

/// Why some work over a connection ended.
enum Fault {
    Sftp(Error),
    Judged(Verdict),
}

impl Fault {
    fn dead(why: &str) -> Self {
        Self::Judged(Verdict::new(Class::Dead, Reason::StorageFailed, why))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Sftp(error)
    }
}

/// Whether a file is one as far as the server says.
trait Said {
    fn is_file_or_unsaid(&self) -> bool;
}

impl Said for FileAttributes {
    fn is_file_or_unsaid(&self) -> bool {
        self.permissions.is_none() || self.file_type().is_file()
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Status(status) if status.status_code == StatusCode::NoSuchFile)
}

/// Whether the connection is of no more use.
fn is_lost(error: &Error) -> bool {
    !matches!(error, Error::Status(_) | Error::Limited(_))
}

fn gone_is_good(done: Result<(), Error>) -> Result<(), Fault> {
    match done {
        Err(error) if is_missing(&error) => Ok(()),
        done => done.map_err(Fault::from),
    }
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" | "." => name.to_owned(),
        _ if name.is_empty() => folder.to_owned(),
        _ => format!("{}/{name}", folder.trim_end_matches('/')),
    }
    .replace("//", "/")
}

fn join_relative(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn object(name: String, attributes: &FileAttributes) -> Object {
    let (size, written) = (attributes.size.unwrap_or_default(), attributes.mtime.unwrap_or_default());
    Object { name, size, modified: Timestamp::from_second(written.into()).ok(), tag: format!("{written}/{size}") }
}

async fn stat(link: &Link, path: &str) -> Result<Option<FileAttributes>, Fault> {
    let path = if path.is_empty() { "." } else { path };
    match link.sftp.stat(path).await {
        Ok(told) => Ok(Some(told.attrs)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The files and folders in a folder, hidden ones left out; of a link, the file that it leads to.
async fn entries(link: &Link, path: &str) -> Result<Vec<(String, FileAttributes)>, Fault> {
    let path = if path.is_empty() { "." } else { path };
    let handle = link.sftp.opendir(path).await?.handle;
    let mut found = Vec::new();
    let listed = loop {
        match link.sftp.readdir(handle.clone()).await {
            Ok(names) => found.extend(names.files.into_iter().map(|file| (file.filename, file.attrs))),
            Err(Error::Status(status)) if status.status_code == StatusCode::Eof => break Ok(()),
            Err(error) => break Err(Fault::from(error)),
        }
        if found.len() > MOST_ENTRIES {
            break Err(Fault::dead("a folder holds more than a million entries"));
        }
    };
    link.sftp.close(handle).await?;
    listed?;
    let mut kept = Vec::with_capacity(found.len());
    for (name, attributes) in found {
        if name.starts_with('.') || name.contains('/') || name.contains(BETWEEN) {
            continue;
        }
        if attributes.is_symlink() {
            if let Some(target) = stat(link, &join(path, &name)).await?.filter(|target| target.file_type().is_file()) {
                kept.push((name, target));
            }
        } else if attributes.is_dir() || attributes.is_file_or_unsaid() {
            kept.push((name, attributes));
        }
    }
    Ok(kept)
}

/// The content of a file of this size; more if there is more, up to a chunk.
async fn content(link: &Link, path: &str, size: u64) -> Result<Bytes, Fault> {
    let handle = link.sftp.open(path, OpenFlags::READ, FileAttributes::empty()).await?.handle;
    // One chunk more than there should be, to see that there is none.
    let offsets = (0..=size).step_by(CHUNK);
    let read = stream::iter(offsets).map(|offset| chunk(link, &handle, offset)).buffered(AT_ONCE).try_concat().await;
    link.sftp.close(handle).await?;
    read.map(Bytes::from)
}

/// A chunk of a file; shorter at its end alone.
async fn chunk(link: &Link, handle: &str, offset: u64) -> Result<Vec<u8>, Fault> {
    let mut read = Vec::new();
    while read.len() < CHUNK {
        match link.sftp.read(handle, offset + read.len() as u64, (CHUNK - read.len()) as u32).await {
            Ok(data) if data.data.is_empty() => break,
            Ok(data) => read.extend_from_slice(&data.data),
            Err(Error::Status(status)) if status.status_code == StatusCode::Eof => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read)
}

async fn has_content(link: &Link, path: &str, bytes: &Bytes) -> Result<bool, Fault> {
    let size = bytes.len() as u64;
    match stat(link, path).await? {
        Some(attributes) if attributes.is_dir() => Err(Fault::dead("a folder is in the way of the file")),
        Some(attributes) if attributes.size == Some(size) => Ok(content(link, path, size).await? == bytes),
        _ => Ok(false),
    }
}

/// Writes a file and has it flushed, where the server can.
async fn put(link: &Link, path: &str, bytes: &Bytes) -> Result<(), Fault> {
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let handle = link.sftp.open(path, flags, FileAttributes::empty()).await?.handle;
    let chunks = (0..bytes.len()).step_by(CHUNK).map(|at| (at, bytes.slice(at..bytes.len().min(at + CHUNK))));
    let written = stream::iter(chunks.map(Ok::<_, Error>)).try_for_each_concurrent(AT_ONCE, |(at, part)| {
        let handle = &handle;
        async move { link.sftp.write(handle, at as u64, part.to_vec()).await.map(|_| ()) }
    });
    let written = match written.await {
        Ok(()) if link.flushes => link.sftp.fsync(handle.clone()).await.map(|_| ()),
        done => done,
    };
    link.sftp.close(handle).await?;
    Ok(written?)
}

/// Renames a file over another: in one step where the server can, else with a moment in which there is none.
async fn replace(link: &Link, from: &str, to: &str) -> Result<(), Fault> {
    if link.replaces {
        let text = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
        let told = link.sftp.extended(ssh::POSIX_RENAME, [text(from), text(to)].concat()).await?;
        return match told {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(Error::Status(status).into()),
            _ => Err(Error::UnexpectedPacket.into()),
        };
    }
    // Plain renames refuse to replace.
    gone_is_good(link.sftp.remove(to).await.map(|_| ()))?;
    link.sftp.rename(from, to).await?;
    Ok(())
}
