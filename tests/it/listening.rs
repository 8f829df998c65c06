//! The program as an operator runs it, called over HTTP and SMTP: what is acknowledged is in the ledger, and what
//! comes again changes nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::{Value, json};

use crate::support::cli::Bench;

/// A program that runs; killed when it is dropped.
struct Running {
    child: Child,
    /// Open, so that it can go on to write.
    _log: Option<BufReader<ChildStderr>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// The program with one listener of each kind, and their ports.
fn started(bench: &Bench) -> (Running, u16, u16) {
    let (http, smtp) = (free_port(), free_port());
    bench.write(
        "mail2crm.toml",
        &format!(
            r#"
[source.posted]
kind = "http"
listen = "127.0.0.1:{http}"
basic = {{ user = "ccaip", password = "pw" }}
trust = "anyone"

[source.mx]
kind = "smtp"
listen = "127.0.0.1:{smtp}"
recipients = ["sessions@acme.example"]
trust = "anyone"

[destination.archive]
storage = "archive"
path = "{{{{key}}}}.json"
"#
        ),
    );
    let mut command = bench.command(&["run"]);
    let mut child = command.stdin(Stdio::null()).spawn().expect("the program");
    let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut running = Running { child, _log: None };
    let mut listening = 0;
    while listening < 2 {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("text") > 0, "the program ended");
        listening += usize::from(line.contains(" on 127.0.0.1:"));
    }
    running._log = Some(log);
    (running, http, smtp)
}

/// Sends all at once and reads until the other side hangs up.
fn exchange(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("read");
    said
}

fn post(port: u16, body: &Value) -> Value {
    let body = body.to_string();
    let said = exchange(
        port,
        &format!(
            "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Y2NhaXA6cHc=\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(said.starts_with("HTTP/1.1 202 "), "{said}");
    serde_json::from_str(said.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

fn messages(bench: &Bench) -> Vec<Value> {
    bench.run(&["--json", "messages", "list"]).exits(0).json()
}

#[test]
fn what_is_posted_or_delivered_is_in_the_ledger_when_it_is_acknowledged() {
    let bench = Bench::new();
    let (_running, http, smtp) = started(&bench);

    // The platform's events: the call goes on, ends, and is wrapped up.
    let event = |item: Value, timestamp: i64| json!({ "count": 1, "events": [{ "event_id": timestamp.to_string(), "timestamp": timestamp, "item": item }] });
    let going_on = json!({ "call_id": 48213, "state": "connected", "direction": "incoming" });
    let wrapped_up = json!({ "call_id": 48213, "state": "disconnected", "direction": "incoming",
        "connected_at": "2026-02-17T16:02:11Z", "ends_at": "2026-02-17T16:11:05Z",
        "participants": [{ "type": "agent", "status": "dispositionSubmitted" }], "dispositions": { "code": "RESOLVED", "note": "fine" } });
    let told = post(http, &event(going_on.clone(), 1_771_344_000_000));
    let key = told["sessions"][0]["key"].as_str().expect("a session").to_owned();
    assert_eq!(
        (&told["status"], &told["sessions"][0]["standing"]),
        (&json!("taken"), &json!("first version")),
        "{told}"
    );
    let told = post(http, &event(wrapped_up.clone(), 1_771_345_000_000));
    assert_eq!(told["sessions"], json!([{ "key": key, "standing": "newer version" }]), "{told}");
    // The answer was lost, and it comes again.
    let told = post(http, &event(wrapped_up, 1_771_345_000_000));
    assert_eq!(told["known"], json!(true), "{told}");
    let shown = bench.run(&["--json", "sessions", "show", &key]).exits(0);
    assert!(shown.stdout.contains("RESOLVED") && shown.stdout.contains("voice"), "{}", shown.stdout);
    // Several sessions at once, and what is nearly one.
    let chat = |id: u64| json!({ "id": id, "chat_type": "Messaging (Web)", "status": "finished", "chat_duration": 60 });
    assert_eq!(post(http, &json!([chat(1), chat(2)]))["sessions"].as_array().map(Vec::len), Some(2));
    assert_eq!(messages(&bench).len(), 3);

    let mail = "EHLO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<sessions+k@acme.example>\r\nDATA\r\n\
                From: a@b.example\r\nSubject: x\r\n\r\nSession ID: 48214\r\nSession type: Voice Inbound\r\nOutTicket ID: C-1\r\n\
                Handle time: 60 seconds\r\n.\r\nQUIT\r\n";
    for _ in 0..2 {
        let said = exchange(smtp, mail);
        assert!(said.contains("\r\n250 2.0.0 safely taken\r\n221 "), "{said}");
        assert_eq!(messages(&bench).len(), 4, "what comes again is known");
    }
    let online = bench.run(&["check", "--online"]).exits(0);
    assert_eq!(online.stdout.matches("already: the service itself, if it runs").count(), 2, "{}", online.stdout);
    bench.run(&["audit"]).exits(0);
}
