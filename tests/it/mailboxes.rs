//! Several mailboxes over one IMAP connection, and what HIGHESTMODSEQ saves, against a server that also goes wrong.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use mail2crm::outcome::Reason;
use mail2crm::source::Source;

use super::imap::imap_server::{Modseq, Server, Trick};
use super::imap::{Bridge, NEW, OLD, field, source, text};

type Places = BTreeMap<String, String>;

/// Accepts batches until these many mails have come, in the order of their names; keeps the positions.
async fn take(bridge: &mut Bridge, places: &mut Places, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let batch = bridge.accept().await;
        let position = batch.position.expect("a position");
        places.insert(position.key, position.value);
        all.extend(batch.items.iter().map(|item| format!("{} {}", item.input, text(&item.content))));
        if all.len() >= count && (count > 0 || !places.is_empty()) {
            all.sort();
            return all;
        }
    }
}

const BOTH: &str = "start = 'all'\nmailboxes = ['INBOX', 'Sessions']\npoll_seconds = 1";

#[tokio::test]
async fn each_mailbox_has_its_place_and_a_restart_reads_nothing_twice() {
    let server = Server::start().await;
    server.deliver("a", OLD);
    server.deliver_to("Sessions", "b", OLD);
    server.deliver_to("Sessions", "c", OLD);
    let mut places = Places::new();
    let mut bridge = Bridge::start_at(&server, BOTH, Places::new());
    assert_eq!(take(&mut bridge, &mut places, 3).await, ["INBOX/7/1 a", "Sessions/7/1 b", "Sessions/7/2 c"]);
    // News in the other one is found at the next look, news in the first at once.
    server.deliver_to("Sessions", "d", NEW);
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/7/3 d"]);
    server.deliver("e", NEW);
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["INBOX/7/2 e"]);
    server.until(|| server.state().others["Sessions"].mails.values().all(|mail| !mail.flags.is_empty())).await;
    bridge.stop().await;
    assert_eq!((field(&places["INBOX"], "next_uid"), field(&places["Sessions"], "next_uid")), (3.into(), 4.into()));

    server.deliver("f", NEW);
    server.deliver_to("Sessions", "g", NEW);
    let mut bridge = Bridge::start_at(&server, BOTH, places.clone());
    assert_eq!(take(&mut bridge, &mut places, 2).await, ["INBOX/7/3 f", "Sessions/7/4 g"]);
    bridge.stop().await;
    assert_eq!(server.state().connections, 2, "one connection serves both");
}

#[tokio::test]
async fn a_mailbox_that_is_gone_does_not_stop_the_others_and_is_read_when_it_comes() {
    let server = Server::start().await;
    let mut places = Places::new();
    server.deliver("a", OLD);
    let settings = "start = 'all'\nmailboxes = ['Gone', 'INBOX']\npoll_seconds = 1";
    let mut bridge = Bridge::start_at(&server, settings, Places::new());
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["INBOX/7/1 a"]);
    server.until(|| !server.commands("IDLE").is_empty()).await;
    server.deliver("b", NEW);
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["INBOX/7/2 b"]);
    server.deliver_to("Gone", "c", NEW);
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["Gone/7/1 c"]);
    bridge.stop().await;
    assert_eq!(server.state().connections, 1);
}

#[tokio::test]
async fn without_any_mailbox_that_opens_it_is_a_fault() {
    let server = Server::start().await;
    let fault = Bridge::start_at(&server, "mailboxes = ['A', 'B']", Places::new()).fault().await;
    assert_eq!((fault.reason, fault.step), (Reason::NotPermitted, "select"));
}

