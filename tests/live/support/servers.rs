//! The real servers: `tests/live/servers/up` starts what a test names and says where it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the servers are: the variables of the dotenv file that `up` writes.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    variables: BTreeMap<String, String>,
}

impl Servers {
    /// Installs (as root), starts and waits for the services, and those that they need. What runs already is
    /// left running, so the first test that asks pays, and nobody stops them but `tests/run` or `down`.
    ///
    /// # Panics
    /// If one of them can't be started: what can't run is a failure, never a silent skip.
    pub(crate) fn up(services: &[&str]) -> Self {
        let output = Command::new(script("up"))
            .arg("-q")
            .args(services)
            .stderr(Stdio::inherit())
            .output()
            .expect("tests/live/servers/up can be run");
        assert!(output.status.success(), "tests/live/servers/up {services:?} failed: {}", output.status);
        let file = String::from_utf8(output.stdout).expect("a path");
        let text = std::fs::read_to_string(file.trim_end()).expect("the connection details");
        let variables = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { variables }
    }

    /// Stops one service, as an outage; its data stay for the next [`Servers::up`].
    pub(crate) fn stop(service: &str) {
        let status = Command::new(script("down")).arg(service).status().expect("tests/live/servers/down can be run");
        assert!(status.success(), "tests/live/servers/down {service} failed: {status}");
    }

    /// A variable, without its `LIVE_`.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.variables.get(&format!("LIVE_{name}")).unwrap_or_else(|| panic!("no server told LIVE_{name}"))
    }

    /// A port, such as `IMAP_PORT`.
    pub(crate) fn port(&self, name: &str) -> u16 {
        self.get(name).parse().expect("a port")
    }

    /// The servers' own certificate, for `localhost` and 127.0.0.1, and its key.
    pub(crate) fn certificate(&self) -> [PathBuf; 2] {
        let folder = self.ca_file().parent().expect("a folder").to_owned();
        [folder.join("server.crt"), folder.join("server.key")]
    }

    /// The authority that signed the servers' certificates. They are for `localhost` and 127.0.0.1.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.get("CA_CERT").into()
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/servers").join(name)
}
