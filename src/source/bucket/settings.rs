//! `[source.<name>]` with `kind = "bucket"`: the keys.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::Patterns;
use crate::source::Start;
use crate::store::{Access, Place};

/// A source of kind `bucket`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The place: `gs://BUCKET/PREFIX`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or
    /// `sftp://USER@HOST/PATH`.
    pub url: String,
    /// Which names are read, below the prefix: a pattern such as `**/metadata-*.json`, or a list. Default: what the
    /// platform calls its metadata files, and numbered copies of them.
    #[serde(default, rename = "match")]
    pub pattern: Patterns,
    /// Which of the objects that are there at the first contact are read: `"now"` (none), `"all"`, or a date.
    /// Default: `"now"`.
    #[serde(default)]
    pub start: Start,
    /// What to do with an object after it is safely taken. Default: `"nothing"`.
    #[serde(default)]
    pub after: After,
    /// How often to look, in seconds. Default: 60.
    #[serde(default = "poll_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub poll_seconds: u64,
    /// How to get in.
    #[serde(flatten)]
    pub access: Access,
    /// Larger objects are not downloaded; from `[limits]`.
    #[serde(skip, default = "crate::source::message_bytes")]
    pub max_bytes: usize,
}

fn poll_seconds() -> u64 {
    60
}

/// What to do with an object after it is safely taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Leave it where it is.
    #[default]
    Nothing,
    /// Delete it.
    Delete,
    /// Move it below another prefix of the same place, such as `done/`.
    MoveTo(String),
}

impl Settings {
    /// What can't be: key, sentence, hint.
    pub(super) fn faults(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = match Place::parse(&self.url) {
            Ok(Some(place)) => self.access.validate(Some(&place), "url"),
            Ok(None) => {
                let sentence = format!("`{}` is no address of a bucket or an SFTP server", self.url);
                vec![("url", sentence, "a folder of this machine is `kind = \"directory\"`".to_owned())]
            }
            Err((sentence, hint)) => vec![("url", sentence, hint)],
        };
        if let After::MoveTo(prefix) = &self.after
            && (prefix.trim_matches('/').is_empty() || prefix.starts_with('/') || prefix.contains(".."))
        {
            let hint = "write a name below the same prefix, such as `{ move_to = \"done\" }`".to_owned();
            faults.push(("after", format!("`{prefix}` is no prefix to move to"), hint));
        }
        faults
    }

    /// What moved objects' names begin with.
    pub(super) fn moved_below(&self) -> Option<String> {
        match &self.after {
            After::MoveTo(prefix) => Some(format!("{}/", prefix.trim_end_matches('/'))),
            _ => None,
        }
    }

    /// The paths, which the configuration makes start from its own folder.
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        self.access.ca_file.iter_mut().collect()
    }
}