#[tokio::test]
async fn a_mailbox_that_ends_the_connection_has_the_others_read_meanwhile() {
    let server = Server::start().await;
    server.deliver_to("Broken", "a", OLD);
    server.deliver("b", OLD);
    // The parser panics on its listing, every time.
    server.state().others.get_mut("Broken").expect("it").tricks.insert(1, Trick::NoDate);
    let mut places = Places::new();
    let settings = "start = 'all'\nmailboxes = ['Broken', 'INBOX']\npoll_seconds = 1";
    let mut bridge = Bridge::start_at(&server, settings, Places::new());
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["INBOX/7/1 b"]);
    server.deliver("c", NEW);
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["INBOX/7/2 c"]);
    server.state().others.get_mut("Broken").expect("it").tricks.clear();
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["Broken/7/1 a"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_full_mailbox_does_not_keep_the_others_waiting_until_it_is_empty() {
    let server = Server::start().await;
    for n in 0..1500 {
        server.deliver_to("Full", &format!("mail {n}"), OLD);
    }
    server.deliver("a", OLD);
    let settings = "start = 'all'\nmailboxes = ['Full', 'INBOX']\nafter = 'nothing'";
    let mut bridge = Bridge::start_at(&server, settings, Places::new());
    let mut all = Vec::new();
    while all.len() < 1501 {
        all.extend(bridge.accept().await.items.into_iter().map(|item| item.input));
    }
    bridge.stop().await;
    let at = all.iter().position(|input| input == "INBOX/7/1").expect("it came");
    assert!((1000..1400).contains(&at), "{at}");
    all.remove(at);
    let expected: Vec<_> = (1..=1500).map(|uid| format!("Full/7/{uid}")).collect();
    assert!(all == expected, "in order, each once");
}

#[tokio::test]
async fn a_pattern_takes_what_is_there_and_what_comes_but_not_what_nobody_means() {
    join_all(["", " LIST-STATUS", " LIST-STATUS CONDSTORE"].map(async |extension| {
        let server = Server::start().await;
        server.state().capabilities.push_str(extension);
        for name in ["Sessions/A", "Sessions/B", "Sessions/Sent", "Other"] {
            server.deliver_to(name, "old", OLD);
        }
        server.state().others.get_mut("Sessions/Sent").expect("it").attributes = "\\HasNoChildren \\Sent";
        server.state().folders = vec!["Sessions/Done".to_owned()];
        let settings = "mailboxes = ['Sessions/*']\nafter = { move_to = 'Sessions/Done' }\npoll_seconds = 1";
        let mut places = Places::new();
        let mut bridge = Bridge::start_at(&server, settings, Places::new());
        while places.len() < 3 {
            assert!(take(&mut bridge, &mut places, 0).await.is_empty());
        }
        assert_eq!(places.keys().collect::<Vec<_>>(), ["Sessions/*", "Sessions/A", "Sessions/B"]);
        server.deliver_to("Sessions/B", "new", NEW);
        assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/B/7/2 new"]);
        // What is in a mailbox that appears later came since the first contact, unless it is older than that.
        server.deliver_to("Sessions/C", "moved here", OLD);
        server.deliver_to("Sessions/C", "arrived", NEW);
        assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/C/7/2 arrived"]);
        server.until(|| server.state().others["Sessions/C"].moved.contains_key(&2)).await;
        bridge.stop().await;
        // Also if it appears while nobody looks.
        server.deliver_to("Sessions/D", "meanwhile", NEW);
        let mut bridge = Bridge::start_at(&server, settings, places.clone());
        assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/D/7/1 meanwhile"]);
        bridge.stop().await;
        assert_eq!(!server.commands("STATUS").is_empty(), extension.is_empty(), "{extension}");
        assert!(server.commands("LIST").iter().all(|one| one.contains("HIGHESTMODSEQ") == extension.contains("COND")));
        assert!(!places.contains_key("Sessions/Sent") && !places.contains_key("Sessions/Done"));
    }))
    .await;
}

#[tokio::test]
async fn with_notify_the_other_mailboxes_are_not_waited_for() {
    let server = Server::start().await;
    server.state().capabilities.push_str(" NOTIFY");
    server.deliver_to("Sessions", "a", OLD);
    let mut places = Places::new();
    let settings = "start = 'all'\nmailboxes = ['INBOX', 'Sessions']\npoll_seconds = 3600";
    let mut bridge = Bridge::start_at(&server, settings, Places::new());
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/7/1 a"]);
    server.until(|| !server.commands("IDLE").is_empty()).await;
    server.deliver_to("Sessions", "b", NEW);
    assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/7/2 b"]);
    bridge.stop().await;
    let commands = server.commands("NOTIFY");
    assert_eq!(commands.len(), 1);
    assert!(commands[0].contains("(MAILBOXES (\"INBOX\" \"Sessions\")"), "{commands:?}");
}

/// How often the mailbox was opened and listed by the time it was opened so often.
async fn looks(server: &Server, settings: &str, opened: usize) -> (usize, usize) {
    let mut places = Places::new();
    let mut bridge = Bridge::start_at(server, settings, Places::new());
    take(&mut bridge, &mut places, 1).await;
    server.until(|| server.commands("EXAMINE").len() > opened).await;
    bridge.stop().await;
    let listed = server.commands("UID FETCH").iter().filter(|one| one.contains("RFC822.SIZE")).count();
    (server.commands("EXAMINE").len(), listed)
}

#[tokio::test]
async fn numbers_that_stay_spare_the_listing_and_a_modseq_that_changes_does_not() {
    let settings = "start = 'all'\nafter = 'nothing'\nidle = false\npoll_seconds = 1";
    let told = [Modseq::True, Modseq::Always(1), Modseq::Always(0), Modseq::Refused, Modseq::Falling];
    join_all(told.map(async |told| {
        let server = Server::start().await;
        server.state().capabilities = "IMAP4rev1 CONDSTORE".to_owned();
        server.state().modseq_told = told;
        server.deliver("a", OLD);
        let (opened, listed) = looks(&server, settings, 3).await;
        let expected = if told == Modseq::Falling { opened - 1..=opened } else { 1..=1 };
        assert!(expected.contains(&listed), "{told:?}: opened {opened} times, listed {listed} times");
    }))
    .await;
}

#[tokio::test]
async fn a_message_that_was_not_to_be_had_is_tried_again_whatever_the_numbers_say() {
    let server = Server::start().await;
    server.state().capabilities = "IMAP4rev1 CONDSTORE".to_owned();
    server.state().modseq_told = Modseq::Always(5);
    for name in ["a", "b"] {
        server.deliver(name, OLD);
        server.deliver_to("Sessions", name, OLD);
    }
    server.state().tricks.insert(1, Trick::No);
    server.state().others.get_mut("Sessions").expect("it").tricks.insert(2, Trick::Empty);
    let mut places = Places::new();
    let settings = format!("{BOTH}\nafter = 'nothing'\nidle = false");
    let mut bridge = Bridge::start_at(&server, &settings, Places::new());
    assert_eq!(take(&mut bridge, &mut places, 2).await, ["INBOX/7/2 b", "Sessions/7/1 a"]);
    server.state().tricks.clear();
    server.state().others.get_mut("Sessions").expect("it").tricks.clear();
    assert_eq!(take(&mut bridge, &mut places, 2).await, ["INBOX/7/1 a", "Sessions/7/2 b"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_server_that_offers_more_than_it_knows_is_read_without_it() {
    join_all(["(CONDSTORE)", "HIGHESTMODSEQ", "RETURN", "NOTIFY"].map(async |unknown| {
        let server = Server::start().await;
        server.state().capabilities.push_str(" CONDSTORE LIST-STATUS NOTIFY");
        server.state().modseq_told = Modseq::True;
        server.state().unknown = Some(unknown);
        server.deliver("a", OLD);
        server.deliver_to("Sessions/A", "b", OLD);
        let settings = "start = 'all'\nmailboxes = ['INBOX', 'Sessions/%']\npoll_seconds = 1";
        let mut places = Places::new();
        let mut bridge = Bridge::start_at(&server, settings, Places::new());
        assert_eq!(take(&mut bridge, &mut places, 2).await, ["INBOX/7/1 a", "Sessions/A/7/1 b"]);
        server.deliver_to("Sessions/A", "c", NEW);
        assert_eq!(take(&mut bridge, &mut places, 1).await, ["Sessions/A/7/2 c"]);
        bridge.stop().await;
        assert_eq!(server.state().connections, 1, "{unknown}");
    }))
    .await;
}

#[tokio::test]
async fn a_check_names_every_mailbox_and_every_one_that_is_missing() {
    let server = Server::start().await;
    server.deliver("a", OLD);
    server.deliver_to("Sessions/A", "b", OLD);
    server.deliver_to("Sessions/B", "c", OLD);
    server.deliver_to("Sessions/B", "d", OLD);
    for extension in ["", " LIST-STATUS CONDSTORE"] {
        server.state().capabilities.push_str(extension);
        let said = source(&server, "mailboxes = ['INBOX', 'Sessions/*', 'X/%']").check().await.expect("a sentence");
        let expected = "logged in; `INBOX` holds 1 message; `Sessions/*` finds 2 mailboxes: `Sessions/A` holds 1 message, \
            `Sessions/B` holds 2 messages; `X/%` finds 0 mailboxes; the server offers IDLE, MOVE, UIDPLUS";
        assert!(said.starts_with(expected), "{said}");
    }
    let fault = source(&server, "mailboxes = ['Y', 'INBOX', 'Z']").check().await.expect_err("a fault");
    assert!(fault.detail.contains("`Y`") && fault.detail.contains("`Z`"), "{fault}");
    assert!(server.commands("SELECT").is_empty());
}
