//! A progress bar on stderr for long work on a terminal: share, rate, time left. Silent otherwise.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a walk over files is.
pub(super) struct Progress {
    bar: ProgressBar,
    items: u64,
}

impl Progress {
    /// A bar for the files below these paths; hidden if stderr is no terminal.
    pub(super) fn over(paths: &[PathBuf]) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(5);
        if target.is_hidden() {
            return Self { bar: ProgressBar::hidden(), items: 0 };
        }
        let bar = ProgressBar::with_draw_target(Some(paths.iter().map(|p| size(p)).sum()), target);
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:30} {percent:>3} %  {bytes}/{total_bytes}  {msg}  {bytes_per_sec}  {eta} left",
        ) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, items: 0 }
    }

    /// One more message, of so many bytes.
    pub(super) fn add(&mut self, bytes: usize) {
        self.items += 1;
        self.bar.inc(bytes as u64);
        if self.items.is_multiple_of(32) {
            self.bar.set_message(format!("{} messages", self.items));
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes below a path; what can't be read counts nothing here and is told when it is read.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = path.metadata() else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|e| size(&e.path())).sum()
}
