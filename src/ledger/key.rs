//! The file beside the ledger that holds the key of this instance: made at the first start, readable by its
//! owner alone. Whoever has it can write mails that are taken for our own, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::message::mark::InstanceKey;

/// Where the key of the ledger at `state` is.
pub fn key_path(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// The key, if there is one yet. A file that holds none is an error: a new key would make strangers of the
/// mails that were sent.
pub(super) fn known_key(state: &Path) -> io::Result<Option<InstanceKey>> {
    let path = key_path(state);
    match std::fs::read_to_string(&path) {
        Ok(text) => match InstanceKey::from_text(&text) {
            Some(key) => Ok(Some(key)),
            None => Err(io::Error::new(ErrorKind::InvalidData, format!("`{}` holds no key", path.display()))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("can't read `{}`: {error}", path.display()))),
    }
}

/// The key; made from `random` if there is none yet. Two that start at the same time have the same.
pub(super) fn instance_key(state: &Path, random: [u8; 32]) -> io::Result<InstanceKey> {
    if let Some(key) = known_key(state)? {
        return Ok(key);
    }
    let path = key_path(state);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("can't write `{}`: {error}", path.display()));
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let key = InstanceKey::new(random);
    let _ = std::fs::remove_file(&unfinished); // of a start that a crash cut off
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    let written = writeln!(file, "{}", key.to_text()).and_then(|()| file.sync_all());
    // A link, unlike a renaming, does not take the place of what another process has just made.
    let linked = written.and_then(|()| std::fs::hard_link(&unfinished, &path));
    let _ = std::fs::remove_file(&unfinished);
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    known_key(state)?.ok_or_else(|| failed(ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_start_makes_the_key_and_later_ones_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("mail2crm.db");
        assert_eq!(known_key(&state).expect("no key"), None);
        let key = instance_key(&state, [1; 32]).expect("a key");
        assert_eq!(instance_key(&state, [2; 32]).expect("a key"), key);
        assert_eq!(known_key(&state).expect("a key"), Some(key));
        let file = folder.path().join("mail2crm.db.key");
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_without_a_key_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("s");
        std::fs::write(key_path(&state), "oops\n").expect("a file");
        assert!(instance_key(&state, [1; 32]).is_err());
        assert_eq!(std::fs::read_to_string(key_path(&state)).expect("a file"), "oops\n");
    }
}
