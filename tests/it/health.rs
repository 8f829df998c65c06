//! The service as a monitor sees it: `/healthz`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::support::cli::{Bench, mail};

fn get(port: u16, path: &str) -> (String, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("read");
    let (head, body) = said.split_once("\r\n\r\n").expect("a body");
    (head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn a_monitor_is_told_how_sources_destinations_and_the_ledger_are_and_nothing_of_a_person() {
    let bench = Bench::new();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let config = format!(
        r#"
[console]
listen = "127.0.0.1:{port}"

[source.inbox]
kind = "directory"
path = "inbox"
trust = "anyone"
poll_seconds = 1

[source.gone]
kind = "directory"
path = "gone"
trust = "anyone"

[destination.archive]
storage = "archive"
path = "{{{{key}}}}.json"
"#
    );
    bench.write("mail2crm.toml", &config);
    std::fs::create_dir(bench.path().join("inbox")).expect("made");
    let mut service = bench.service();
    service.says("the console answers");
    std::fs::copy(mail("ccaip-01-json-attachment"), bench.path().join("inbox/a.eml")).expect("a mail");
    service.says("applied a session");
    let (head, health) = get(port, "/healthz");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("no-store"), "{head}");
    assert_eq!((&health["status"], &health["ledger"]["writable"]), (&"ok".into(), &true.into()), "{health}");
    let source = |name: &str| -> Value {
        let all = health["sources"].as_array().expect("sources");
        all.iter().find(|s| s["name"] == name).expect("it").clone()
    };
    assert_eq!((&source("inbox")["state"], source("inbox")["last_taken"].is_string()), (&"works".into(), true));
    assert_eq!((&source("gone")["state"], &source("gone")["step"]), (&"failing".into(), &"list".into()));
    assert_eq!(
        (&health["destinations"][0]["name"], &health["destinations"][0]["state"]),
        (&"archive".into(), &"works".into())
    );
    let text = health.to_string();
    assert!(!text.contains("48213") && !text.contains("C-100482") && !text.contains('@'), "{text}");
    assert!(get(port, "/").0.starts_with("HTTP/1.1 404 "));
}
