//! A bad line to a server, on loopback: of every forty connections two are answered with 503 (or, for what is no HTTP,
//! cut at once), one is cut in the middle of what the server says, and two are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

/// A bad line.
pub(crate) struct Flaky {
    pub(crate) port: u16,
    faults: Arc<AtomicU64>,
}

/// What an object store says when it is asked too much.
const SLOW_DOWN: &[u8] = b"HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Flaky {
    /// To the server at this port of 127.0.0.1.
    pub(crate) async fn to(server: u16, speaks_http: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let faults = Arc::new(AtomicU64::new(0));
        let counted = faults.clone();
        tokio::spawn(async move {
            for turn in 0_u64.. {
                let Ok((client, _)) = listener.accept().await else { break };
                let counted = counted.clone();
                tokio::spawn(async move {
                    // The end of a connection is no error of the line's.
                    line(turn % 40, client, server, speaks_http, &counted).await.ok();
                });
            }
        });
        Self { port, faults }
    }

    /// How many connections met a fault so far.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

async fn line(
    turn: u64,
    mut client: TcpStream,
    server: u16,
    speaks_http: bool,
    faults: &AtomicU64,
) -> std::io::Result<()> {
    if turn % 20 == 2 {
        faults.fetch_add(1, Ordering::Relaxed);
        if speaks_http {
            // Of the request its beginning is enough.
            if client.read(&mut [0; 4096]).await? > 0 {
                client.write_all(SLOW_DOWN).await?;
            }
        }
        return Ok(());
    }
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        let mut told = 0;
        let mut chunk = vec![0; 16 << 10];
        loop {
            let read = from_server.read(&mut chunk).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            told += read;
            match turn {
                // In the middle: of a long connection as of a short answer. SSH gets as far as its login.
                5 if told > if speaks_http { 600 } else { 6_000 } => {
                    faults.fetch_add(1, Ordering::Relaxed);
                    to_client.write_all(&chunk[..read / 2]).await?;
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
                8 | 28 => tokio::time::sleep(Duration::from_millis(300)).await,
                _ => {}
            }
            to_client.write_all(&chunk[..read]).await?;
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}
