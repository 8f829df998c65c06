//! Places that documents are stored in over a network: Google Cloud Storage, Amazon S3 and what speaks like it, Azure
//! Blob Storage, and SFTP servers. One face for all, under the senders and the sources.
//!
//! The three object stores are spoken to in their own HTTP interfaces, signed here. (The `object_store` crate fails a
//! whole page of a listing over one name with an empty part, `metadata//1.json`, which is what an unresolved
//! placeholder leaves; then that one object would hide all others for good.) Each call tries once; an error is a
//! verdict that names neither a document nor a credential. Never shows half a document to a reader.

mod access;
mod ambient;
mod azure;
mod fresh;
mod gcs;
mod origin;
mod place;
mod s3;
#[cfg(feature = "sftp")]
mod sftp;
mod uri;

use bytes::Bytes;
use jiff::Timestamp;

use crate::digest::sha256;
use crate::outcome::{Class, Reason, Verdict};

pub use access::Access;
pub use place::Place;

/// The name of the metadata in which an object says what its content is.
const DIGEST: &str = "mail2crm-sha256";

/// An object, or a file, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name below the place's prefix.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When this content came, as the store says.
    pub modified: Option<Timestamp>,
    /// Tells this content from others under the same name: ETag, generation, or file time.
    pub tag: String,
}

/// A part of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects.
    pub objects: Vec<Object>,
    /// Folders in which there are more, each ending in `/`; only of [`Depth::One`].
    pub folders: Vec<String>,
    /// Where the next page begins, if there is one. Opaque.
    pub next: Option<String>,
    /// The time that it is at the store.
    pub now: Option<Timestamp>,
}

/// How far down a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All that begins with the prefix.
    All,
    /// Up to the next `/`, with the folders there.
    One,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The object is new or has new content.
    Written,
    /// It had this content already.
    Same,
}

/// What a write expects to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    /// Nothing.
    Absent,
    /// The content with this tag.
    Tag(String),
    /// It may not be asked for.
    Unknown,
}

/// An object as it is found by name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    object: Object,
    /// What it says of its content.
    digest: Option<String>,
}

/// A place with what reaches it. Cheap to share by reference.
#[derive(Debug)]
pub struct Store {
    kind: Kind,
    shown: String,
}

#[derive(Debug)]
enum Kind {
    Gcs(gcs::Gcs),
    S3(s3::S3),
    Azure(azure::Azure),
    #[cfg(feature = "sftp")]
    Sftp(sftp::Sftp),
}

macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match &$self.kind {
            Kind::Gcs($store) => $call,
            Kind::S3($store) => $call,
            Kind::Azure($store) => $call,
            #[cfg(feature = "sftp")]
            Kind::Sftp($store) => $call,
        }
    };
}

impl Store {
    /// Reads `ca_file`; connects to nothing. The error is a sentence that names the key to change.
    pub fn new(place: &Place, access: &Access) -> Result<Self, String> {
        let kind = match place {
            Place::Gcs { bucket, prefix } => Kind::Gcs(gcs::Gcs::new(bucket, prefix, access)?),
            Place::S3 { bucket, prefix } => Kind::S3(s3::S3::new(bucket, prefix, access)?),
            Place::Azure { account, container, prefix } => {
                Kind::Azure(azure::Azure::new(account, container, prefix, access)?)
            }
            #[cfg(feature = "sftp")]
            Place::Sftp { user, host, port, path } => Kind::Sftp(sftp::Sftp::new(user, host, *port, path, access)?),
            #[cfg(not(feature = "sftp"))]
            Place::Sftp { .. } => return Err(access::NO_SFTP.to_owned()),
        };
        Ok(Self { kind, shown: place.to_string() })
    }

    /// Its address, without who logs in.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether the times of its objects are the store's own, so that what was written later has a later one. On an
    /// SFTP server whoever writes a file can give it any time.
    pub fn dates_by_itself(&self) -> bool {
        match self.kind {
            #[cfg(feature = "sftp")]
            Kind::Sftp(_) => false,
            _ => true,
        }
    }

    /// One request's worth of the objects whose names begin with `prefix` (which may end within a name), after the
    /// page that told `from`. On an SFTP server: the files of one folder.
    pub async fn list(&self, prefix: &str, depth: Depth, from: Option<&str>) -> Result<Page, Verdict> {
        each!(self, store => store.list(prefix, depth, from).await)
    }

    /// What is there under a name.
    pub async fn look(&self, name: &str) -> Result<Option<Object>, Verdict> {
        askable(name)?;
        each!(self, store => store.find(name).await.map(|found| found.map(|found| found.object)))
    }

    /// The content that a listing showed; nothing if it is gone or replaced.
    pub async fn read(&self, object: &Object) -> Result<Option<Bytes>, Verdict> {
        askable(&object.name)?;
        each!(self, store => store.read(object).await)
    }

    /// Stores a JSON document, whole or not at all, unless the same is there. When it returns `Ok` the store has
    /// said that it keeps it. Between its look and its write nobody else's document is overwritten, where the store
    /// has conditional writes: that is a conflict.
    pub async fn write(&self, name: &str, bytes: Bytes) -> Result<Stored, Verdict> {
        askable(name)?;
        let digest = sha256(&bytes);
        let expected = match each!(self, store => store.find(name).await) {
            Ok(None) => Expected::Absent,
            Ok(Some(found)) if found.object.size == bytes.len() as u64 && found.digest.as_ref() == Some(&digest) => {
                return Ok(Stored::Same);
            }
            Ok(Some(found)) => Expected::Tag(found.object.tag),
            // The account may write and not read: a good choice for an archive.
            Err(verdict) if verdict.reason == Reason::NotPermitted => Expected::Unknown,
            Err(verdict) => return Err(verdict),
        };
        each!(self, store => store.write(name, bytes, &digest, &expected).await)
    }

    /// Removes an object, unless it was replaced since it was listed.
    pub async fn remove(&self, object: &Object) -> Result<(), Verdict> {
        askable(&object.name)?;
        each!(self, store => store.remove(object).await)
    }

    /// Gives an object another name, unless it was replaced since it was listed. What is there under that name is
    /// replaced.
    pub async fn rename(&self, object: &Object, to: &str) -> Result<(), Verdict> {
        askable(&object.name)?;
        askable(to)?;
        each!(self, store => store.rename(object, to).await)
    }

    /// Tries what can be tried without changing anything, and says what that was. `writes`: whether writing is what
    /// it is for.
    pub async fn check(&self, writes: bool) -> Result<String, Verdict> {
        each!(self, store => store.check(writes).await).map(|found| format!("`{}` {found}", self.shown))
    }
}

/// A name with a part `.` or `..` can't be put into the path of a request: every client and proxy resolves it.
fn askable(name: &str) -> Result<(), Verdict> {
    if name.is_empty() || name.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(Verdict::new(
            Class::Dead,
            Reason::StorageFailed,
            "a name with a part `.` or `..` can't be asked for",
        ));
    }
    Ok(())
}

/// A listing that went through, for `check`.
fn listed(writes: bool) -> Result<String, Verdict> {
    Ok(match writes {
        true => "can be listed; that documents can be written there was not tried".to_owned(),
        false => "can be listed; that objects can be read was not tried".to_owned(),
    })
}
