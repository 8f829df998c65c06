//! Stores a file in a folder or at a place that is reached over a network, whole or not at all. In a folder: written
//! beside, flushed, renamed into place, and the folder flushed (POSIX `rename`, `fsync`).
//!
//! The path comes from a template over hostile data: it never leaves the place. The folder itself must be
//! there, because a folder made on the spot would hide a disk that is not mounted. A file that already has the
//! content is left alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::outcome::{Class, Reason, Verdict};
use crate::store::{Access, Place, Store, Stored};

/// The longest relative path, in bytes; Linux takes 4096 with the folder's own.
const PATH_CAP: usize = 1024;
/// The longest file or folder name, in bytes: that of the usual file systems.
const NAME_CAP: usize = 255;

/// A folder to store files in.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderSettings {
    /// The folder. It has to exist; folders below it are made as they are needed.
    pub path: PathBuf,
}

/// Where documents are to be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum StorageSettings {
    /// In a folder of this machine.
    Folder(FolderSettings),
    /// At a place that is reached over a network.
    Store {
        /// The place.
        place: Place,
        /// How to get into it.
        access: Box<Access>,
    },
}

impl StorageSettings {
    /// What paths are below, for people.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.path.clone(),
            Self::Store { place, .. } => place.to_string().into(),
        }
    }
}

/// Stores documents.
#[derive(Debug)]
pub enum StorageSender {
    /// In a folder of this machine.
    Folder(FolderSender),
    /// At a place that is reached over a network.
    Store(Box<Store>),
}

impl StorageSender {
    /// Touches and reaches nothing yet. The error is a sentence that names the key to change.
    pub fn new(settings: StorageSettings) -> Result<Self, String> {
        Ok(match settings {
            StorageSettings::Folder(folder) => Self::Folder(FolderSender::new(folder)),
            StorageSettings::Store { place, access } => Self::Store(Box::new(Store::new(&place, &access)?)),
        })
    }

    /// Stores `bytes` at `relative` (segments joined by `/`). When it returns `Ok` the document is kept.
    ///
    /// A path that is not one inside the place is [`Reason::TemplateFailed`]; a place that is missing or closed to us
    /// pauses; what may pass is tried again.
    pub async fn write(&self, relative: &Path, bytes: Bytes) -> Result<Stored, Verdict> {
        match self {
            Self::Folder(folder) => folder.write(relative, bytes).await,
            Self::Store(store) => store.write(checked(relative)?, bytes).await,
        }
    }

    /// Looks whether the place is there and open to us; changes nothing. Says what it found, and what it could not
    /// try.
    pub async fn check(&self) -> Result<String, Verdict> {
        match self {
            Self::Folder(folder) => folder.check().await.map(str::to_owned),
            Self::Store(store) => store.check(true).await,
        }
    }
}

/// Writes files below one folder.
#[derive(Debug)]
pub struct FolderSender {
    folder: PathBuf,
    /// The files that are being written: two writers of one path would share its temporary file.
    busy: Arc<Mutex<HashSet<PathBuf>>>,
}

impl FolderSender {
    /// Touches nothing yet.
    pub fn new(settings: FolderSettings) -> Self {
        Self { folder: settings.path, busy: Arc::default() }
    }

    /// Stores `bytes` at `relative` (segments joined by `/`). When it returns `Ok` the file is on the disk.
    ///
    /// A path that is not one inside the folder is [`Reason::TemplateFailed`]; a folder that is missing or
    /// closed to us pauses; a full or failing disk is tried again.
    pub async fn write(&self, relative: &Path, bytes: Bytes) -> Result<Stored, Verdict> {
        checked(relative)?;
        let target = self.folder.join(relative);
        let Some(writing) = Writing::begin(&self.busy, &target) else {
            let detail = "another delivery is writing the same file";
            return Err(Verdict::new(Class::Conflict, Reason::Conflict, detail));
        };
        let folder = self.folder.clone();
        let stored = tokio::task::spawn_blocking(move || {
            // Held by the work itself: it goes on when the caller is dropped.
            let _writing = writing;
            store(&folder, &target, &bytes)
        })
        .await;
        match stored {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(error)) => Err(self.judge(&error)),
            Err(_) => Err(Verdict::new(Class::Retry, Reason::Internal, "the write was broken off")),
        }
    }

    /// Looks whether the folder, or the place where it is to be made, may be written to; changes nothing. Says
    /// what it found.
    pub async fn check(&self) -> Result<&'static str, Verdict> {
        let folder = self.folder.clone();
        let found = tokio::task::spawn_blocking(move || {
            let there = folder.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
            let (at, metadata) = there
                .enumerate()
                .find_map(|(at, path)| match std::fs::metadata(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    found => Some(found.map(|metadata| (at, metadata))),
                })
                .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
            match (metadata.is_dir(), metadata.permissions().readonly()) {
                (true, false) if at > 0 => Ok("the folder is made at the first start"),
                (true, false) => Ok("the folder is there and can be written to"),
                (false, _) => Err(io::ErrorKind::NotADirectory.into()),
                (true, true) => Err(io::ErrorKind::PermissionDenied.into()),
            }
        })
        .await;
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.judge(&error)),
            Err(_) => Err(Verdict::new(Class::Retry, Reason::Internal, "the look was broken off")),
        }
    }

    fn judge(&self, error: &io::Error) -> Verdict {
        use io::ErrorKind as Kind;
        let class = match error.kind() {
            Kind::NotFound | Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Class::Pause,
            // In the way of this one file is a folder, or a file where a folder should be.
            Kind::IsADirectory | Kind::NotADirectory | Kind::InvalidFilename | Kind::FileTooLarge => Class::Dead,
            _ => Class::Retry,
        };
        let detail = format!("can't store below `{}`: {}", self.folder.display(), error.kind());
        Verdict::new(class, Reason::StorageFailed, detail)
    }
}

