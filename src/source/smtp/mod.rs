//! A listener that mail servers deliver to, as a source: SMTP (RFC 5321) and LMTP (RFC 2033), with STARTTLS or
//! implicit TLS.
//!
//! A mail is answered `250` only after it is committed, and `4xx` whenever that is in doubt, so the other server
//! keeps it. There is no queue of its own, no relaying and no position: who sends, remembers. A mail that comes
//! again because an answer was lost is known by its bytes and its envelope.

mod dialogue;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listen::{self, Certificate, Seats};
use super::{Fault, Inlet, Recipe, Sighted, Source, gather};

pub(crate) use dialogue::path;
pub use settings::{Protocol, Settings, Tls};

/// How long what is under way may go on after the source was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A listener, ready to be run.
#[derive(Debug)]
pub struct Smtp {
    settings: Settings,
}

impl Recipe for Settings {
    fn build(self, _now: Timestamp) -> Box<dyn Source> {
        Box::new(Smtp { settings: self })
    }

    fn validate(&self) -> Vec<(&'static str, String, String)> {
        Self::validate(self)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        self.certificate.iter_mut().chain(&mut self.private_key).collect()
    }

    fn reads_alone(&self) -> bool {
        false
    }

    fn limit_to(&mut self, message_bytes: usize) {
        self.max_bytes = self.max_bytes.min(message_bytes);
    }

    fn knows_peers(&self) -> bool {
        true
    }
}

impl Source for Smtp {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        _positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let listener = listen::bind(&self.settings.listen).await?;
            inlet.looked();
            let word = if self.settings.protocol == Protocol::Lmtp { "LMTP" } else { "SMTP" };
            tracing::info!("takes mail by {word} on {}", self.settings.listen);
            serve(self.settings, listener, inlet, stop).await
        })
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move {
            let certificate = certificate(&self.settings);
            let read = super::blocking(move || Ok(certificate.map(|c| c.acceptor().map(|_| ())).transpose()));
            read.await.map_err(|e| super::file_fault("tls", "".as_ref(), &e))??;
            listen::look(&self.settings.listen).await
        })
    }

    fn survey(
        self: Box<Self>,
        _positions: BTreeMap<String, String>,
        _to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn certificate(settings: &Settings) -> Option<Certificate> {
    let (certificate, key) = settings.certificate.clone().zip(settings.private_key.clone())?;
    (settings.tls != Tls::None).then(|| Certificate::new(certificate, key))
}

/// Serves callers until `stop`, and then those with a mail under way for a short while.
async fn serve(settings: Settings, listener: TcpListener, inlet: Inlet, stop: CancellationToken) -> Result<(), Fault> {
    let certificate = certificate(&settings);
    if let Some(certificate) = &certificate {
        certificate.acceptor()?;
    }
    let (counter, gathering) = gather::open(inlet);
    let gathering = tokio::spawn(gathering);
    let seats = Seats::new(settings.max_connections, settings.max_connections_per_peer);
    let around = Arc::new(dialogue::Around { settings, certificate, counter, seats, stop: stop.clone() });
    let callers = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((mut stream, address)) = accepted else {
            // Out of file descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(seat) = around.seats.take(address.ip()) else {
            let _gone = stream.write_all(b"421 4.7.0 too many connections, try again later\r\n").await;
            continue;
        };
        let around = around.clone();
        callers.spawn(async move {
            let _seat = seat;
            dialogue::converse(stream, address.ip(), &around).await;
        });
    }
    drop(listener);
    callers.close();
    // Who is in the middle of a mail after that gets no answer, and sends it again.
    let _late = tokio::time::timeout(GRACE, callers.wait()).await;
    drop(around);
    let _late = tokio::time::timeout(GRACE, gathering).await;
    Ok(())
}

#[cfg(test)]
mod tests;
