//! The sandbox CRM through real sockets: what it answers, what it breaks, what it takes by mail.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mail2crm::sandbox::{Records, Running, Sandbox, Settings};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "let-me-in";

async fn sandbox() -> Running {
    start("").await
}

async fn start(faults: &str) -> Running {
    let mut settings = Settings::new(SecretString::from(TOKEN), Records::range("C-", 1, 9));
    settings.faults = faults.parse().expect("faults");
    Sandbox::start(settings).await.expect("a sandbox")
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }
}

/// One request on a connection of its own.
async fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(addr).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut wire = Vec::new();
    stream.read_to_end(&mut wire).await?;
    let at = wire.windows(4).position(|w| w == b"\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8(wire[..at].to_vec()).expect("a head").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Ok(Answer { status, head, body: wire[at + 4..].to_vec() })
}

async fn call(run: &Running, method: &str, path: &str, body: &Value) -> Answer {
    fault(run, method, path, "", body).await.expect("an answer")
}

/// A request with the token and an ordered fault.
async fn fault(run: &Running, method: &str, path: &str, fault: &str, body: &Value) -> std::io::Result<Answer> {
    let order = if fault.is_empty() { String::new() } else { format!("X-Sandbox-Fault: {fault}\r\n") };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(run.http_addr, method, path, &format!("Authorization: Bearer {TOKEN}\r\n{order}"), &body).await
}

