//! A disk that is small until somebody makes room on it: a tmpfs of its own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A mounted disk; unmounted when it is dropped.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// A disk with so many KiB.
    ///
    /// # Panics
    /// If nothing can be mounted here: what can't run is a failure, never a silent skip.
    pub(crate) fn new(kibibytes: u32) -> Self {
        let folder = TempDir::new().expect("a folder");
        let disk = Self { folder };
        disk.mount(&format!("size={kibibytes}k"));
        disk
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes room on it, under those who use it.
    pub(crate) fn grow(&self, kibibytes: u32) {
        self.mount(&format!("remount,size={kibibytes}k"));
    }

    fn mount(&self, options: &str) {
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "mail2crm-live"]).arg(self.path()).status();
        let status = status.expect("mount can be run");
        assert!(
            status.success(),
            "a full disk needs a tmpfs, and `mount -o {options}` is not allowed here: run as root"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