/// A path in the set of those that are being written, until it is dropped.
struct Writing {
    busy: Arc<Mutex<HashSet<PathBuf>>>,
    target: PathBuf,
}

impl Writing {
    fn begin(busy: &Arc<Mutex<HashSet<PathBuf>>>, target: &Path) -> Option<Self> {
        let fresh = busy.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned());
        fresh.then(|| Self { busy: busy.clone(), target: target.to_owned() })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.target);
    }
}

/// A relative path that is one inside.
fn checked(relative: &Path) -> Result<&str, Verdict> {
    check(relative)
        .map_err(|why| Verdict::new(Class::Dead, Reason::TemplateFailed, format!("the `path` template gave {why}")))
}

/// What is wrong with a relative path, without showing it: it can name a person.
fn check(relative: &Path) -> Result<&str, &'static str> {
    let text = relative.to_str().ok_or("a path that is not UTF-8")?;
    if text.is_empty() {
        return Err("an empty path");
    }
    if text.len() > PATH_CAP {
        return Err("a path of more than 1024 bytes");
    }
    if text.starts_with('/') {
        return Err("an absolute path; it has to be relative to the folder");
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err("a path with a control character or a backslash");
    }
    for segment in text.split('/') {
        match segment {
            "" => return Err("a path with an empty segment"),
            "." | ".." => return Err("a path with a `.` or `..` segment"),
            _ if segment.len() > NAME_CAP => return Err("a path with a name of more than 255 bytes"),
            _ if segment.starts_with(TEMPORARY) => return Err("a path with a name that is kept for temporary files"),
            _ => {}
        }
    }
    Ok(text)
}

const TEMPORARY: &str = ".mail2crm-";

