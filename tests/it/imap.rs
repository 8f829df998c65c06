//! The `imap` source against a server that does what real ones won't do on command.

#[path = "support/imap_server.rs"]
pub(crate) mod imap_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use mail2crm::outcome::Reason;
use mail2crm::source::imap::{Imap, Settings};
use mail2crm::source::{Batch, Content, Fault, Handover, Inlet, Settled, Source};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use imap_server::{Server, Trick};

const NOW: &str = "2026-03-01T00:00:00Z";
pub(crate) const OLD: &str = " 7-Feb-2026 10:00:00 +0000";
pub(crate) const NEW: &str = "02-Mar-2026 10:00:00 +0100";

/// A source that runs, with the test in the place of intake.
pub(crate) struct Bridge {
    from_source: mpsc::Receiver<Handover>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Fault>>,
}

fn settings(server: &Server, more: &str) -> Settings {
    let toml = format!(
        "host = '127.0.0.1'\nport = {}\ntls = 'none'\nuser = 'robot'\npassword = 'secret \"word\"'\n{more}",
        server.port
    );
    toml::from_str(&toml).expect("settings")
}

pub(crate) fn source(server: &Server, more: &str) -> Box<Imap> {
    Box::new(Imap::new(settings(server, more), NOW.parse::<Timestamp>().expect("a time")))
}

impl Bridge {
    fn start(server: &Server, more: &str, position: Option<&str>) -> Self {
        Self::start_at(server, more, BTreeMap::from_iter(position.map(|text| ("INBOX".to_owned(), text.to_owned()))))
    }

    pub(crate) fn start_at(server: &Server, more: &str, positions: BTreeMap<String, String>) -> Self {
        let (to_intake, from_source) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let task = tokio::spawn(source(server, more).run(Inlet::new("inbox", to_intake), positions, stop.clone()));
        Self { from_source, stop, task }
    }

    pub(crate) async fn next(&mut self) -> Handover {
        let next = timeout(Duration::from_secs(20), self.from_source.recv()).await;
        next.expect("a batch in time").expect("a source that runs")
    }

    /// The next batch, all of it accepted.
    pub(crate) async fn accept(&mut self) -> Batch {
        let Handover { batch, answer, .. } = self.next().await;
        answer.send(vec![Settled::Accepted; batch.items.len().max(1)]).expect("a source that waits");
        batch
    }

    /// Accepts batches until these many mails have come; gives their last UIDs and texts, and the last position.
    async fn accept_mails(&mut self, count: usize) -> (Vec<String>, String) {
        let (mut all, mut position) = (Vec::new(), String::new());
        while all.len() < count {
            let batch = self.accept().await;
            position = value(&batch);
            all.extend(batch.items.iter().map(|item| format!("{} {}", item.input, text(&item.content))));
        }
        (all, position)
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        drop(self.from_source);
        timeout(Duration::from_secs(20), self.task)
            .await
            .expect("an end in time")
            .expect("no panic")
            .expect("no fault");
    }

    pub(crate) async fn fault(self) -> Fault {
        let end = timeout(Duration::from_secs(20), self.task).await.expect("an end in time").expect("no panic");
        end.expect_err("a fault")
    }
}

fn value(batch: &Batch) -> String {
    let position = batch.position.as_ref().expect("a position");
    assert_eq!(position.key, "INBOX");
    position.value.clone()
}

