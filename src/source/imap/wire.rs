//! The byte stream below the IMAP client, with a limit on what one response may hold (RFC 3501 section 4.3).
//!
//! The client library buffers a literal whole, up to 512 MiB, and a line without an end for ever. Here the
//! announced size of a literal is seen first, and a stream that goes over the limits ends with an error that
//! `announced` recognises. Counts what was received, so that a slow answer is told from none.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::source::tls::Duplex;

/// No line of a server's is longer, literals apart: a listing's lines have less than 200 bytes, and a long
/// CAPABILITY a few thousand.
const LONGEST_LINE: usize = 1 << 20;

/// A connection whose incoming literals are limited.
pub(super) struct Wire {
    inner: Box<dyn Duplex>,
    limits: Limits,
    received: u64,
}

impl Wire {
    /// Literals of up to `largest` bytes pass.
    pub(super) fn new(inner: Box<dyn Duplex>, largest: u64) -> Self {
        Self { inner, limits: Limits::new(largest), received: 0 }
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

// The client library asks for it; the bytes are nobody's business.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("received", &self.received).finish_non_exhaustive()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        self.received += fresh.len() as u64;
        Poll::Ready(self.limits.pass(fresh).map_err(|too_long| io::Error::new(io::ErrorKind::InvalidData, too_long)))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A response that goes over the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLong {
    /// A literal of this many bytes was announced.
    Literal(u64),
    /// A line did not end.
    Line,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(bytes) => write!(f, "a literal of {bytes} bytes was announced"),
            Self::Line => f.write_str("a line without end"),
        }
    }
}

impl std::error::Error for TooLong {}

/// What an error of the client library says about a limit that was passed.
pub(super) fn too_long(error: &io::Error) -> Option<TooLong> {
    error.get_ref()?.downcast_ref::<TooLong>().copied()
}

/// Follows the lines and literals of what passes. Text (status and continuation lines) has no literals.
struct Limits {
    largest: u64,
    literal_left: u64,
    /// Length of the line so far, and its first three and last bytes.
    line: usize,
    head: [u8; 3],
    tail: Vec<u8>,
}

/// Enough for `{18446744073709551615}\r`.
const TAIL: usize = 24;

impl Limits {
    fn new(largest: u64) -> Self {
        Self { largest, literal_left: 0, line: 0, head: [0; 3], tail: Vec::with_capacity(2 * TAIL) }
    }

    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if self.literal_left > 0 {
                let skipped = usize::try_from(self.literal_left).unwrap_or(usize::MAX).min(bytes.len());
                self.literal_left -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let end = memchr::memchr(b'\n', bytes);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.follow(piece)?;
            bytes = rest.get(1..).unwrap_or_default();
            if end.is_some() {
                match self.announced() {
                    Some(size) if size > self.largest => return Err(TooLong::Literal(size)),
                    // The line goes on after the literal: its head stays.
                    Some(size) => self.literal_left = size,
                    None => self.line = 0,
                }
                self.tail.clear();
            }
        }
        Ok(())
    }

    fn follow(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        for (slot, byte) in self.head.iter_mut().skip(self.line).zip(piece) {
            *slot = *byte;
        }
        self.line += piece.len();
        let last = piece.get(piece.len().saturating_sub(TAIL)..).unwrap_or_default();
        self.tail.extend_from_slice(last);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        if self.line > LONGEST_LINE { Err(TooLong::Line) } else { Ok(()) }
    }

    /// The size of the literal that the line which just ended announces.
    fn announced(&self) -> Option<u64> {
        let [b'*', b' ', kind] = self.head else { return None };
        if self.line < 3 || matches!(kind.to_ascii_uppercase(), b'O' | b'N' | b'B' | b'P') {
            return None;
        }
        let digits = self.tail.strip_suffix(b"}\r")?;
        let open = memchr::memrchr(b'{', digits)?;
        std::str::from_utf8(digits.get(open + 1..)?).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"* OK hello {999999}\r\n* 1 FETCH (UID 4 BODY[] {9}\r\n{500}\r\n{)\r FLAGS (\\Seen))\r\n\
        * 2 FETCH (BODY[] {5}\r\n12345 UID 7)\r\nA0001 OK {777777}\r\n";

    /// The stream cut in two at every place must judge as it does whole.
    fn pass(bytes: &[u8], largest: u64) -> Result<(), TooLong> {
        let whole = Limits::new(largest).pass(bytes);
        for cut in 0..bytes.len() {
            let mut limits = Limits::new(largest);
            let (a, b) = bytes.split_at(cut);
            assert_eq!(limits.pass(a).and_then(|()| limits.pass(b)), whole, "cut at {cut}");
        }
        whole
    }

    #[test]
    fn literals_within_the_limit_pass_whatever_they_hold() {
        assert_eq!(pass(MAIL, 9), Ok(()));
    }

    #[test]
    fn a_literal_over_the_limit_is_seen_when_it_is_announced() {
        assert_eq!(pass(MAIL, 8), Err(TooLong::Literal(9)));
        assert_eq!(pass(b"* 1 FETCH (BODY[] {943718400}\r\n", 1 << 20), Err(TooLong::Literal(943_718_400)));
        assert_eq!(pass(b"* 1 FETCH (UID 1 BODY[] {1}\r\nx X {99}\r\n", 9), Err(TooLong::Literal(99)));
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut limits = Limits::new(9);
        let mut fine = 0;
        while limits.pass(&[b'x'; 65536]).is_ok() {
            fine += 1;
        }
        assert_eq!(fine, 16);
    }
}
