//! A relay between the program and a server, on loopback and in clear: keeps what the program says, line by line, and
//! can hide a word of what the server says, such as a mechanism that it offers.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A relay that listens.
pub(crate) struct Relay {
    pub(crate) port: u16,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    /// To the server at this port of 127.0.0.1. `hidden` is cut out where it comes in one piece.
    pub(crate) async fn to(server: u16, hidden: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = said.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
                // The end of a connection is no error of the relay's.
                tokio::spawn(relay(client, server, hidden, kept.clone()));
            }
        });
        Self { port, said }
    }

    /// What the program said so far: the lines, without their tags, that begin with `word`.
    pub(crate) fn commands(&self, word: &str) -> Vec<String> {
        let said = String::from_utf8_lossy(&self.said.lock().expect("no panic while it is held")).into_owned();
        let commands = said.lines().filter_map(|line| line.split_once(' ')).map(|(_, command)| command.to_owned());
        commands.filter(|command| command.starts_with(word)).collect()
    }
}

async fn relay(client: TcpStream, server: TcpStream, hidden: &str, said: Arc<Mutex<Vec<u8>>>) -> std::io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let bytes = &up[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                said.lock().expect("no panic while it is held").extend_from_slice(bytes);
                to_server.write_all(bytes).await?;
            }
            read = from_server.read(&mut down) => {
                let bytes = &down[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                match memchr::memmem::find(bytes, hidden.as_bytes()).filter(|_| !hidden.is_empty()) {
                    Some(at) => to_client.write_all(&[&bytes[..at], &bytes[at + hidden.len()..]].concat()).await?,
                    None => to_client.write_all(bytes).await?,
                }
            }
        }
    }
}
