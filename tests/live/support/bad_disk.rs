//! A disk that goes bad under the program: `bad_disk.c` built with the system's compiler and preloaded, so that the
//! flushes and writes of the ledger fail when a test says so.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::program::Site;

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It refuses to flush.
    Flush,
    /// It refuses to write.
    ReadOnly,
    /// It flushes slowly.
    Slow,
}

/// The switch of a disk; it is well at first.
pub(crate) struct BadDisk {
    folder: TempDir,
}

impl BadDisk {
    /// Builds it, and has the commands of a site to come run on it.
    ///
    /// # Panics
    /// If there is no C compiler: what can't run is a failure, never a silent skip.
    pub(crate) fn under(site: &Site) -> Self {
        let folder = TempDir::new().expect("a folder");
        let library = folder.path().join("bad_disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/support/bad_disk.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.expect("`cc` can be run: install gcc").success(), "{source} does not compile");
        site.set("LD_PRELOAD", &library.display().to_string());
        let disk = Self { folder };
        site.set("BAD_DISK", &disk.switch().display().to_string());
        disk
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("switch")
    }

    /// It goes bad.
    pub(crate) fn goes(&self, bad: Bad) {
        let letter = match bad {
            Bad::Flush => "f",
            Bad::ReadOnly => "r",
            Bad::Slow => "s",
        };
        std::fs::write(self.switch(), letter).expect("written");
    }

    /// It is well again.
    pub(crate) fn gets_well(&self) {
        std::fs::remove_file(self.switch()).expect("removed");
    }
}
