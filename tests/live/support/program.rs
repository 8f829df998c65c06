//! The built program, run as an operator runs it: a folder with a configuration file, a process, its standard
//! error, and signals.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::until;

/// A folder with a `mail2crm.toml`, where the program is run; removed at the end.
pub(crate) struct Site {
    folder: TempDir,
    environment: Mutex<Vec<(String, String)>>,
}

/// A program that runs; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stderr: Arc<Mutex<String>>,
}

impl Site {
    /// A new folder with this configuration. Relative paths in it are the folder's.
    pub(crate) fn new(configuration: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("mail2crm.toml"), configuration).expect("the configuration");
        Self { folder, environment: Mutex::default() }
    }

    /// Sets a variable of the environment for the commands to come.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.environment.lock().expect("no panic while it is held").push((name.to_owned(), value.to_owned()));
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file into the folder; its path.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Starts a command that goes on, such as `run`.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, text) = (child.stderr.take().expect("a pipe"), stderr.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = text.lock().expect("no panic while it is held");
                text.push_str(&line);
                text.push('\n');
            }
        });
        Running { child, stderr }
    }

    /// A command, to be run or started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mail2crm"));
        let environment = self.environment.lock().expect("no panic while it is held");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).current_dir(self.path()).env_remove("MAIL2CRM_CONFIG").stdin(Stdio::null());
        command
    }
}

impl Running {
    /// The process, for measuring.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic while it is held").clone()
    }

    /// Waits until its standard error has `text`; fails at once when the program ends without.
    pub(crate) async fn says(&mut self, text: &str, limit: Duration) {
        let what = format!("the program says `{text}`");
        until(&what, limit, async || {
            let ended = self.child.try_wait().expect("its state");
            let stderr = self.stderr();
            let said = stderr.contains(text);
            assert!(said || ended.is_none(), "the program ended with {ended:?} and never said `{text}`:\n{stderr}");
            said.then_some(())
        })
        .await;
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its end");
    }

    /// `SIGTERM`, and waits for the end: the exit status and all of its standard error.
    pub(crate) async fn terminate(mut self, limit: Duration) -> (ExitStatus, String) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(kill.success(), "the program had ended already");
        let status = until("the program ends", limit, async || self.child.try_wait().expect("its state")).await;
        (status, self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
