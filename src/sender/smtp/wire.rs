//! The connection under a mail dialogue: TCP with TCP_NODELAY, TLS from the start or by STARTTLS (RFC 3207,
//! RFC 8314), then handed to lettre.
//!
//! The part before STARTTLS is spoken here and not by lettre, which keeps what a stranger injected in clear
//! text before the handshake and takes it for answers after it. TCP_NODELAY matters: lettre writes a mail and
//! its final dot apart, which costs 40 ms a mail with Nagle's algorithm on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Step, refusal};
use crate::outcome::{Class, Reason, Verdict};
use crate::tls::find;

/// All answers before STARTTLS together may have this many bytes.
const CLEAR_CAP: usize = 16 << 10;

/// What lettre expects first on a connection. After STARTTLS the server says no such thing.
const GREETING: &[u8] = b"220 ready\r\n";

/// A TCP or TLS stream that lettre can be given.
#[derive(Debug)]
pub(super) enum Wire {
    Clear(TcpStream),
    Secret {
        stream: Box<TlsStream<TcpStream>>,
        /// Bytes that are read before those of the stream.
        first: &'static [u8],
    },
}

/// Looks the host up and connects to the first address that answers.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Verdict> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|_| {
        Verdict::new(Class::Pause, Reason::Dns, format!("the name of the mail server `{host}` is not known to DNS"))
    })?;
    let mut why = io::ErrorKind::NotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).ok(); // slower without, not wrong
                return Ok(stream);
            }
            Err(error) => why = error.kind(),
        }
    }
    Err(Verdict::new(
        Class::Retry,
        Reason::Unreachable,
        format!("no connection to the mail server {host}:{port}: {why}"),
    ))
}

/// The TLS handshake.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<Box<TlsStream<TcpStream>>, Verdict> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Verdict::new(
            Class::Pause,
            Reason::Tls,
            format!("the mail server's `host` `{host}` is not a name that TLS can verify"),
        )
    })?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match find::<rustls::Error>(&error) {
            Some(fault) => {
                Verdict::new(Class::Pause, Reason::Tls, format!("no TLS with the mail server `{host}`: {fault}"))
            }
            None => {
                let detail = format!("the mail server `{host}` closed the connection during the TLS handshake");
                Verdict::new(Class::Retry, Reason::Unreachable, detail)
            }
        }),
    }
}

/// Greeting, EHLO and STARTTLS in clear text: when it returns, the handshake is next.
pub(super) async fn ask_for_tls(stream: &mut TcpStream, hello: &str) -> Result<(), Verdict> {
    let mut buffer = Vec::new();
    accepted(Step::Greeting, read_reply(stream, &mut buffer).await?)?;
    write(stream, &format!("EHLO {hello}\r\n")).await?;
    let offer = read_reply(stream, &mut buffer).await?;
    let has_tls = offer.lines.iter().any(|line| line.trim().eq_ignore_ascii_case("STARTTLS"));
    accepted(Step::Hello, offer)?;
    if !has_tls {
        let detail = "the mail server does not offer STARTTLS; see `tls` of the destination's `smtp`";
        return Err(Verdict::new(Class::Pause, Reason::Tls, detail));
    }
    write(stream, "STARTTLS\r\n").await?;
    let go = read_reply(stream, &mut buffer).await?;
    if go.code >= 500 {
        let detail = format!("the mail server refuses STARTTLS with {}", go.code);
        return Err(Verdict::new(Class::Pause, Reason::Tls, detail));
    }
    accepted(Step::StartTls, go)?;
    if !buffer.is_empty() {
        let detail = "the mail server, or somebody on the way, sent clear text after its yes to STARTTLS";
        return Err(Verdict::new(Class::Pause, Reason::Tls, detail));
    }
    Ok(())
}

struct Reply {
    code: u16,
    lines: Vec<String>,
}

fn accepted(step: Step, reply: Reply) -> Result<(), Verdict> {
    match reply.code {
        200..=299 => Ok(()),
        code => Err(refusal(step, code, reply.lines.first().map_or("", String::as_str))),
    }
}

async fn write(stream: &mut TcpStream, command: &str) -> Result<(), Verdict> {
    stream.write_all(command.as_bytes()).await.map_err(|_| lost())
}

/// Reads one reply (RFC 5321 section 4.2), and leaves what came after it in `buffer`.
async fn read_reply(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Reply, Verdict> {
    let mut lines = Vec::new();
    loop {
        while let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).trim_end().to_owned();
            buffer.drain(..=end);
            let code = line.get(..3).filter(|c| c.bytes().all(|b| b.is_ascii_digit())).and_then(|c| c.parse().ok());
            let Some(code) = code.filter(|c| (200..600).contains(c)) else { return Err(no_smtp()) };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            match line.as_bytes().get(3) {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(Reply { code, lines }),
                Some(_) => return Err(no_smtp()),
            }
        }
        let before: usize = buffer.len() + lines.iter().map(String::len).sum::<usize>();
        if before > CLEAR_CAP || lines.len() > 200 {
            return Err(no_smtp());
        }
        if stream.read_buf(buffer).await.map_err(|_| lost())? == 0 {
            return Err(lost());
        }
    }
}

fn lost() -> Verdict {
    Verdict::new(Class::Retry, Reason::ConnectionLost, "the mail server closed the connection before the mail was sent")
}

fn no_smtp() -> Verdict {
    Verdict::new(
        Class::Pause,
        Reason::BadBaseUrl,
        "what listens at the mail server's `host` and `port` does not speak SMTP",
    )
}

impl Wire {
    /// TLS from the start: the server greets.
    pub(super) fn implicit(stream: Box<TlsStream<TcpStream>>) -> Self {
        Self::Secret { stream, first: b"" }
    }

    /// TLS after STARTTLS: the server has greeted already.
    pub(super) fn upgraded(stream: Box<TlsStream<TcpStream>>) -> Self {
        Self::Secret { stream, first: GREETING }
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Clear(stream) => stream.peer_addr(),
            Self::Secret { stream, .. } => stream.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secret { first, .. } if !first.is_empty() => {
                let (now, later) = first.split_at(first.len().min(buffer.remaining()));
                buffer.put_slice(now);
                *first = later;
                Poll::Ready(Ok(()))
            }
            Self::Secret { stream, .. } => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secret { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secret { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secret { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
