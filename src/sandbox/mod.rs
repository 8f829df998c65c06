//! The sandbox CRM: a small ticket system in memory, to try templates against before the real CRM sees them,
//! and the counterpart of the demo, the tests and the benchmarks.
//!
//! It takes updates over REST (`rest`) and by mail (`smtp`, `mail`), shows them on a plain web page (`page`),
//! keeps a journal of every effect (`store`), and does on demand what real CRMs do at night (`faults`).
//! Everything is in memory and gone at the end. Whoever reaches the page can read it, so it listens on
//! loopback unless told otherwise. It knows nothing of the rest of the program but
//! how a mail is read off the wire.

pub mod faults;
pub mod line;
pub mod mail;
pub mod page;
pub mod records;
pub mod rest;
pub mod smtp;
pub mod store;
pub mod update;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::faults::{Fault, Faults};
pub use self::records::Records;
pub use self::store::Store;

use self::faults::Injector;
use self::line::{Door, Line};

/// How long `Running::stop` waits for answers under way before it drops them.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the sandbox is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where REST and the page listen; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where the mail intake listens, if at all; port 0 takes a free one.
    pub smtp: Option<SocketAddr>,
    /// What `Authorization: Bearer …` must carry.
    pub token: SecretString,
    /// Which tickets there are.
    pub records: Records,
    /// What goes wrong by itself.
    pub faults: Faults,
    /// Allow addresses other than loopback. The page has no login: whoever reaches it reads everything.
    pub exposed: bool,
}

impl Settings {
    /// Loopback on free ports, with the mail intake, without faults.
    pub fn new(token: SecretString, records: Records) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { http: loopback, smtp: Some(loopback), token, records, faults: Faults::default(), exposed: false }
    }
}

/// The sandbox CRM; see [`Sandbox::start`].
#[derive(Debug)]
pub struct Sandbox;

/// What every handler shares.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<Store>,
    pub(crate) injector: Arc<Injector>,
    pub(crate) token: Arc<SecretString>,
    pub(crate) stopping: CancellationToken,
}

impl Sandbox {
    /// Binds the addresses and serves until [`Running::stop`], or until the handle is dropped.
    ///
    /// # Errors
    ///
    /// An address that can't be bound, or that is not loopback without `exposed`; the text names it.
    pub async fn start(settings: Settings) -> io::Result<Running> {
        let http = bind(settings.http, settings.exposed).await?;
        let smtp = match settings.smtp {
            Some(addr) => Some(bind(addr, settings.exposed).await?),
            None => None,
        };
        let http_addr = http.local_addr()?;
        let smtp_addr = smtp.as_ref().map(TcpListener::local_addr).transpose()?;

        let stopping = CancellationToken::new();
        let app = App {
            store: Arc::new(Store::new(settings.records)),
            injector: Arc::new(Injector::new(settings.faults)),
            token: Arc::new(settings.token),
            stopping: stopping.clone(),
        };
        let store = Arc::clone(&app.store);
        let tasks = TaskTracker::new();
        if let Some(listener) = smtp {
            tasks.spawn(smtp::serve(listener, app.clone()));
        }
        let routes = Router::new().merge(rest::routes(&app)).merge(page::routes(&app));
        let service = routes.into_make_service_with_connect_info::<Line>();
        let stop = stopping.clone();
        tasks.spawn(async move {
            let serving = axum::serve(Door::new(http), service).with_graceful_shutdown(stop.cancelled_owned());
            // The listener retries by itself, so the future has no error to tell.
            let _never = serving.await;
        });
        tasks.close();
        Ok(Running { http_addr, smtp_addr, store, stopping, tasks })
    }
}

async fn bind(addr: SocketAddr, exposed: bool) -> io::Result<TcpListener> {
    if !exposed && !addr.ip().is_loopback() {
        let text = format!(
            "`{addr}` is not a loopback address, and the sandbox shows everything to whoever reaches it: say that \
             it may be exposed, or use 127.0.0.1"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    TcpListener::bind(addr).await.map_err(|e| io::Error::new(e.kind(), format!("can't listen on `{addr}`: {e}")))
}

/// A sandbox at work. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Where REST and the page are.
    pub http_addr: SocketAddr,
    /// Where the mail intake is, if there is one.
    pub smtp_addr: Option<SocketAddr>,
    store: Arc<Store>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    /// The tickets and the journal, without going over HTTP.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// `http://ADDRESS`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.http_addr)
    }

    /// Takes no more connections, lets answers under way finish for up to two seconds, and returns.
    pub async fn stop(self) {
        self.stopping.cancel();
        let _late = tokio::time::timeout(FAREWELL, self.tasks.wait()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}