#[tokio::test]
async fn an_update_is_applied_whole_and_told_by_the_ticket_the_notes_and_the_journal() {
    let run = sandbox().await;
    let body = json!({"fields": {"handle_time": 481}, "status": "pending", "tags": ["voice"],
        "note": {"text": "Résumé", "marker": "m2c-1"},
        "attachment": {"name": "métadata.json", "content_type": "application/json", "data": "eyJpZCI6MX0="}});
    let answer = call(&run, "PUT", "/api/tickets/C-1", &body).await;
    assert_eq!(answer.status, 200);
    let changed = ["status", "fields.handle_time", "tags", "attachment", "note"];
    assert_eq!(answer.json(), json!({"id": "C-1", "version": 2, "changed": changed}));

    let mut ticket = call(&run, "GET", "/api/tickets/C-1", &Value::Null).await.json();
    let at = ticket["notes"][0]["at"].take();
    assert!(at.as_str().is_some_and(|at| at.ends_with('Z')), "{at}");
    assert_eq!(
        ticket,
        json!({"id": "C-1", "status": "pending", "fields": {"handle_time": 481}, "tags": ["voice"],
            "notes": [{"id": 1, "text": "Résumé", "marker": "m2c-1", "attachments": [1], "via": "rest", "at": null}],
            "attachments": [{"id": 1, "name": "métadata.json", "content_type": "application/json", "size": 8,
                "sha256": "037c9214eef74cc3887f3a4f085b4e17d76280dafd273b0ee160c09c4ba1cfd4"}],
            "version": 2})
    );

    let notes = call(&run, "GET", "/api/tickets/C-1/notes?marker=m2c-1", &Value::Null).await.json();
    assert_eq!(notes["notes"][0]["id"], 1);
    let none = call(&run, "GET", "/api/tickets/C-1/notes?marker=m2c-2", &Value::Null).await.json();
    assert_eq!(none, json!({"notes": []}));

    let journal = call(&run, "GET", "/api/journal?since=3", &Value::Null).await.json();
    assert_eq!(journal["total"], 5);
    let kinds: Vec<_> = journal["entries"].as_array().expect("entries").iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(kinds, ["attachment", "note"]);
    assert_eq!(journal["entries"][1]["marker"], "m2c-1");

    let list = call(&run, "GET", "/api/tickets?since=1", &Value::Null).await.json();
    assert_eq!((&list["total"], &list["tickets"][0]["id"]), (&json!(1), &json!("C-1")));

    let file = call(&run, "GET", "/api/attachments/1", &Value::Null).await;
    assert_eq!(file.body, br#"{"id":1}"#);
    assert!(
        file.head.contains("content-disposition: attachment; filename*=utf-8''m%c3%a9tadata.json"),
        "{}",
        file.head
    );
    assert!(file.head.contains("x-content-type-options: nosniff"));
    run.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_name_and_changes_nothing() {
    let run = sandbox().await;
    let put = async |path: &str, body: Value| {
        let answer = call(&run, "PUT", path, &body).await;
        (answer.status, answer.json())
    };
    let note = json!({"note": {"text": "n", "marker": "m"}});
    assert_eq!(put("/api/tickets/C-10", note.clone()).await, (404, json!({"error": "not_found"})));
    let half = json!({"status": "pending", "nope": 1});
    assert_eq!(put("/api/tickets/C-1", half).await, (422, json!({"error": "unknown_field", "field": "nope"})));
    assert_eq!(put("/api/tickets/C-1", json!({"version": 9})).await, (409, json!({"error": "conflict", "version": 1})));
    put("/api/tickets/C-2", json!({"status": "closed"})).await;
    assert_eq!(put("/api/tickets/C-2", note.clone()).await, (422, json!({"error": "closed"})));
    assert_eq!(call(&run, "POST", "/api/tickets/C-3/merge", &json!({"into": "C-4"})).await.status, 200);
    assert_eq!(put("/api/tickets/C-3", note).await, (409, json!({"error": "merged", "into": "C-4"})));
    let merged = call(&run, "GET", "/api/tickets/C-3", &Value::Null).await.json();
    assert_eq!(merged["merged_into"], "C-4");

    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let bad = send(run.http_addr, "PUT", "/api/tickets/C-1", &bearer, "{\"a\"").await.expect("an answer");
    assert_eq!((bad.status, &bad.json()["error"]), (400, &json!("malformed_json")));
    for wrong in ["", "Authorization: Bearer nope\r\n", "Authorization: Basic bGV0LW1lLWlu\r\n"] {
        for path in ["/api/tickets/C-1", "/api/journal", "/api/nothing"] {
            let answer = send(run.http_addr, "GET", path, wrong, "").await.expect("an answer");
            assert_eq!((answer.status, answer.json()), (401, json!({"error": "unauthorized"})));
        }
    }
    assert_eq!(run.store().ticket("C-1").expect("a ticket").version, 1);
    assert_eq!(run.store().counts().notes, 0);
}

#[tokio::test]
async fn each_fault_does_what_it_says() {
    let run = sandbox().await;
    let body = json!({"note": {"text": "n", "marker": "m"}});
    let order = async |text: &str| fault(&run, "PUT", "/api/tickets/C-1", text, &body).await;
    let notes = || run.store().counts().notes;

    let limited = order("429; retry-after=2").await.expect("an answer");
    assert_eq!((limited.status, limited.json()), (429, json!({"error": "rate_limited"})));
    assert!(limited.head.contains("retry-after: 2"));
    for (text, word) in [("500", "server_error"), ("409", "conflict"), ("401", "unauthorized")] {
        let answer = order(text).await.expect("an answer");
        assert_eq!((answer.status.to_string().as_str(), answer.json()), (text, json!({"error": word})));
    }
    let reset = order("reset-before").await.err().expect("no answer");
    assert_eq!((reset.kind(), notes()), (ErrorKind::ConnectionReset, 0));
    let reset = order("reset-after").await.err().expect("no answer");
    assert_eq!((reset.kind(), notes()), (ErrorKind::ConnectionReset, 1));

    let start = Instant::now();
    let slow = order("slow=60").await.expect("an answer");
    assert!(slow.status == 200 && start.elapsed() >= Duration::from_millis(60) && notes() == 2);
    let hang = tokio::time::timeout(Duration::from_millis(50), order("hang")).await;
    assert!(hang.is_err() && notes() == 2);
    let unknown = order("explode").await.expect("an answer");
    assert_eq!((unknown.status, &unknown.json()["error"]), (400, &json!("bad_fault")));
}

#[tokio::test]
async fn faults_can_be_planned_and_rated_and_are_gone_after_a_reset() {
    let run = sandbox().await;
    let plan = json!({"next": ["PUT 503", "429; retry-after=9"], "rate": {"500": 1.0, "slow": "1ms"}});
    let told = call(&run, "POST", "/api/faults", &plan).await.json();
    assert_eq!(told["next"], json!(["PUT 503", "429; retry-after=9"]));
    let get = async || call(&run, "GET", "/api/tickets/C-1", &Value::Null).await.status;
    assert_eq!(get().await, 429);
    assert_eq!(get().await, 500);
    assert_eq!(call(&run, "PUT", "/api/tickets/C-1", &json!({"status": "x"})).await.status, 503);
    assert_eq!(call(&run, "GET", "/api/journal", &Value::Null).await.status, 200, "the referee never fails");
    let wrong = call(&run, "POST", "/api/faults", &json!({"next": ["429"], "rate": {"500": 2}})).await;
    assert_eq!(wrong.status, 400);
    assert_eq!(call(&run, "POST", "/api/reset", &Value::Null).await.status, 200);
    assert_eq!(get().await, 200);
}

#[tokio::test]
async fn faults_given_at_the_start_come_by_themselves() {
    let run = start("429=1").await;
    let answer = call(&run, "GET", "/api/tickets/C-1", &Value::Null).await;
    assert!(answer.status == 429 && answer.head.contains("retry-after: 1"));
}

#[tokio::test]
async fn the_page_shows_what_is_there_and_escapes_it() {
    let run = sandbox().await;
    let evil = "<script>alert(1)</script>";
    let body = json!({"fields": {"topic": evil}, "note": {"text": format!("line 1\n{evil}")}, "tags": [evil]});
    assert_eq!(call(&run, "PUT", "/api/tickets/C-1", &body).await.status, 200);
    for path in ["/", "/tickets/C-1", "/?q=%3Cscript%3Ealert(1)%3C/script%3E"] {
        let page = send(run.http_addr, "GET", path, "", "").await.expect("an answer");
        assert_eq!(page.status, 200);
        assert!(page.head.contains("content-security-policy: default-src 'none'; style-src 'unsafe-inline'"));
        assert!(!page.text().contains("<script"), "{path}");
        assert!(page.text().contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{path}");
    }
    let found = send(run.http_addr, "GET", "/?q=c-2", "", "").await.expect("an answer").text();
    assert!(found.contains("/tickets/C-2") && !found.contains("/tickets/C-3"));
    assert_eq!(send(run.http_addr, "GET", "/tickets/C-77", "", "").await.expect("an answer").status, 404);
    assert_eq!(send(run.http_addr, "GET", "/nowhere", "", "").await.expect("an answer").status, 404);
}

/// A connection to the mail intake.
struct Caller {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Caller {
    async fn new(run: &Running) -> Self {
        let stream = TcpStream::connect(run.smtp_addr.expect("a mail intake")).await.expect("connected");
        let mut caller = Self { stream, seen: Vec::new() };
        assert!(caller.reply().await.starts_with("220 "));
        caller
    }

    /// The last line of the next reply.
    async fn reply(&mut self) -> String {
        loop {
            while let Some(at) = self.seen.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8(self.seen.drain(..at + 2).collect()).expect("ASCII");
                if line.as_bytes().get(3) == Some(&b' ') {
                    return line.trim_end().to_owned();
                }
            }
            let mut chunk = [0; 1024];
            match self.stream.read(&mut chunk).await {
                Ok(0) => return "closed".to_owned(),
                Ok(n) => self.seen.extend_from_slice(&chunk[..n]),
                Err(e) => return format!("{:?}", e.kind()),
            }
        }
    }

    async fn say(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).await.expect("written");
        self.reply().await
    }

    /// EHLO to DATA, to these recipients.
    async fn open(&mut self, to: &str) {
        assert_eq!(self.say("EHLO test\r\n").await, "250 ENHANCEDSTATUSCODES");
        assert!(self.say("MAIL FROM:<a@b.example> SIZE=1000 BODY=8BITMIME\r\n").await.starts_with("250 "));
        assert!(self.say(&format!("RCPT TO:<{to}>\r\n")).await.starts_with("250 "));
        assert!(self.say("DATA\r\n").await.starts_with("354 "));
    }
}

#[tokio::test]
async fn a_mail_becomes_a_note_and_only_a_dot_between_crlf_ends_it() {
    let run = sandbox().await;
    let mut caller = Caller::new(&run).await;
    caller.open("tickets+C-1@crm.example").await;
    let mail = "Message-ID: <m2c-5@bridge.example>\r\nSubject: hello\r\n\r\n..one\r\n\n.\nMAIL FROM:<evil@x>\r\n.\r\n";
    assert_eq!(caller.say(mail).await, "250 2.0.0 recorded on C-1");
    let ticket = run.store().ticket("C-1").expect("a ticket");
    assert_eq!(ticket.notes[0].marker.as_deref(), Some("m2c-5"));
    assert_eq!(ticket.notes[0].text, ".one\n\n.\nMAIL FROM:<evil@x>");
    assert_eq!(ticket.notes[0].via.as_str(), "mail");
    assert!(caller.say("QUIT\r\n").await.starts_with("221 "));
    assert_eq!(caller.reply().await, "closed");
}

#[tokio::test]
async fn commands_that_come_together_are_answered_in_order() {
    let run = sandbox().await;
    let mut caller = Caller::new(&run).await;
    let together = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<tickets+C-99@crm.example>\r\nRCPT TO:<tickets+C-2@crm.example>\r\n\
                    DATA\r\n";
    caller.stream.write_all(together.as_bytes()).await.expect("written");
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(caller.reply().await.chars().take(9).collect::<String>());
    }
    assert_eq!(codes, ["250 ENHAN", "250 2.1.0", "550 5.1.1", "250 2.1.5", "354 go on"]);
    assert!(caller.say("Subject: x\r\n\r\ntext\r\n.\r\nQUIT\r\n").await.starts_with("250 2.0.0"));
    assert!(caller.reply().await.starts_with("221 "));
    assert_eq!(run.store().counts().notes, 1);
}

#[tokio::test]
async fn what_is_out_of_order_or_too_much_is_refused_and_the_dialogue_goes_on() {
    let run = sandbox().await;
    let mut caller = Caller::new(&run).await;
    for (said, code) in [
        ("MAIL FROM:<a@b>\r\n", "503 5.5.1"),
        ("EHLO\r\n", "501 5.5.4"),
        ("HELO me\r\n", "250 sandb"),
        ("RCPT TO:<a@b>\r\n", "503 5.5.1"),
        ("DATA\r\n", "503 5.5.1"),
        ("MAIL FROM:a@b\r\n", "501 5.1.7"),
        ("MAIL FROM:<a@b> SIZE=99999999999\r\n", "552 5.3.4"),
        ("MAIL FROM:<a@b> RET=FULL\r\n", "555 5.5.4"),
        ("MAIL FROM:<a@b>\r\n", "250 2.1.0"),
        ("MAIL FROM:<a@b>\r\n", "503 5.5.1"),
        ("RSET\r\n", "250 2.0.0"),
        ("NOOP\n", "500 5.5.2"),
        ("noop\r\n", "250 2.0.0"),
        ("STARTTLS\r\n", "502 5.5.1"),
        ("\r\n", "500 5.5.1"),
    ] {
        assert_eq!(caller.say(said).await.get(..9), Some(code), "{said}");
    }
    let long = format!("NOOP {}\r\n", "x".repeat(5_000));
    assert!(caller.say(&long).await.starts_with("500 5.5.2"));
    caller.open("someone@crm.example").await;
    assert!(caller.say("Subject: no record\r\n\r\nx\r\n.\r\n").await.starts_with("550 5.1.1 no record named"));
    assert!(caller.say("MAIL FROM:<a@b>\r\n").await.starts_with("250"));
    assert!(caller.say("RCPT TO:<someone@crm.example>\r\n").await.starts_with("250"));
    assert!(caller.say("DATA\r\n").await.starts_with("354"));
    assert_eq!(caller.say("Subject: Re: [sandbox #C-3] x\r\n\r\nx\r\n.\r\n").await, "250 2.0.0 recorded on C-3");
}

#[tokio::test]
async fn mail_goes_wrong_as_ordered() {
    let run = sandbox().await;
    let plan = json!({"next": ["mail-451", "mail-reset"]});
    assert_eq!(call(&run, "POST", "/api/faults", &plan).await.status, 200);
    let mail = "Subject: x\r\n\r\nx\r\n.\r\n";
    let mut caller = Caller::new(&run).await;
    caller.open("tickets+C-1@crm.example").await;
    assert_eq!(caller.say(mail).await, "451 4.3.0 a fault as ordered");
    assert_eq!(run.store().counts().notes, 0);
    caller.open("tickets+C-1@crm.example").await;
    assert_eq!(caller.say(mail).await, "ConnectionReset");
    assert_eq!(run.store().counts().notes, 1);
}

#[tokio::test]
async fn a_raw_message_can_be_posted() {
    let run = sandbox().await;
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let post = async |mail: &str| send(run.http_addr, "POST", "/mail", &bearer, mail).await.expect("an answer");
    let answer = post("To: tickets+C-1@x\r\nMessage-ID: <m2c-1@x>\r\n\r\nhello\r\n").await;
    assert_eq!((answer.status, &answer.json()["recorded"][0]["id"]), (200, &json!("C-1")));
    let unknown = post("Subject: [sandbox #C-50]\r\n\r\nhello\r\n").await;
    assert_eq!((unknown.status, &unknown.json()["error"]), (404, &json!("not_found")));
    let nameless = post("Subject: hello\r\n\r\nhello\r\n").await;
    assert_eq!((nameless.status, &nameless.json()["error"]), (422, &json!("no_record")));
    assert_eq!(send(run.http_addr, "POST", "/mail", "", "x").await.expect("an answer").status, 401);
}

#[tokio::test]
async fn it_listens_on_loopback_unless_it_may_be_exposed_and_stops_when_told() {
    let mut settings = Settings::new(SecretString::from(TOKEN), Records::any(""));
    settings.http = "0.0.0.0:0".parse().expect("an address");
    let error = Sandbox::start(settings).await.expect_err("refused");
    assert!(error.to_string().contains("0.0.0.0:0"), "{error}");

    let run = sandbox().await;
    let (http, smtp) = (run.http_addr, run.smtp_addr.expect("a mail intake"));
    let _idle = TcpStream::connect(smtp).await.expect("connected");
    let begun = Instant::now();
    run.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    for addr in [http, smtp] {
        assert_eq!(TcpStream::connect(addr).await.expect_err("closed").kind(), ErrorKind::ConnectionRefused);
    }
}
