//! A CRM on this machine that answers each update as the test decides, and counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This status.
    Status(u16),
    /// 429, with this `Retry-After`.
    TooMany(u32),
    /// Nothing until the test lets go; then 200.
    Hang,
}

/// What it has seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Requests by record.
    pub(crate) requests: HashMap<String, usize>,
    /// Updates that it did, by record.
    pub(crate) done: HashMap<String, usize>,
    pub(crate) under_way: usize,
    /// How many were under way when each request came, itself counted.
    pub(crate) widths: Vec<usize>,
}

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.requests.values().sum()
    }
}

type Decide = Arc<dyn Fn(&str, &Seen) -> Answer + Send + Sync>;

/// The CRM. Updates go to `/t/RECORD`.
#[derive(Clone)]
pub(crate) struct Crm {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<watch::Sender<usize>>,
    decide: Arc<Mutex<Decide>>,
    open: Arc<watch::Sender<bool>>,
}

impl Crm {
    pub(crate) async fn start(decide: impl Fn(&str, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let crm = Self {
            addr: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            changed: Arc::new(watch::channel(0).0),
            decide: Arc::new(Mutex::new(Arc::new(decide))),
            open: Arc::new(watch::channel(false).0),
        };
        let this = crm.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(stream));
            }
        });
        crm
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn answers(&self, decide: impl Fn(&str, &Seen) -> Answer + Send + Sync + 'static) {
        *self.decide.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(decide);
    }

    /// Returns once what it has seen fits.
    pub(crate) async fn until(&self, fits: impl Fn(&Seen) -> bool) {
        let mut changes = self.changed.subscribe();
        while !fits(&self.seen()) {
            changes.changed().await.expect("the CRM runs");
        }
    }

    /// Lets go what hangs.
    pub(crate) fn let_go(&self) {
        self.open.send_replace(true);
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|n| *n += 1);
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(record) = request(&mut stream).await {
            self.note(|seen| {
                *seen.requests.entry(record.clone()).or_default() += 1;
                seen.under_way += 1;
                seen.widths.push(seen.under_way);
            });
            let decide = self.decide.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let answer = decide(&record, &self.seen());
            let (status, more) = match answer {
                Answer::Status(status) => (status, String::new()),
                Answer::TooMany(seconds) => (429, format!("Retry-After: {seconds}\r\n")),
                Answer::Hang => {
                    let mut open = self.open.subscribe();
                    let _ = open.wait_for(|open| *open).await;
                    (200, String::new())
                }
            };
            self.note(|seen| {
                seen.under_way -= 1;
                if status == 200 {
                    *seen.done.entry(record).or_default() += 1;
                }
            });
            let head = format!("HTTP/1.1 {status} X\r\n{more}Content-Length: 2\r\n\r\n{{}}");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The record of the next request of a connection.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    let record = line.split(' ').nth(1)?.strip_prefix("/t/")?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok().filter(|n| *n > 0)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(record)
}