pub(crate) fn text(content: &Content) -> String {
    match content {
        Content::Mail(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Content::TooLarge(bytes) => format!("too large: {bytes}"),
        Content::Document(_) => "a document".to_owned(),
    }
}

pub(crate) fn field(position: &str, key: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(position).expect("JSON")[key].clone()
}

#[tokio::test]
async fn a_survey_tells_of_every_message_where_reading_stands_to_it_and_changes_nothing() {
    let server = Server::start().await;
    server.deliver("old", OLD);
    let mut bridge = Bridge::start(&server, "", None);
    bridge.accept().await;
    server.deliver("new", NEW);
    let position = value(&bridge.accept().await);
    bridge.stop().await;
    server.deliver("newer", NEW);
    let positions = BTreeMap::from([("INBOX".to_owned(), position)]);
    let survey = async |positions| {
        let (to, mut from) = mpsc::channel(10);
        source(&server, "").survey(positions, to).await.expect("no fault");
        let mut told = Vec::new();
        while let Ok(one) = from.try_recv() {
            told.push(format!("{} {:?} {}", one.input, one.place, one.received_at.is_some()));
        }
        told
    };
    let told = survey(positions.clone()).await;
    assert_eq!(told, ["INBOX/7/1 Before true", "INBOX/7/2 Early true", "INBOX/7/3 Ahead true"]);
    assert!(server.commands("SELECT").len() == 1 && !server.commands("EXAMINE").is_empty(), "only to look");
    // Numbered anew, all of it is to be looked at again.
    server.state().uidvalidity = 8;
    assert_eq!(survey(positions).await[0], "INBOX/8/1 Ahead true");
    assert_eq!(survey(BTreeMap::new()).await.len(), 3);
}

#[tokio::test]
async fn a_new_source_takes_only_what_comes_from_now_on_and_takes_it_at_the_servers_notice() {
    let server = Server::start().await;
    server.deliver("old", OLD);
    let mut bridge = Bridge::start(&server, "", None);
    let first = bridge.accept().await;
    assert!(first.items.is_empty());
    assert_eq!(field(&value(&first), "next_uid"), 2);
    server.until(|| !server.commands("IDLE").is_empty()).await;
    server.deliver("new", NEW);
    let batch = bridge.accept().await;
    assert_eq!(batch.items.len(), 1);
    assert_eq!(batch.items[0].input, "INBOX/7/2");
    assert_eq!(batch.items[0].received_at, Some("2026-03-02T09:00:00Z".parse().expect("a time")));
    assert_eq!(field(&value(&batch), "next_uid"), 3);
    server.until(|| server.state().mails[&2].flags == ["\\Flagged", "$Mail2crm"]).await;
    bridge.stop().await;
    assert!(server.state().mails[&1].flags.is_empty());
    assert_eq!(server.commands("LOGOUT").len(), 1);
}

#[tokio::test]
async fn a_mail_that_came_while_the_source_was_down_is_read_and_no_other_twice() {
    let server = Server::start().await;
    server.deliver("old", OLD);
    let mut bridge = Bridge::start(&server, "", None);
    let position = value(&bridge.accept().await);
    bridge.stop().await;
    // An old mail that somebody moves into the mailbox counts as new.
    server.deliver("in between", OLD);
    let mut bridge = Bridge::start(&server, "", Some(&position));
    let (mails, position) = bridge.accept_mails(1).await;
    assert_eq!(mails, ["INBOX/7/2 in between"]);
    bridge.stop().await;
    let bridge = Bridge::start(&server, "", Some(&position));
    server.until(|| server.commands("IDLE").len() >= 2).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_whole_mailbox_comes_in_order_in_batches_and_only_by_peek() {
    let server = Server::start().await;
    for n in 1..=150 {
        server.deliver(&format!("mail {n}"), OLD);
    }
    let mut bridge = Bridge::start(&server, "start = 'all'\nafter = 'nothing'", None);
    let (mails, position) = bridge.accept_mails(150).await;
    assert_eq!(mails.len(), 150);
    assert_eq!((mails[0].as_str(), mails[149].as_str()), ("INBOX/7/1 mail 1", "INBOX/7/150 mail 150"));
    assert_eq!(field(&position, "next_uid"), 151);
    bridge.stop().await;
    let fetches = server.commands("UID FETCH");
    assert!(fetches.iter().filter(|c| c.contains("BODY")).all(|c| c.ends_with("(UID BODY.PEEK[])")), "{fetches:?}");
    assert!(fetches.len() < 10, "{fetches:?}");
    assert!(server.commands("SELECT").is_empty(), "with `after = \"nothing\"` it is opened read-only");
}

#[tokio::test]
async fn a_date_as_the_start_leaves_out_what_is_older() {
    let server = Server::start().await;
    for (text, date) in [("a", OLD), ("b", NEW), ("c", OLD), ("d", NEW)] {
        server.deliver(text, date);
    }
    let mut bridge = Bridge::start(&server, "start = '2026-02-08'", None);
    let (mails, position) = bridge.accept_mails(2).await;
    assert_eq!(mails, ["INBOX/7/2 b", "INBOX/7/4 d"]);
    assert_eq!(field(&position, "next_uid"), 5);
    bridge.stop().await;
}

#[tokio::test]
async fn new_numbers_start_over_but_not_before_the_first_contact() {
    let server = Server::start().await;
    server.deliver("before", OLD);
    let mut bridge = Bridge::start(&server, "", None);
    bridge.accept().await;
    server.deliver("after", NEW);
    let (_, position) = bridge.accept_mails(1).await;
    bridge.stop().await;
    server.state().uidvalidity = 8;
    server.deliver("since", NEW);
    let mut bridge = Bridge::start(&server, "", Some(&position));
    let (mails, position) = bridge.accept_mails(2).await;
    assert_eq!(mails, ["INBOX/8/2 after", "INBOX/8/3 since"]);
    assert_eq!((field(&position, "uidvalidity"), field(&position, "next_uid")), (8.into(), 4.into()));
    bridge.stop().await;
}

#[tokio::test]
async fn a_mail_that_is_expunged_during_the_fetch_holds_nothing_up() {
    let server = Server::start().await;
    for text in ["a", "b", "c"] {
        server.deliver(text, NEW);
    }
    server.state().tricks.insert(2, Trick::Vanish);
    let mut bridge = Bridge::start(&server, "start = 'all'", None);
    let (mails, position) = bridge.accept_mails(2).await;
    assert_eq!(mails, ["INBOX/7/1 a", "INBOX/7/3 c"]);
    assert_eq!(field(&position, "next_uid"), 4);
    assert_eq!(field(&position, "holes"), serde_json::Value::Null);
    bridge.stop().await;
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_mail_is_made_again_and_nothing_is_lost() {
    let server = Server::start().await;
    for text in ["a", "b", "c"] {
        server.deliver(text, NEW);
    }
    server.state().tricks.insert(2, Trick::BreakOffOnce);
    let mut bridge = Bridge::start(&server, "start = 'all'", None);
    let (mails, position) = bridge.accept_mails(3).await;
    assert_eq!(mails, ["INBOX/7/1 a", "INBOX/7/2 b", "INBOX/7/3 c"]);
    assert_eq!(field(&position, "next_uid"), 4);
    assert_eq!(server.state().connections, 2);
    bridge.stop().await;
}

#[tokio::test]
async fn a_mail_that_always_breaks_the_connection_does_not_keep_the_others_back() {
    let server = Server::start().await;
    for text in ["a", "b", "c"] {
        server.deliver(text, NEW);
    }
    server.state().tricks.insert(2, Trick::BreakOff);
    let mut bridge = Bridge::start(&server, "start = 'all'", None);
    let (mails, position) = bridge.accept_mails(2).await;
    assert_eq!(mails, ["INBOX/7/1 a", "INBOX/7/3 c"]);
    assert_eq!(field(&position, "holes"), serde_json::json!([2]));
    bridge.stop().await;
    // It is remembered, and tried again.
    server.state().tricks.clear();
    let mut bridge = Bridge::start(&server, "start = 'all'", Some(&position));
    let (mails, position) = bridge.accept_mails(1).await;
    assert_eq!(mails, ["INBOX/7/2 b"]);
    assert_eq!((field(&position, "holes"), field(&position, "next_uid")), (serde_json::Value::Null, 4.into()));
    bridge.stop().await;
}

#[tokio::test]
async fn a_mail_that_the_server_refuses_or_gives_empty_becomes_a_hole_and_is_tried_at_each_poll() {
    join_all([Trick::No, Trick::Empty].map(async |trick| {
        let server = Server::start().await;
        for text in ["a", "b", "c"] {
            server.deliver(text, NEW);
        }
        server.state().tricks.insert(2, trick);
        let mut bridge = Bridge::start(&server, "start = 'all'\nidle = false\npoll_seconds = 1", None);
        let (mails, position) = bridge.accept_mails(2).await;
        assert_eq!(mails, ["INBOX/7/1 a", "INBOX/7/3 c"]);
        assert_eq!((field(&position, "holes"), field(&position, "next_uid")), (serde_json::json!([2]), 4.into()));
        server.state().tricks.clear();
        let (mails, position) = bridge.accept_mails(1).await;
        assert_eq!(mails, ["INBOX/7/2 b"]);
        assert_eq!(field(&position, "holes"), serde_json::Value::Null);
        bridge.stop().await;
    }))
    .await;
}

#[tokio::test]
async fn without_idle_the_mailbox_is_looked_at() {
    let server = Server::start().await;
    server.state().capabilities = "IMAP4rev1".to_owned();
    let mut bridge = Bridge::start(&server, "poll_seconds = 1", None);
    bridge.accept().await;
    server.deliver("new", NEW);
    let (mails, _) = bridge.accept_mails(1).await;
    assert_eq!(mails, ["INBOX/7/1 new"]);
    assert!(server.commands("IDLE").is_empty());
    bridge.stop().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_a_timeout_with_its_step() {
    let cases = [("CAPABILITY", "capability"), ("LOGIN", "login"), ("SELECT", "select"), ("UID FETCH", "list")];
    join_all(cases.map(async |(word, step)| {
        let server = Server::start().await;
        server.deliver("a", NEW);
        server.state().silent_on = Some(word);
        let mut bridge = Bridge::start(&server, "start = 'all'\ntimeout_seconds = 1", None);
        if step == "list" {
            bridge.accept().await;
        }
        let fault = bridge.fault().await;
        assert_eq!((fault.reason, fault.step), (Reason::Timeout, step));
    }))
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_unauthorized_and_the_texts_name_nobody() {
    let server = Server::start().await;
    server.state().password = "another".to_owned();
    let fault = Bridge::start(&server, "", None).fault().await;
    assert_eq!((fault.reason, fault.step), (Reason::Unauthorized, "login"));
    let text = fault.to_string();
    assert!(text.contains("AUTHENTICATIONFAILED"), "{text}");
    assert!(!text.contains("robot") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn logindisabled_is_heeded() {
    let server = Server::start().await;
    server.state().capabilities = "IMAP4rev1 LOGINDISABLED".to_owned();
    let fault = Bridge::start(&server, "", None).fault().await;
    assert_eq!((fault.reason, fault.step), (Reason::Unauthorized, "login"));
    server.state().capabilities.push_str(" AUTH=PLAIN");
    let mut bridge = Bridge::start(&server, "", None);
    bridge.accept().await;
    bridge.stop().await;
    assert!(server.commands("LOGIN").is_empty());
}

#[tokio::test]
async fn starttls_that_is_not_offered_ends_it_before_any_credential() {
    let server = Server::start().await;
    let mut settings = settings(&server, "");
    settings.tls = mail2crm::source::imap::Tls::Starttls;
    let fault = Box::new(Imap::new(settings, Timestamp::UNIX_EPOCH)).check().await.expect_err("a fault");
    assert_eq!((fault.reason, fault.step), (Reason::Tls, "starttls"));
    assert_eq!(server.state().commands, ["CAPABILITY"]);
}

#[tokio::test]
async fn what_is_no_tls_server_or_no_server_is_named() {
    let server = Server::start().await;
    let mut wrong = settings(&server, "timeout_seconds = 5");
    wrong.tls = mail2crm::source::imap::Tls::Implicit;
    let fault = Box::new(Imap::new(wrong, Timestamp::UNIX_EPOCH)).check().await.expect_err("a fault");
    assert_eq!((fault.reason, fault.step), (Reason::Tls, "tls"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let mut nobody = settings(&server, "");
    nobody.port = Some(free);
    let fault = Box::new(Imap::new(nobody, Timestamp::UNIX_EPOCH)).check().await.expect_err("a fault");
    assert_eq!((fault.reason, fault.step), (Reason::Unreachable, "connect"));
    let missing = settings(&server, "mailbox = 'Nowhere'");
    let fault = Box::new(Imap::new(missing, Timestamp::UNIX_EPOCH)).check().await.expect_err("a fault");
    assert_eq!((fault.reason, fault.step), (Reason::NotPermitted, "select"));
}

#[tokio::test]
async fn a_large_mail_is_seen_by_its_size_and_neither_downloaded_nor_moved() {
    let server = Server::start().await;
    server.deliver(&"x".repeat(2000), NEW);
    server.deliver("small", NEW);
    let mut bridge = Bridge::start(&server, "start = 'all'\nmax_bytes = 1000\nafter = { move_to = 'Processed' }", None);
    let (mails, position) = bridge.accept_mails(2).await;
    assert_eq!(mails, ["INBOX/7/1 too large: 2000", "INBOX/7/2 small"]);
    assert_eq!(field(&position, "next_uid"), 3);
    server.until(|| server.state().moved.contains_key(&2)).await;
    bridge.stop().await;
    assert!(!server.commands("UID FETCH").iter().any(|c| c.starts_with("UID FETCH 1 ") && c.contains("BODY")));
    assert_eq!(server.state().mails.keys().collect::<Vec<_>>(), [&1]);
}

#[tokio::test]
async fn a_literal_beyond_all_limits_is_not_waited_for_and_counts_as_too_large() {
    let server = Server::start().await;
    for text in ["a", "b", "c"] {
        server.deliver(text, NEW);
    }
    server.state().tricks.insert(2, Trick::Announce(943_718_400));
    let mut bridge = Bridge::start(&server, "start = 'all'", None);
    let (mails, _) = bridge.accept_mails(3).await;
    assert_eq!(mails, ["INBOX/7/1 a", "INBOX/7/2 too large: 943718400", "INBOX/7/3 c"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_reply_on_which_the_parser_panics_is_a_fault() {
    let server = Server::start().await;
    server.deliver("a", NEW);
    server.state().tricks.insert(1, Trick::NoDate);
    let mut bridge = Bridge::start(&server, "start = 'all'", None);
    bridge.accept().await;
    let fault = bridge.fault().await;
    assert_eq!((fault.reason, fault.step), (Reason::UnexpectedReply, "list"));
}

#[tokio::test]
async fn what_is_not_safe_stays_and_comes_again() {
    let server = Server::start().await;
    for text in ["a", "b"] {
        server.deliver(text, NEW);
    }
    let mut bridge = Bridge::start(&server, "start = 'all'", None);
    bridge.accept().await;
    let Handover { batch, answer, .. } = bridge.next().await;
    assert_eq!(batch.items.len(), 2);
    answer.send(vec![Settled::Accepted, Settled::TryAgain("the disk is full".to_owned())]).expect("a source");
    let again = bridge.next().await;
    assert_eq!(again.batch.items, batch.items);
    assert!(server.state().mails.values().all(|mail| mail.flags.is_empty()));
    again.answer.send(vec![Settled::Accepted, Settled::Refused(Reason::TooDeep)]).expect("a source");
    server.until(|| server.state().mails.values().all(|mail| !mail.flags.is_empty())).await;
    bridge.stop().await;
}

#[tokio::test]
async fn mails_are_moved_or_deleted_after_the_commit_by_what_the_server_can_do() {
    let cases = [
        ("IMAP4rev1 MOVE", "{ move_to = 'Processed' }", 0, 3),
        ("IMAP4rev1 UIDPLUS", "{ move_to = 'Processed' }", 0, 3),
        ("IMAP4rev1 MOVE", "{ move_to = 'Neu&schön' }", 0, 3),
        ("IMAP4rev1", "{ move_to = 'Processed' }", 3, 0),
        ("IMAP4rev1 UIDPLUS", "'delete'", 0, 0),
        ("IMAP4rev1", "'delete'", 3, 0),
    ];
    join_all(cases.map(async |(capabilities, after, left, moved)| {
        let server = Server::start().await;
        server.state().capabilities = capabilities.to_owned();
        if after.contains("Neu") {
            server.state().folders.clear();
        }
        for text in ["a", "b", "c"] {
            server.deliver(text, NEW);
        }
        let mut bridge = Bridge::start(&server, &format!("start = 'all'\nafter = {after}\npoll_seconds = 1"), None);
        bridge.accept_mails(3).await;
        // One more look at the mailbox: then all is done that will be done.
        server.until(|| server.commands("SELECT").len() == 2).await;
        bridge.stop().await;
        let state = server.state();
        assert_eq!((state.mails.len(), state.moved.len()), (left, moved), "{capabilities}, {after}");
        if after.contains("Neu") {
            assert_eq!(state.folders.len(), 1);
        }
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_tells_no_next_uid_is_asked_for_its_last() {
    let server = Server::start().await;
    server.state().says_uid_next = false;
    server.deliver("a", OLD);
    server.deliver("b", OLD);
    let mut bridge = Bridge::start(&server, "", None);
    let first = bridge.accept().await;
    assert!(first.items.is_empty());
    assert_eq!(field(&value(&first), "next_uid"), 3);
    bridge.stop().await;
}

#[tokio::test]
async fn a_restored_backup_is_noticed_by_its_next_uid() {
    let server = Server::start().await;
    let position = r#"{"uidvalidity":7,"next_uid":900,"started_at":"2026-03-01T00:00:00Z"}"#;
    server.deliver("old", OLD);
    server.deliver("new", NEW);
    let mut bridge = Bridge::start(&server, "", Some(position));
    let (mails, position) = bridge.accept_mails(1).await;
    assert_eq!(mails, ["INBOX/7/2 new"]);
    assert_eq!(field(&position, "next_uid"), 3);
    bridge.stop().await;
}

#[tokio::test]
async fn a_greeting_says_whether_we_are_welcome() {
    for (greeting, reason) in [
        ("* BYE too many connections for pia@acme.example", Reason::Unavailable),
        ("HTTP/1.1 400 Bad Request", Reason::UnexpectedReply),
        ("* PREAUTH welcome back", Reason::UnexpectedReply),
    ] {
        let server = Server::start().await;
        server.state().greeting = greeting;
        let fault = source(&server, "").check().await.expect_err("a fault");
        assert_eq!((fault.reason, fault.step), (reason, "greeting"));
        assert!(!fault.detail.contains("acme"), "{}", fault.detail);
    }
}

#[tokio::test]
async fn a_position_that_cannot_be_read_is_a_fault_and_not_a_new_start() {
    let server = Server::start().await;
    let fault = Bridge::start(&server, "", Some("42")).fault().await;
    assert_eq!(fault.step, "position");
    assert_eq!(server.state().connections, 0);
}

#[tokio::test]
async fn a_check_looks_and_changes_nothing() {
    let server = Server::start().await;
    server.deliver("a", NEW);
    let said = source(&server, "").check().await.expect("a sentence");
    assert_eq!(said, "logged in; `INBOX` holds 1 message; the server offers IDLE, MOVE, UIDPLUS");
    let said = source(&server, "after = { move_to = 'Gone' }").check().await.expect("a sentence");
    assert!(said.ends_with("`Gone` is not there yet and will be made at the first move"), "{said}");
    assert!(server.commands("SELECT").is_empty() && server.commands("CREATE").is_empty());
}

/// A token endpoint that gives these tokens in turn, the last one for ever.
async fn token_endpoint(tokens: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move || {
        let number = count.fetch_add(1, Ordering::SeqCst).min(tokens.len() - 1);
        std::future::ready(format!(
            r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3600}}"#,
            tokens[number]
        ))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("an address"));
    let app = axum::Router::new().route("/token", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

fn with_token(server: &Server, url: &str) -> Box<Imap> {
    let token = format!("oauth2 = {{ token_url = '{url}', client_id = 'c', client_secret = 's' }}");
    let settings = Settings { password: None, ..settings(server, &token) };
    assert_eq!(settings.validate(), []);
    Box::new(Imap::new(settings, NOW.parse::<Timestamp>().expect("a time")))
}

#[tokio::test]
async fn a_token_logs_in_by_either_mechanism_with_and_without_an_initial_response() {
    let (url, asked) = token_endpoint(&["good"]).await;
    for (offered, command) in [
        ("AUTH=XOAUTH2", "AUTHENTICATE XOAUTH2"),
        ("AUTH=XOAUTH2 SASL-IR", "AUTHENTICATE XOAUTH2 "),
        ("AUTH=OAUTHBEARER AUTH=XOAUTH2", "AUTHENTICATE OAUTHBEARER"),
        ("AUTH=OAUTHBEARER AUTH=XOAUTH2 SASL-IR", "AUTHENTICATE OAUTHBEARER "),
    ] {
        let server = Server::start().await;
        server.state().capabilities = format!("IMAP4rev1 {offered}");
        with_token(&server, &url).check().await.expect("a login");
        let commands = server.commands("AUTHENTICATE");
        assert!(commands.len() == 1 && commands[0].starts_with(command), "{offered}: {commands:?}");
        assert_eq!(commands[0].split(' ').count(), 2 + usize::from(offered.ends_with("SASL-IR")));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "one token serves all");
}

#[tokio::test]
async fn a_refused_token_is_told_with_the_servers_challenge_and_without_the_token() {
    for offered in ["AUTH=XOAUTH2", "AUTH=XOAUTH2 SASL-IR", "AUTH=OAUTHBEARER", "AUTH=OAUTHBEARER SASL-IR"] {
        let (url, asked) = token_endpoint(&["wrong"]).await;
        let server = Server::start().await;
        server.state().capabilities = format!("IMAP4rev1 {offered}");
        let fault = with_token(&server, &url).check().await.expect_err("refused");
        assert_eq!((fault.reason, fault.step), (Reason::Unauthorized, "login"), "{fault}");
        assert!(fault.detail.contains("AUTHENTICATIONFAILED") && fault.detail.contains("400, it wants"), "{fault}");
        assert!(!fault.detail.contains("wrong"), "{fault}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "a new token that is refused is not asked for again at once");
    }
}

#[tokio::test]
async fn a_token_that_ended_early_is_renewed_at_the_next_login() {
    let (url, asked) = token_endpoint(&["good", "better"]).await;
    let server = Server::start().await;
    server.state().capabilities = "IMAP4rev1 AUTH=XOAUTH2 SASL-IR".to_owned();
    with_token(&server, &url).check().await.expect("a login");
    server.state().token = "better".to_owned();
    with_token(&server, &url).check().await.expect("a login with a new token");
    assert_eq!((asked.load(Ordering::SeqCst), server.commands("AUTHENTICATE").len()), (2, 3));
}

#[tokio::test]
async fn a_server_that_takes_no_token_is_not_sent_one() {
    let (url, asked) = token_endpoint(&["good"]).await;
    let server = Server::start().await;
    for _ in 0..2 {
        let fault = with_token(&server, &url).check().await.expect_err("no mechanism");
        assert!(fault.detail.contains("AUTH=XOAUTH2"), "{fault}");
        assert_eq!((fault.reason, fault.step), (Reason::Unauthorized, "mechanism"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the token is kept: nothing is wrong with it");
    assert!(server.commands("AUTHENTICATE").is_empty() && server.commands("LOGIN").is_empty());
}
