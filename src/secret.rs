//! Where a credential comes from: the environment, a file, a command, or (discouraged) the text itself.
//!
//! A secret is read each time it is needed, so a rotated one is picked up at the next connection. It is
//! never in a `Debug`, a log or an error: errors name the place, not the value.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

/// A reference to a credential.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Secret {
    /// The text itself. Prefer one of the others: configuration files get copied.
    Plain(String),
    /// `{ env = "NAME" }`: an environment variable.
    Env {
        /// The variable's name.
        env: String,
    },
    /// `{ file = "PATH" }`: a file; one line end after it is dropped.
    File {
        /// The file's path.
        file: PathBuf,
    },
    /// `{ command = "…" }`: what a shell command prints; one line end after it is dropped.
    Command {
        /// The command line, run by `/bin/sh -c`.
        command: String,
    },
}

impl Secret {
    /// Reads the credential. The error is a sentence that names the place and what to change.
    pub fn reveal(&self) -> Result<SecretString, String> {
        let text = match self {
            Self::Plain(text) => text.clone(),
            Self::Env { env } => std::env::var(env)
                .map_err(|_| format!("the environment variable `{env}` is not set (or is not UTF-8)"))?,
            Self::File { file } => std::fs::read_to_string(file)
                .map_err(|e| format!("can't read the secret file `{}`: {e}", file.display()))?,
            Self::Command { command } => {
                let out = Command::new("/bin/sh")
                    .args(["-c", command])
                    .output()
                    .map_err(|e| format!("can't run the secret command: {e}"))?;
                if !out.status.success() {
                    return Err(format!("the secret command ended with {}", out.status));
                }
                String::from_utf8(out.stdout)
                    .map_err(|_| "the secret command printed something that is not UTF-8".to_owned())?
            }
        };
        let text = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
        if text.is_empty() {
            return Err(format!("the secret from {self:?} is empty"));
        }
        Ok(SecretString::from(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("the configuration itself"),
            Self::Env { env } => write!(f, "the environment variable `{env}`"),
            Self::File { file } => write!(f, "the file `{}`", file.display()),
            Self::Command { .. } => f.write_str("a command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_plain_secret_is_not_shown() {
        let secret = Secret::Plain("hunter2".into());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.reveal().expect("a secret").expose_secret(), "hunter2");
    }

    #[test]
    fn a_command_gives_what_it_prints() {
        let secret = Secret::Command { command: "printf 'a b\\n'".into() };
        assert_eq!(secret.reveal().expect("a secret").expose_secret(), "a b");
        assert!(Secret::Command { command: "exit 3".into() }.reveal().is_err());
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = Secret::Env { env: "MAIL2CRM_NO_SUCH".into() }.reveal().expect_err("missing");
        assert!(error.contains("MAIL2CRM_NO_SUCH"));
    }
}
