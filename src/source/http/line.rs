//! A caller's connection to the `http` source: its seat, its TLS, and an end to its silence.
//!
//! TLS begins with the first read, in the caller's own task, so that a caller who never speaks holds up nobody.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use crate::source::listen::{Certificate, Seat, Seats};

/// Where callers come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) seats: Seats,
    pub(super) certificate: Option<Certificate>,
    pub(super) patience: Duration,
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            let (mut stream, address) = Listener::accept(&mut self.listener).await;
            let _slower = stream.set_nodelay(true);
            let Some(seat) = self.seats.take(address.ip()) else {
                if self.certificate.is_none() {
                    let busy = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _gone = stream.write_all(busy).await;
                }
                continue;
            };
            let state = match self.certificate.as_ref().map(Certificate::acceptor) {
                None => State::Clear(stream),
                Some(Ok(acceptor)) => State::Shaking(Box::new(acceptor.accept(stream))),
                Some(Err(fault)) => {
                    tracing::error!(%fault, "a caller could not be served");
                    continue;
                }
            };
            let quiet = Box::pin(sleep(self.patience));
            return (Line { state, quiet, patience: self.patience, _seat: seat }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection.
pub(super) struct Line {
    state: State,
    /// When the silence is too long.
    quiet: Pin<Box<Sleep>>,
    patience: Duration,
    _seat: Seat,
}

enum State {
    Clear(TcpStream),
    Shaking(Box<Accept<TcpStream>>),
    Secured(Box<TlsStream<TcpStream>>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Line {
    /// The stream, once it is as secure as it is to be.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Stream>>> {
        if let State::Shaking(accept) = &mut self.state {
            match Pin::new(accept).poll(cx) {
                Poll::Ready(stream) => self.state = State::Secured(Box::new(stream?)),
                Poll::Pending => {
                    ready!(self.quiet.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Clear(stream) => Ok(Pin::new(stream)),
            State::Secured(stream) => Ok(Pin::new(&mut **stream)),
            State::Shaking(_) => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    /// As `done`, unless it is pending for too long.
    fn within_patience<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            ready!(self.quiet.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let until = Instant::now() + self.patience;
        self.quiet.as_mut().reset(until);
        done
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_stream(cx))?.poll_read(cx, buf);
        self.within_patience(cx, read)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.poll_stream(cx))?.poll_write(cx, bytes);
        self.within_patience(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.poll_stream(cx))?.poll_flush(cx);
        self.within_patience(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_shutdown(cx)
    }
}
