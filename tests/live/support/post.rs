//! Mail put into Postfix by a client of the test's own (RFC 5321), over several connections, and Postfix's queue.

use std::process::Command;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::servers::Servers;

/// Hands mails to Postfix for these recipients, each mail with its own, over `connections` connections at once.
/// All are accepted, or it panics.
pub(crate) async fn send(servers: &Servers, mails: Vec<(String, Vec<u8>)>, connections: usize) {
    let port = servers.port("SMTP_PORT");
    let share = mails.len().div_ceil(connections).max(1);
    let mut left = mails.into_iter().peekable();
    let mut tasks = Vec::new();
    while left.peek().is_some() {
        let part: Vec<_> = left.by_ref().take(share).collect();
        tasks.push(tokio::spawn(send_part(port, part)));
    }
    for task in tasks {
        task.await.expect("all were accepted");
    }
}

async fn send_part(port: u16, mails: Vec<(String, Vec<u8>)>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("Postfix");
    stream.set_nodelay(true).expect("an option");
    let mut stream = BufReader::new(stream);
    expect(&mut stream, "220").await;
    stream.write_all(b"EHLO sender.example\r\n").await.expect("written");
    expect(&mut stream, "250").await;
    for (to, raw) in mails {
        let head = format!("MAIL FROM:<vendor@ccaip.example>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        for code in ["250", "250", "354"] {
            expect(&mut stream, code).await;
        }
        assert!(raw.ends_with(b"\r\n") && !raw.windows(3).any(|w| w == b"\n.\r"), "no dots to be stuffed");
        stream.write_all(&[&raw, b".\r\n".as_slice()].concat()).await.expect("written");
        expect(&mut stream, "250").await;
    }
    stream.write_all(b"QUIT\r\n").await.expect("written");
}

async fn expect(stream: &mut BufReader<TcpStream>, code: &str) {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("an answer");
        assert!(line.starts_with(code), "Postfix says: {line}");
        if line.as_bytes().get(3) == Some(&b' ') {
            return;
        }
    }
}

/// The mails in Postfix's queue: for each, why it was deferred, if it was.
pub(crate) fn queue(servers: &Servers) -> Vec<String> {
    let output = Command::new("postqueue").args(["-c", servers.get("POSTFIX_ETC"), "-j"]).output().expect("postqueue");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Throws away what is in Postfix's queue.
pub(crate) fn clear(servers: &Servers) {
    let status = Command::new("postsuper").args(["-c", servers.get("POSTFIX_ETC"), "-d", "ALL"]).status();
    assert!(status.expect("postsuper").success());
}

/// Has Postfix try all that is deferred, now.
pub(crate) fn flush(servers: &Servers) {
    let status = Command::new("postqueue").args(["-c", servers.get("POSTFIX_ETC"), "-f"]).status();
    assert!(status.expect("postqueue").success());
}
