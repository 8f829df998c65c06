//! The bytes of a peer that may be hostile → lines and dot-stuffed messages, each with a cap (RFC 5321 section
//! 2.3.8 and 4.5.2, RFC 1939 section 3).
//!
//! A message ends at CR LF `.` CR LF and nowhere else: a dot between bare line feeds is content, so nothing can
//! be smuggled behind it. What is over a cap is read to its end and thrown away, never kept.

use std::io;
use std::time::Duration;

use memchr::{memchr, memmem};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::timeout;

/// What ends a message, with the line end before it.
const END: &[u8] = b"\r\n.\r\n";

/// How much of what does not fit is thrown away in the hope for an end.
const THROWN_AWAY: usize = 64 << 20;

/// How much is read at once.
const CHUNK: usize = 16 << 10;

/// How a line was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Whole, with its end.
    Line,
    /// Longer than allowed: the rest was thrown away.
    Long,
    /// The peer hung up.
    End,
}

/// How a message was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Up to its end, without the dots that were put before dots.
    Whole(Vec<u8>),
    /// It did not fit, and was thrown away up to its end.
    TooLarge,
    /// It did not fit, and came to no end either: the stream is of no more use.
    Endless,
    /// The peer hung up, or fell silent.
    Gone,
}

/// Lines with a cap, whatever comes.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    /// The line that was read last.
    pub(crate) line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from this stream.
    pub(crate) fn new(stream: R) -> Self {
        Self::with_chunk(stream, CHUNK)
    }

    fn with_chunk(stream: R, chunk: usize) -> Self {
        Self { reader: BufReader::with_capacity(chunk, stream), line: Vec::new() }
    }

    /// The stream itself, to write to.
    pub(crate) fn stream(&mut self) -> &mut R {
        self.reader.get_mut()
    }

    /// The stream alone; `None` if something was read from it that nobody asked for yet.
    pub(crate) fn into_stream(self) -> Option<R> {
        self.reader.buffer().is_empty().then(|| self.reader.into_inner())
    }

    /// Whether a line is here already, so that nothing has to be waited for.
    pub(crate) fn has_line(&self) -> bool {
        memchr(b'\n', self.reader.buffer()).is_some()
    }

    /// Reads to the next line feed into `self.line`, keeping at most `cap` bytes.
    pub(crate) async fn next(&mut self, cap: usize) -> io::Result<Got> {
        self.line.clear();
        let mut long = false;
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(Got::End);
            }
            let feed = memchr(b'\n', chunk);
            let piece = chunk.get(..feed.map_or(chunk.len(), |at| at + 1)).unwrap_or_default();
            let room = cap.saturating_sub(self.line.len());
            long |= piece.len() > room;
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            let length = piece.len();
            self.reader.consume(length);
            if feed.is_some() {
                return Ok(if long { Got::Long } else { Got::Line });
            }
        }
    }

    /// Reads a message up to its dot. `fits` is asked with its size so far, ever larger; once it says no the
    /// rest is thrown away. No silence longer than `patience` is borne.
    pub(crate) async fn message(
        &mut self,
        patience: Duration,
        mut fits: impl FnMut(usize) -> bool,
    ) -> io::Result<Body> {
        // As if the line before had just ended: a first line of one dot is an end as well.
        let mut raw = b"\r\n".to_vec();
        let (mut over, mut thrown_away) = (false, 0);
        loop {
            let Ok(chunk) = timeout(patience, self.reader.fill_buf()).await else { return Ok(Body::Gone) };
            let chunk = chunk?;
            if chunk.is_empty() {
                return Ok(Body::Gone);
            }
            let (before, length) = (raw.len(), chunk.len());
            raw.extend_from_slice(chunk);
            let from = before.saturating_sub(END.len() - 1);
            match memmem::find(raw.get(from..).unwrap_or_default(), END) {
                Some(at) => {
                    let end = from + at;
                    self.reader.consume(end + END.len() - before);
                    raw.truncate(end + 2);
                    if over || !fits(raw.len() - 2) {
                        return Ok(Body::TooLarge);
                    }
                    return Ok(Body::Whole(unstuffed(&raw)));
                }
                None => {
                    self.reader.consume(length);
                    if over || !fits(raw.len()) {
                        (over, thrown_away) = (true, thrown_away + length);
                        if thrown_away > THROWN_AWAY {
                            return Ok(Body::Endless);
                        }
                        // Enough to see an end that lies across two chunks.
                        raw = raw.split_off(raw.len().saturating_sub(END.len() - 1));
                    }
                }
            }
        }
    }
}

/// A message that lies behind a line end, without that and without the dots that were put before dots.
fn unstuffed(raw: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(raw.len());
    let mut from = 2;
    for at in memmem::find_iter(raw, b"\r\n.") {
        message.extend_from_slice(raw.get(from..at + 2).unwrap_or_default());
        from = at + 3;
    }
    message.extend_from_slice(raw.get(from..).unwrap_or_default());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn only_a_dot_between_two_crlf_ends_a_message_however_the_bytes_arrive() {
        let wire = b"a\r\n..b\r\n.\nc\n.\r\n.\rd\r\n\n.\n\r\n...\r\n.\r\nQUIT\r\n";
        for chunk in 1..=wire.len() {
            let mut lines = Lines::with_chunk(&wire[..], chunk);
            let body = lines.message(PATIENCE, |_| true).await.expect("read");
            let Body::Whole(message) = body else { panic!("{body:?} in pieces of {chunk}") };
            assert_eq!(message, b"a\r\n.b\r\n\nc\n.\r\n\rd\r\n\n.\n\r\n..\r\n", "in pieces of {chunk}");
            assert_eq!(lines.next(100).await.expect("read"), Got::Line);
            assert_eq!(lines.line, b"QUIT\r\n");
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_thrown_away_up_to_its_end_and_not_held() {
        let wire = [b"..\r\n".as_slice(), &[b'x'; 100_000], b"\r\n.\r\n.\r\nNOOP\r\n"].concat();
        for chunk in [1, 3, 7, 1000, 200_000] {
            let mut lines = Lines::with_chunk(&wire[..], chunk);
            let mut most = 0;
            let fits = |size| {
                most = size;
                size <= 1000
            };
            assert_eq!(lines.message(PATIENCE, fits).await.expect("read"), Body::TooLarge);
            assert!(most <= 1002 + chunk, "{most}");
            assert_eq!(lines.message(PATIENCE, |_| true).await.expect("read"), Body::Whole(Vec::new()));
            assert_eq!(lines.next(100).await.expect("read"), Got::Line);
            assert_eq!(lines.message(PATIENCE, |_| true).await.expect("read"), Body::Gone);
        }
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut wire = vec![b'x'; 10_000];
        wire.extend_from_slice(b"\r\nNOOP\r\nhalf");
        let mut lines = Lines::with_chunk(&wire[..], 100);
        assert_eq!(lines.next(2048).await.expect("read"), Got::Long);
        assert!(lines.line.len() <= 2048);
        assert_eq!(lines.next(2048).await.expect("read"), Got::Line);
        assert_eq!(lines.line, b"NOOP\r\n");
        assert_eq!(lines.next(2048).await.expect("read"), Got::End);
    }
}
