//! Metadata documents in a bucket (GCS, S3, Azure) or on an SFTP server: the source kind `bucket`.
//!
//! Each look costs a few requests however big the bucket is: where new objects are likely ([`looks`]), then a few pages
//! of the sweep that sees everything ([`memory`] says why both). A bucket of a few pages is swept whole at each look.
//! An object is read when it is new and when it is overwritten; each version is downloaded once, and not at all if it
//! is too large. An empty one waits, since it may still be written, and is reported after an hour.

mod looks;
mod memory;
mod pattern;
mod reader;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::reader::{Reader, fault};
use super::{Fault, Inlet, Recipe, Source};
use crate::outcome::{Reason, Verdict};
use crate::secret::Secret;
use crate::store::{Depth, Object, Page, Place, Store};

pub use settings::{After, Settings};

/// What the source needs of a store.
trait Shelf: Send + Sync + 'static {
    fn shown(&self) -> &str;
    fn dates_by_itself(&self) -> bool;
    fn list<'a>(&'a self, prefix: &'a str, depth: Depth, from: Option<&'a str>)
    -> BoxFuture<'a, Result<Page, Verdict>>;
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Object>, Verdict>>;
    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Option<Bytes>, Verdict>>;
    fn remove<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<(), Verdict>>;
    fn rename<'a>(&'a self, object: &'a Object, to: &'a str) -> BoxFuture<'a, Result<(), Verdict>>;
}

impl Shelf for Store {
    fn shown(&self) -> &str {
        self.shown()
    }

    fn dates_by_itself(&self) -> bool {
        self.dates_by_itself()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        depth: Depth,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Page, Verdict>> {
        Box::pin(self.list(prefix, depth, from))
    }

    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Object>, Verdict>> {
        Box::pin(self.look(name))
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Option<Bytes>, Verdict>> {
        Box::pin(self.read(object))
    }

    fn remove<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<(), Verdict>> {
        Box::pin(self.remove(object))
    }

    fn rename<'a>(&'a self, object: &'a Object, to: &'a str) -> BoxFuture<'a, Result<(), Verdict>> {
        Box::pin(self.rename(object, to))
    }
}

/// The source that reads one place.
#[derive(Debug)]
pub struct Bucket {
    settings: Settings,
    started: Timestamp,
}

impl Recipe for Settings {
    fn build(self, now: Timestamp) -> Box<dyn Source> {
        Box::new(Bucket { settings: self, started: now })
    }

    fn validate(&self) -> Vec<(&'static str, String, String)> {
        self.faults()
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        Self::paths(self)
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.access.secrets()
    }

    fn limit_to(&mut self, message_bytes: usize) {
        self.max_bytes = message_bytes;
    }

    fn period(&self) -> Option<Duration> {
        Some(super::poll(self.poll_seconds))
    }
}

impl Bucket {
    fn store(&self) -> Result<Store, Fault> {
        let fault = |detail| Fault { reason: Reason::Unreachable, step: "configure", detail };
        let place = Place::parse(&self.settings.url).ok().flatten();
        let place = place.ok_or_else(|| fault("`url` is no address of a bucket".to_owned()))?;
        Store::new(&place, &self.settings.access).map_err(fault)
    }
}

impl Source for Bucket {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let store = self.store()?;
            Reader::new(store, self.settings, self.started, inlet, &positions, stop).run().await
        })
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move { self.store()?.check(false).await.map_err(|verdict| fault("list", verdict)) })
    }
}
