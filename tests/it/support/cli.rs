//! The built binary in a folder of its own, and a sandbox CRM for it to update.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use mail2crm::sandbox::{Records, Running, Sandbox, Settings, Store};
use secrecy::SecretString;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const TOKEN: &str = "let-me-in";

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a sample mail.
pub(crate) fn mail(name: &str) -> String {
    repository().join(format!("fixtures/mail/{name}.eml")).display().to_string()
}

/// A folder in which the binary is run.
pub(crate) struct Bench(TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    /// The binary, to be started here, knowing nothing of the environment of the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mail2crm"));
        command.args(args).current_dir(self.path()).env_remove("MAIL2CRM_CONFIG").env_remove("HOME");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, &[], b"")
    }

    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> Done {
        let mut child = self.command(args).envs(env.iter().copied()).spawn().expect("the binary");
        // Somebody who does not read stdin closes it: that is no fault.
        let _ = child.stdin.take().expect("stdin").write_all(stdin);
        let output = child.wait_with_output().expect("an end");
        Done {
            args: args.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The service at work; killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Bench {
    /// Starts `run`.
    pub(crate) fn service(&self) -> Service {
        let child = self.command(&["run"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = child.expect("the program");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        Service { child, log }
    }
}

impl Service {
    /// Reads its log until a line has this.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).expect("text") > 0, "it ended without `{text}`:\n{before}");
            if line.contains(text) {
                return;
            }
            before.push_str(&line);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
pub(crate) struct Done {
    args: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let (args, stdout, stderr) = (&self.args, &self.stdout, &self.stderr);
        assert_eq!(self.code, Some(code), "mail2crm {args}\n-- stdout\n{stdout}\n-- stderr\n{stderr}");
        self
    }

    /// Every line of stdout as one JSON object.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let object = |line: &str| -> Value {
            let value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", self.args));
            assert!(Value::is_object(&value), "{}: {line}", self.args);
            value
        };
        self.stdout.lines().map(object).collect()
    }

    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "{}: no `{part}` in\n{}", self.args, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, part: &str) -> Self {
        assert!(self.stdout.contains(part), "{}: no `{part}` in\n{}", self.args, self.stdout);
        self
    }

    #[track_caller]
    pub(crate) fn prints_nothing(self) -> Self {
        assert_eq!(self.stdout, "", "{}", self.args);
        self
    }
}

/// A sandbox CRM with any tickets, on threads of its own.
pub(crate) struct Crm {
    runtime: Runtime,
    running: Running,
}

pub(crate) fn sandbox(faults: &str) -> Crm {
    let runtime = Runtime::new().expect("a runtime");
    let mut settings = Settings::new(SecretString::from(TOKEN), Records::any(""));
    settings.faults = faults.parse().expect("faults");
    let running = runtime.block_on(Sandbox::start(settings)).expect("a sandbox");
    Crm { runtime, running }
}

impl Crm {
    pub(crate) fn url(&self) -> String {
        self.running.url()
    }

    pub(crate) fn smtp_port(&self) -> u16 {
        self.running.smtp_addr.expect("the mail intake").port()
    }

    pub(crate) fn store(&self) -> &Store {
        self.running.store()
    }

    pub(crate) fn effects(&self) -> usize {
        self.store().counts().effects
    }

    pub(crate) fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }
}