fn store(folder: &Path, target: &Path, bytes: &[u8]) -> io::Result<Stored> {
    if has_content(target, bytes)? {
        return Ok(Stored::Same);
    }
    let parent = target.parent().unwrap_or(folder);
    make_folders(folder, parent)?;
    let name = target.file_name().unwrap_or_default();
    if target.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // A name that depends on the target alone, so that what a crash leaves is overwritten by the next try.
    let short = hex(Sha256::digest(name.as_encoded_bytes()).get(..8).unwrap_or_default());
    let temporary = parent.join(format!("{TEMPORARY}{short}.part"));
    let written = write_whole(&temporary, bytes).and_then(|()| fs::rename(&temporary, target));
    if let Err(error) = written {
        // Best effort: the error that counts is the first one.
        fs::remove_file(&temporary).ok();
        return Err(error);
    }
    sync_folder(parent)?;
    Ok(Stored::Written)
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// True if the file is there with exactly this content.
fn has_content(target: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = match File::open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() != bytes.len() as u64 {
        return Ok(false);
    }
    let mut rest = bytes;
    let mut chunk = [0; 16 << 10];
    loop {
        let n = file.read(&mut chunk)?;
        let read = chunk.get(..n).unwrap_or_default();
        if n == 0 {
            return Ok(rest.is_empty());
        }
        match rest.strip_prefix(read) {
            Some(left) => rest = left,
            None => return Ok(false),
        }
    }
}

/// Makes the folders between `folder`, which has to exist, and `parent`, each durable before the next.
fn make_folders(folder: &Path, parent: &Path) -> io::Result<()> {
    if parent.is_dir() {
        return Ok(());
    }
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut at = folder.to_owned();
    for segment in parent.strip_prefix(folder).unwrap_or(Path::new("")) {
        let above = at.clone();
        at.push(segment);
        match fs::create_dir(&at) {
            Ok(()) => sync_folder(&above)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !at.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, FolderSender) {
        let dir = TempDir::new().expect("a folder");
        let sender = FolderSender::new(FolderSettings { path: dir.path().to_owned() });
        (dir, sender)
    }

    async fn put(sender: &FolderSender, path: &str, content: &'static str) -> Result<Stored, Verdict> {
        sender.write(Path::new(path), Bytes::from_static(content.as_bytes())).await
    }

    #[tokio::test]
    async fn a_file_is_written_once_and_again_only_when_its_content_differs() {
        let (dir, sender) = folder();
        let path = "2026/02/17/voice-48213.json";
        assert_eq!(put(&sender, path, "{}").await, Ok(Stored::Written));
        assert_eq!(put(&sender, path, "{}").await, Ok(Stored::Same));
        assert_eq!(put(&sender, path, "[]").await, Ok(Stored::Written));
        assert_eq!(put(&sender, path, "").await, Ok(Stored::Written));
        assert_eq!(put(&sender, path, "longer").await, Ok(Stored::Written));
        assert_eq!(fs::read_to_string(dir.path().join(path)).expect("the file"), "longer");
        let beside: Vec<_> = fs::read_dir(dir.path().join("2026/02/17")).expect("the folder").collect();
        assert_eq!(beside.len(), 1, "a temporary file is left");
    }

    #[tokio::test]
    async fn a_path_never_leaves_the_folder() {
        let (_dir, sender) = folder();
        let long = "a/".repeat(600) + "b";
        let name = "n".repeat(256);
        for path in [
            "",
            "/etc/x",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "a/.",
            "a\u{0}b",
            "a\nb",
            "..\\x",
            &long,
            &name,
            ".mail2crm-1.part",
            "pia/..",
        ] {
            let verdict = put(&sender, path, "x").await.expect_err(path);
            assert_eq!((verdict.class, verdict.reason), (Class::Dead, Reason::TemplateFailed), "{path:?}");
            assert!(!verdict.detail.contains("pia"), "{}", verdict.detail);
        }
        assert_eq!(put(&sender, "..a/b..c/Jürgen ☎.json", "x").await, Ok(Stored::Written));
    }

    #[tokio::test]
    async fn a_missing_folder_pauses_and_is_not_made() {
        let (dir, _) = folder();
        let path = dir.path().join("not-mounted");
        let sender = FolderSender::new(FolderSettings { path: path.clone() });
        for file in ["a.json", "2026/a.json"] {
            let verdict = put(&sender, file, "x").await.expect_err("no folder");
            assert_eq!((verdict.class, verdict.reason), (Class::Pause, Reason::StorageFailed));
        }
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_in_the_way_of_one_file_is_dead_and_left_alone() {
        let (dir, sender) = folder();
        assert_eq!(put(&sender, "file", "x").await, Ok(Stored::Written));
        assert_eq!(put(&sender, "dir/file", "x").await, Ok(Stored::Written));
        for path in ["file/below", "dir"] {
            let verdict = put(&sender, path, "y").await.expect_err(path);
            assert_eq!((verdict.class, verdict.reason), (Class::Dead, Reason::StorageFailed), "{path}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("file")).expect("the file"), "x");
    }

    #[tokio::test]
    async fn what_a_crash_left_is_overwritten() {
        let (dir, sender) = folder();
        assert_eq!(put(&sender, "a.json", "one").await, Ok(Stored::Written));
        let digest = Sha256::digest(b"a.json");
        let short: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        fs::write(dir.path().join(format!("{TEMPORARY}{short}.part")), "half of something longer").expect("left");
        assert_eq!(put(&sender, "a.json", "two").await, Ok(Stored::Written));
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("a.json")).expect("the file"), "two");
    }

    #[tokio::test]
    async fn two_writers_of_one_file_do_not_mix() {
        let (_dir, sender) = folder();
        let (a, b) = tokio::join!(put(&sender, "same", "aaa"), put(&sender, "same", "bbb"));
        assert_eq!(a, Ok(Stored::Written));
        assert_eq!(b.map_err(|v| v.class), Err(Class::Conflict));
        assert_eq!(put(&sender, "same", "bbb").await, Ok(Stored::Written));
    }

    #[test]
    fn a_full_disk_is_tried_again_and_a_closed_one_pauses() {
        let sender = FolderSender::new(FolderSettings { path: "/srv/x".into() });
        for (kind, class) in [
            (io::ErrorKind::StorageFull, Class::Retry),
            (io::ErrorKind::QuotaExceeded, Class::Retry),
            (io::ErrorKind::Other, Class::Retry),
            (io::ErrorKind::PermissionDenied, Class::Pause),
            (io::ErrorKind::ReadOnlyFilesystem, Class::Pause),
        ] {
            let verdict = sender.judge(&kind.into());
            assert_eq!((verdict.class, verdict.reason), (class, Reason::StorageFailed), "{kind:?}");
        }
    }
}
