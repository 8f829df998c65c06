//! `gs://bucket/prefix`, `s3://…`, `az://account/container/prefix`, `sftp://user@host:port/path` → where documents are
//! stored. What has no scheme is a folder of this machine, and none of ours. Connects to nothing.

use std::fmt;

use reqwest::Url;

/// A place that is reached over a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// What all names in it begin with: empty, or ending in `/`.
        prefix: String,
    },
    /// Amazon S3, or a store that speaks like it.
    S3 {
        /// The bucket.
        bucket: String,
        /// As above.
        prefix: String,
    },
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// The container.
        container: String,
        /// As above.
        prefix: String,
    },
    /// A folder on an SFTP server.
    Sftp {
        /// Who logs in.
        user: String,
        /// The server.
        host: String,
        /// Its port.
        port: u16,
        /// The folder: absolute, or without a slash in front below the one where a login starts.
        path: String,
    },
}

impl Place {
    /// The place, or nothing if the text is a path of this machine. The error says what is wrong, and what to write
    /// instead.
    pub fn parse(text: &str) -> Result<Option<Self>, (String, String)> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let wrong = |hint: &str| (format!("`{text}` is no place to store documents in"), hint.to_owned());
        let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && name != ".."
        };
        match scheme {
            "gs" | "s3" => {
                if !is_plain(first) {
                    return Err(wrong(&format!("write `{scheme}://BUCKET/PREFIX`")));
                }
                let (bucket, prefix) = (first.to_owned(), folder(below).ok_or_else(|| wrong(PREFIX_HINT))?);
                Ok(Some(if scheme == "gs" { Self::Gcs { bucket, prefix } } else { Self::S3 { bucket, prefix } }))
            }
            "az" => {
                let (container, below) = below.split_once('/').unwrap_or((below, ""));
                if !is_plain(first) || !is_plain(container) {
                    return Err(wrong("write `az://ACCOUNT/CONTAINER/PREFIX`"));
                }
                let prefix = folder(below).ok_or_else(|| wrong(PREFIX_HINT))?;
                Ok(Some(Self::Azure { account: first.to_owned(), container: container.to_owned(), prefix }))
            }
            "sftp" => sftp(text).map(Some).ok_or_else(|| {
                wrong("write `sftp://USER@HOST/PATH`; `sftp://USER@HOST/~/PATH` starts where a login does")
            }),
            _ => Err(wrong("write `gs://…`, `s3://…`, `az://…`, `sftp://…`, or the path of a folder")),
        }
    }
}

const PREFIX_HINT: &str = "leave out empty parts, `.` and `..` from the prefix";

/// A prefix that ends where a folder does.
fn folder(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return Some(String::new());
    }
    text.split('/').all(|part| !matches!(part, "" | "." | "..")).then(|| format!("{text}/"))
}

fn sftp(text: &str) -> Option<Place> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let user = super::uri::decode(url.username()).filter(|user| !user.is_empty())?;
    if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    let path = super::uri::decode(url.path())?;
    let path = match path.strip_prefix("/~") {
        Some("" | "/") => ".".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.trim_matches('/').to_owned(),
        _ if path.is_empty() => "/".to_owned(),
        _ => path,
    };
    let path = if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Some(Place::Sftp { user, host: host.to_owned(), port: url.port().unwrap_or(22), path })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gcs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Azure { account, container, prefix } => write!(f, "az://{account}/{container}/{prefix}"),
            Self::Sftp { host, port: 22, path, .. } => write!(f, "sftp://{host}/{}", path.trim_start_matches('/')),
            Self::Sftp { host, port, path, .. } => write!(f, "sftp://{host}:{port}/{}", path.trim_start_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_the_kind_and_the_place() {
        let place = |text: &str| Place::parse(text).expect(text);
        let (bucket, prefix) = ("acme-sessions".to_owned(), "metadata/".to_owned());
        let gcs = Place::Gcs { bucket: bucket.clone(), prefix: prefix.clone() };
        assert_eq!(place("gs://acme-sessions/metadata"), Some(gcs.clone()));
        assert_eq!(place("gs://acme-sessions/metadata/"), Some(gcs));
        assert_eq!(place("s3://acme-sessions"), Some(Place::S3 { bucket, prefix: String::new() }));
        let azure = Place::Azure { account: "acme".into(), container: "sessions".into(), prefix };
        assert_eq!(place("az://acme/sessions/metadata"), Some(azure));
        let sftp = |user: &str, host: &str, port, path: &str| {
            Some(Place::Sftp { user: user.into(), host: host.into(), port, path: path.into() })
        };
        assert_eq!(place("sftp://ccaip@files.acme.example/out"), sftp("ccaip", "files.acme.example", 22, "/out"));
        assert_eq!(place("sftp://a%40b@[::1]:2222/~/in box/"), sftp("a@b", "::1", 2222, "in box"));
        assert_eq!(place("sftp://u@h"), sftp("u", "h", 22, "/"));
        assert_eq!(place("sftp://u@h/~"), sftp("u", "h", 22, "."));
        for folder in ["/srv/sessions", "archive", ""] {
            assert_eq!(place(folder), None, "{folder}");
        }
    }

    #[test]
    fn what_is_no_place_is_told_with_how_to_write_one() {
        for (text, part) in [
            ("gs://", "gs://BUCKET"),
            ("gs:///x", "gs://BUCKET"),
            ("s3://b/a//b", "empty parts"),
            ("s3://b/../c", "`..`"),
            ("az://account", "az://ACCOUNT"),
            ("sftp://host/path", "USER@HOST"),
            ("sftp://user:secret@host/path", "USER@HOST"),
            ("ftp://user@host/path", "sftp://"),
        ] {
            let (_, hint) = Place::parse(text).expect_err(text);
            assert!(hint.contains(part), "{text}: {hint}");
        }
    }
}
