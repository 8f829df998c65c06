//! A mailbox on the real IMAP server, seen by a client of the test's own (RFC 3501): puts mails in, by the
//! thousand when asked, and says what is there. It shares no code with the program's own IMAP source.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::servers::Servers;

/// A connection that is logged in.
pub(crate) struct Mailbox {
    stream: BufReader<TcpStream>,
    tags: u32,
}

/// A mail in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its UID.
    pub(crate) uid: u32,
    /// Its flags, in the server's order.
    pub(crate) flags: Vec<String>,
    /// The whole mail.
    pub(crate) raw: Vec<u8>,
}

impl Mailbox {
    /// Logs in as `account`: `INBOX`, `AGENT`, `ARCHIVE` or `FULL` of `services/dovecot.sh`.
    pub(crate) async fn open(servers: &Servers, account: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", servers.port("IMAP_PORT"))).await.expect("the IMAP server");
        stream.set_nodelay(true).expect("an option");
        let mut mailbox = Self { stream: BufReader::new(stream), tags: 0 };
        mailbox.line().await;
        let user = servers.get(&format!("MAIL_{account}"));
        mailbox.command(&format!("LOGIN {user} {}", servers.get("PASSWORD"))).await;
        mailbox
    }

    /// Puts mails into a folder, in order, some dozens in flight. Line feeds become CR LF.
    pub(crate) async fn append<M: AsRef<[u8]>>(&mut self, folder: &str, mails: impl IntoIterator<Item = M>) {
        let mut mails = mails.into_iter().peekable();
        while mails.peek().is_some() {
            let first = self.tags + 1;
            let mut out = Vec::new();
            for mail in mails.by_ref().take(50) {
                let raw = with_crlf(mail.as_ref());
                self.tags += 1;
                // A literal that waits for no go-ahead (RFC 7888).
                out.extend_from_slice(format!("t{} APPEND \"{folder}\" {{{}+}}\r\n", self.tags, raw.len()).as_bytes());
                out.extend_from_slice(&raw);
                out.extend_from_slice(b"\r\n");
            }
            // Some dozens of short answers fit into the buffers: no need to read while writing.
            self.stream.write_all(&out).await.expect("written");
            for tag in first..=self.tags {
                self.answer(tag).await;
            }
        }
    }

    /// Makes a folder.
    pub(crate) async fn create(&mut self, folder: &str) {
        self.command(&format!("CREATE \"{folder}\"")).await;
    }

    /// Removes a folder with its mails; to make it again changes its UIDVALIDITY.
    pub(crate) async fn delete(&mut self, folder: &str) {
        self.command(&format!("DELETE \"{folder}\"")).await;
    }

    /// Makes a folder, without the mails of an earlier test.
    pub(crate) async fn renew(&mut self, folder: &str) {
        let there =
            self.command(&format!("LIST \"\" \"{folder}\"")).await.iter().any(|(text, _)| text.starts_with("* LIST"));
        if there {
            self.delete(folder).await;
        }
        self.create(folder).await;
    }

    /// Removes all mails of a folder.
    pub(crate) async fn clear(&mut self, folder: &str) {
        if self.count(folder).await > 0 {
            self.command(&format!("SELECT \"{folder}\"")).await;
            self.command("STORE 1:* +FLAGS.SILENT (\\Deleted)").await;
            self.command("CLOSE").await;
        }
    }

    /// How many mails are in a folder.
    pub(crate) async fn count(&mut self, folder: &str) -> u32 {
        let lines = self.command(&format!("STATUS \"{folder}\" (MESSAGES)")).await;
        let line = lines.iter().find_map(|(text, _)| text.split_once("MESSAGES ")).expect("a status").1;
        line.trim_end_matches([')', '\r', '\n']).parse().expect("a number")
    }

    /// All mails of a folder, in order, without marking them as seen.
    pub(crate) async fn mails(&mut self, folder: &str) -> Vec<Stored> {
        if self.count(folder).await == 0 {
            return Vec::new();
        }
        self.command(&format!("EXAMINE \"{folder}\"")).await;
        let lines = self.command("FETCH 1:* (UID FLAGS BODY.PEEK[])").await;
        let stored = lines.into_iter().filter(|(text, _)| text.contains(" FETCH (")).map(|(text, literal)| {
            let uid = text.split_once("UID ").expect("a UID").1;
            let uid = uid.split([' ', ')']).next().expect("a UID").parse().expect("a UID");
            let flags = text.split_once("FLAGS (").expect("flags").1.split_once(')').expect("flags").0;
            Stored { uid, flags: flags.split_whitespace().map(str::to_owned).collect(), raw: literal }
        });
        let stored = stored.collect();
        self.command("CLOSE").await;
        stored
    }

    /// Sends a command; the untagged answers, each with its literal (the last one, should it have several).
    async fn command(&mut self, command: &str) -> Vec<(String, Vec<u8>)> {
        self.tags += 1;
        let tag = self.tags;
        self.stream.write_all(format!("t{tag} {command}\r\n").as_bytes()).await.expect("written");
        self.answer(tag).await
    }

    async fn answer(&mut self, tag: u32) -> Vec<(String, Vec<u8>)> {
        let mut lines = Vec::new();
        loop {
            let (text, literal) = self.line().await;
            if let Some(result) = text.strip_prefix(&format!("t{tag} ")) {
                assert!(result.starts_with("OK"), "the IMAP server says: {text}");
                return lines;
            }
            lines.push((text, literal));
        }
    }

    /// One answer: its text without literals, and the literal.
    async fn line(&mut self) -> (String, Vec<u8>) {
        let (mut text, mut literal) = (String::new(), Vec::new());
        loop {
            let mut part = String::new();
            let n = self.stream.read_line(&mut part).await.expect("an answer");
            assert!(n > 0, "the IMAP server closed the connection after: {text}");
            text.push_str(&part);
            let Some(length) = part.trim_end().strip_suffix('}').and_then(|p| p.rsplit_once('{')) else { break };
            literal = vec![0; length.1.parse().expect("a length")];
            self.stream.read_exact(&mut literal).await.expect("a literal");
        }
        (text, literal)
    }
}

fn with_crlf(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 32);
    let mut last = 0;
    for &byte in mail {
        if byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        last = byte;
    }
    out
}
