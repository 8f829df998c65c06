//! The source against a store in memory whose clock the test moves: histories made at random, with restarts and commits
//! whose answer is lost, then the single promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::reader::{MOST_LOOKS, PAGES_BUSY, PAGES_DATED, PAGES_FREE};
use super::*;
use crate::outcome::Class;
use crate::source::{Batch, Content, Handover, Settled};

/// What the store holds, and what it was asked.
#[derive(Default)]
struct Shelves {
    objects: BTreeMap<String, (Object, Bytes)>,
    now: i64,
    is_dated: bool,
    page: usize,
    writes: u64,
    lists: usize,
    reads: usize,
    forbidden: BTreeSet<String>,
    broken: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Shelves>>);

impl Fake {
    fn new(is_dated: bool, page: usize) -> Self {
        Self(Arc::new(Mutex::new(Shelves { is_dated, page, now: 1_771_000_000, ..Shelves::default() })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shelves) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn write(&self, name: &str, content: &str) {
        self.with(|shelves| {
            shelves.writes += 1;
            // Whoever writes by SFTP says when that was.
            let time =
                if shelves.is_dated { shelves.now } else { 1_600_000_000 + (shelves.writes * 7_919 % 100_003) as i64 };
            let tag = format!("t{}", if shelves.is_dated { shelves.writes } else { time as u64 });
            let modified = Timestamp::from_second(time).ok();
            let object = Object { name: name.to_owned(), size: content.len() as u64, modified, tag };
            shelves.objects.insert(name.to_owned(), (object, Bytes::from(content.to_owned())));
        });
    }

    fn pass(&self, seconds: i64) {
        self.with(|shelves| shelves.now += seconds);
    }

    fn delete(&self, name: &str) {
        self.with(|shelves| shelves.objects.remove(name));
    }

    fn names(&self) -> Vec<String> {
        self.with(|shelves| shelves.objects.keys().cloned().collect())
    }
}

fn answer<'a, T: Send + 'a>(result: Result<T, Verdict>) -> BoxFuture<'a, Result<T, Verdict>> {
    Box::pin(std::future::ready(result))
}

fn broken() -> Verdict {
    Verdict::new(Class::Retry, Reason::Unavailable, "503")
}

impl Shelf for Fake {
    fn shown(&self) -> &str {
        "mem://"
    }

    fn dates_by_itself(&self) -> bool {
        self.with(|shelves| shelves.is_dated)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        depth: Depth,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Page, Verdict>> {
        answer(self.with(|shelves| {
            shelves.lists += 1;
            if shelves.broken {
                return Err(broken());
            }
            let mut page = Page { now: Timestamp::from_second(shelves.now).ok(), ..Page::default() };
            // What comes after a folder: `0` is the next character after `/`.
            let after = |shown: &str| match shown.strip_suffix('/').filter(|_| depth == Depth::One) {
                Some(folder) => format!("{folder}0"),
                None => format!("{shown}\0"),
            };
            let mut at = from.map_or_else(|| prefix.to_owned(), after);
            let mut last = None;
            while let Some((name, (object, _))) = shelves.objects.range(at..).next() {
                let Some(rest) = name.strip_prefix(prefix) else { break };
                if page.objects.len() + page.folders.len() == shelves.page {
                    page.next = last;
                    break;
                }
                let shown = match rest.split_once('/').filter(|_| depth == Depth::One) {
                    Some((own, _)) => {
                        let folder = format!("{prefix}{own}/");
                        page.folders.push(folder.clone());
                        folder
                    }
                    None => {
                        page.objects.push(object.clone());
                        name.clone()
                    }
                };
                at = after(&shown);
                last = Some(shown);
            }
            Ok(page)
        }))
    }

    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Object>, Verdict>> {
        answer(Ok(self.with(|shelves| shelves.objects.get(name).map(|(object, _)| object.clone()))))
    }

    fn read<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<Option<Bytes>, Verdict>> {
        answer(self.with(|shelves| {
            shelves.reads += 1;
            if shelves.forbidden.contains(&object.name) {
                return Err(Verdict::new(Class::Pause, Reason::NotPermitted, "403"));
            }
            let found = shelves.objects.get(&object.name).filter(|(there, _)| there == object);
            Ok(found.map(|(_, bytes)| bytes.clone()))
        }))
    }

    fn remove<'a>(&'a self, object: &'a Object) -> BoxFuture<'a, Result<(), Verdict>> {
        self.with(|shelves| {
            if shelves.objects.get(&object.name).is_some_and(|(there, _)| there == object) {
                shelves.objects.remove(&object.name);
            }
        });
        answer(Ok(()))
    }

    fn rename<'a>(&'a self, object: &'a Object, to: &'a str) -> BoxFuture<'a, Result<(), Verdict>> {
        let content = self.with(|shelves| shelves.objects.remove(&object.name));
        if let Some((_, bytes)) = content {
            self.write(to, std::str::from_utf8(&bytes).unwrap());
        }
        answer(Ok(()))
    }
}

/// The ledger's side: what is committed, and how it answers.
#[derive(Default)]
struct Desk {
    positions: BTreeMap<String, String>,
    /// Names with their contents, in the order of the commits.
    taken: Vec<(String, String)>,
    /// What the next hand-overs do: commit or not, and say so or not.
    mood: Option<fastrand::Rng>,
    /// A commit was not told: the reader must be started anew.
    is_lost: bool,
}

struct Stand {
    fake: Fake,
    settings: Settings,
    desk: Arc<Mutex<Desk>>,
    inlet: Inlet,
    reader: Reader<Fake>,
}

fn settings(keys: &str) -> Settings {
    toml::from_str(&format!("url = \"s3://b\"\n{keys}")).unwrap()
}

impl Stand {
    /// Needs a runtime.
    fn new(fake: Fake, keys: &str) -> Self {
        let (to, mut from) = mpsc::channel::<Handover>(1);
        let desk = Arc::<Mutex<Desk>>::default();
        let ledger = desk.clone();
        tokio::spawn(async move {
            while let Some(handover) = from.recv().await {
                let answers = ledger.lock().unwrap().take(&handover.batch);
                let _ = handover.answer.send(answers);
            }
        });
        let (settings, inlet) = (settings(keys), Inlet::new("test", to));
        let reader = start(&fake, &settings, &inlet, &BTreeMap::new());
        Self { fake, settings, desk, inlet, reader }
    }

    fn restart(&mut self) {
        let positions = self.desk.lock().unwrap().positions.clone();
        self.reader = start(&self.fake, &self.settings, &self.inlet, &positions);
    }

    /// One look, a while after the last one; the number of listings that it took.
    async fn tick(&mut self, seconds: i64) -> Result<usize, Fault> {
        self.fake.pass(seconds);
        let before = self.fake.with(|shelves| shelves.lists);
        self.reader.tick().await?;
        Ok(self.fake.with(|shelves| shelves.lists) - before)
    }

    /// As many looks as it takes to sweep everything twice.
    async fn settle(&mut self) {
        for _ in 0..150 {
            self.tick(60).await.unwrap();
        }
    }

    fn taken(&self) -> Vec<String> {
        let taken = std::mem::take(&mut self.desk.lock().unwrap().taken);
        taken.into_iter().map(|(name, content)| format!("{name}={content}")).collect()
    }
}

fn start(fake: &Fake, settings: &Settings, inlet: &Inlet, positions: &BTreeMap<String, String>) -> Reader<Fake> {
    let started = Timestamp::from_second(fake.with(|shelves| shelves.now)).unwrap();
    Reader::new(fake.clone(), settings.clone(), started, inlet.clone(), positions, CancellationToken::new())
}

impl Desk {
    fn take(&mut self, batch: &Batch) -> Vec<Settled> {
        let (commits, tells) = match &mut self.mood {
            Some(mood) => (mood.u8(0..10) > 0, mood.u8(0..10) > 0),
            None => (true, true),
        };
        if commits {
            for item in &batch.items {
                let content = match &item.content {
                    Content::Document(bytes) | Content::Mail(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                    Content::TooLarge(size) => format!("too large: {size}"),
                };
                self.taken.push((item.input.clone(), content));
            }
            if let Some(position) = &batch.position {
                self.positions.insert(position.key.clone(), position.value.clone());
            }
        }
        let count = batch.items.len().max(1);
        if commits && tells {
            vec![Settled::Accepted; count]
        } else {
            self.is_lost |= commits;
            vec![Settled::TryAgain("not now".to_owned()); count]
        }
    }
}

/// A name as a platform gives it: dated, numbered, or hostile.
fn name(random: &mut fastrand::Rng, day: u32, id: u32) -> String {
    match random.u8(0..8) {
        0 => format!("flat/metadata-{id}.json"),
        1 => format!("metadata//{{{{date}}}}-{id}.json"),
        2 => format!("metadata-{id}.json"),
        3 => format!("call-{id}.mp3"),
        _ => format!("metadata/2026/{:02}/{:02}/call-{id}.json", day / 28 + 1, day % 28 + 1),
    }
}

async fn history(seed: u64, is_dated: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let fake = Fake::new(is_dated, random.usize(3..40));
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    let mut count = 0;
    let mut write = |fake: &Fake, name: String, contents: &mut BTreeMap<String, String>| {
        count += 1;
        let content = format!("{{\"v\":{count}}}");
        fake.write(&name, &content);
        contents.insert(name, content);
    };
    let mut stand = Stand::new(fake.clone(), "start = \"all\"");
    stand.desk.lock().unwrap().mood = Some(random.fork());
    let mut id = 8;
    for day in 0..random.u32(5..60) {
        for _ in 0..random.u8(0..12) {
            id += random.u32(1..4);
            let fresh = name(&mut random, day, id);
            write(&fake, fresh, &mut contents);
            fake.pass(random.i64(0..300));
        }
        let known = fake.names();
        for _ in 0..random.u8(0..4) {
            if let Some(known) = random.choice(&known) {
                write(&fake, known.clone(), &mut contents);
            }
        }
        if let Some(known) = random.choice(&known).filter(|_| random.u8(0..4) == 0) {
            fake.delete(known);
            contents.remove(known);
        }
        fake.with(|shelves| shelves.broken = random.u8(0..15) == 0);
        let seconds = random.i64(60..4_000);
        let lists = stand.tick(seconds).await.unwrap_or_default();
        assert!(lists <= MOST_LOOKS * 2 + PAGES_FREE + PAGES_BUSY, "seed {seed}: {lists} listings in one look");
        let is_lost = std::mem::take(&mut stand.desk.lock().unwrap().is_lost);
        if is_lost || random.u8(0..6) == 0 {
            stand.restart();
        }
    }
    fake.with(|shelves| shelves.broken = false);
    stand.desk.lock().unwrap().mood = None;
    stand.restart();
    stand.settle().await;
    let desk = stand.desk.lock().unwrap();
    let distinct: BTreeSet<_> = desk.taken.iter().collect();
    assert_eq!(distinct.len(), desk.taken.len(), "seed {seed}: something was read twice");
    for (name, content) in contents.iter().filter(|(name, _)| name.ends_with(".json")) {
        assert!(distinct.contains(&(name.clone(), content.clone())), "seed {seed}: `{name}` was skipped");
    }
    assert!(desk.taken.iter().all(|(name, _)| name.ends_with(".json")), "seed {seed}: a recording was read");
    if is_dated {
        assert!(stand.reader.memory.len() <= 2 * 64, "seed {seed}: {} keys are remembered", stand.reader.memory.len());
    }
}

#[tokio::test]
async fn nothing_is_skipped_and_nothing_read_twice_whatever_happens() {
    for seed in 0..60 {
        history(seed, true).await;
    }
}

#[tokio::test]
async fn times_that_writers_choose_change_nothing_of_that() {
    for seed in 1_000..1_040 {
        history(seed, false).await;
    }
}

#[tokio::test]
async fn a_look_at_a_big_bucket_costs_as_little_as_at_a_small_one() {
    let fake = Fake::new(true, 100);
    for id in 0..4_000 {
        fake.write(&format!("metadata/2025/{:02}/{:02}/call-{id}.json", id / 350 + 1, id / 12 % 28 + 1), "{}");
        fake.write(&format!("flat/metadata-{id}.json"), "{}");
        fake.pass(1);
    }
    fake.pass(86_400);
    let mut stand = Stand::new(fake.clone(), "");
    for _ in 0..60 {
        stand.tick(60).await.unwrap();
    }
    assert_eq!(stand.taken(), [""; 0]);
    let mut most = 0;
    for (new, within) in [
        ("metadata/2025/12/26/call-4000.json", 1),
        ("metadata/2025/12/29/call-4001.json", 1),
        ("metadata/2026/01/01/call-4002.json", 1),
        ("metadata/2026/01/01/call-4003.json", 1),
        ("flat/metadata-4000.json", 1),
        ("flat/metadata-4001.json", 1),
        ("flat/metadata-4100.json", 1),
        // An old one that is written anew: only the sweep can know.
        ("metadata/2025/01/02/call-13.json", 45),
    ] {
        fake.write(new, "{\"new\":1}");
        let mut looks = 0;
        while stand.desk.lock().unwrap().taken.is_empty() {
            most = most.max(stand.tick(60).await.unwrap());
            looks += 1;
            assert!(looks <= within, "{new} is not found in {within} looks");
        }
        assert_eq!(stand.taken(), [format!("{new}={{\"new\":1}}")]);
    }
    assert!(most <= MOST_LOOKS + PAGES_DATED, "{most} listings in one look");
    let reads = fake.with(|shelves| shelves.reads);
    assert_eq!(reads, 8, "downloads");
}

#[tokio::test]
async fn the_first_contact_starts_where_it_is_told() {
    for is_dated in [true, false] {
        let expect = async |keys: &str, expected: &[&str]| {
            let fake = Fake::new(is_dated, 10);
            fake.write("a.json", "1");
            fake.pass(100_000);
            let mut stand = Stand::new(fake.clone(), keys);
            stand.tick(60).await.unwrap();
            fake.pass(5);
            fake.write("b.json", "2");
            stand.restart();
            stand.settle().await;
            assert_eq!(stand.taken(), expected, "{keys} {is_dated}");
        };
        expect("", &["b.json=2"]).await;
        expect("start = \"all\"", &["a.json=1", "b.json=2"]).await;
        if is_dated {
            // 1,771,000,000 is 2026-02-13 16:26:40 UTC.
            expect("start = \"2026-02-13T20:00:00Z\"", &["b.json=2"]).await;
            expect("start = \"2026-02-13\"", &["a.json=1", "b.json=2"]).await;
        }
    }
}

#[tokio::test]
async fn an_empty_object_waits_for_its_content_and_is_reported_after_an_hour() {
    let fake = Fake::new(true, 10);
    let mut stand = Stand::new(fake.clone(), "");
    stand.tick(60).await.unwrap();
    fake.write("late.json", "");
    fake.write("never.json", "");
    fake.write("gone.json", "");
    for _ in 0..20 {
        stand.tick(60).await.unwrap();
    }
    stand.restart();
    assert_eq!(stand.taken(), [""; 0]);
    fake.write("late.json", "1");
    fake.delete("gone.json");
    stand.settle().await;
    assert_eq!(stand.taken(), ["late.json=1", "never.json="]);
    assert!(stand.reader.memory.owed.is_empty());
}

#[tokio::test]
async fn an_object_that_may_not_be_read_holds_up_no_other_and_is_read_when_it_may() {
    let fake = Fake::new(true, 10);
    let mut stand = Stand::new(fake.clone(), "");
    stand.tick(60).await.unwrap();
    fake.with(|shelves| shelves.forbidden.insert("b.json".to_owned()));
    for name in ["a.json", "b.json", "c.json"] {
        fake.write(name, "1");
    }
    stand.settle().await;
    assert_eq!(stand.taken(), ["a.json=1", "c.json=1"]);
    fake.with(|shelves| shelves.forbidden.clear());
    stand.restart();
    stand.settle().await;
    assert_eq!(stand.taken(), ["b.json=1"]);
}

#[tokio::test]
async fn what_is_too_large_is_not_downloaded() {
    let fake = Fake::new(true, 10);
    fake.write("a.json", &"x".repeat(2_000));
    let mut stand = Stand::new(fake.clone(), "start = \"all\"");
    stand.reader.settings.max_bytes = 1_000;
    stand.tick(60).await.unwrap();
    assert_eq!(stand.taken(), ["a.json=too large: 2000"]);
    assert_eq!(fake.with(|shelves| shelves.reads), 0);
}

#[tokio::test]
async fn taken_objects_are_deleted_or_moved_and_moved_ones_not_read_again() {
    for (after, left) in [("\"delete\"", &[][..]), ("{ move_to = \"done\" }", &["done/x/a.json"])] {
        let fake = Fake::new(true, 10);
        fake.write("x/a.json", "1");
        let mut stand = Stand::new(fake.clone(), &format!("start = \"all\"\nafter = {after}"));
        stand.settle().await;
        assert_eq!(stand.taken(), ["x/a.json=1"]);
        assert_eq!(fake.names(), left);
    }
}

#[test]
fn a_key_that_there_is_not_is_a_fault() {
    let read =
        |keys: &str| toml::from_str::<crate::source::Kind>(&format!("kind = \"bucket\"\nurl = \"gs://b\"\n{keys}"));
    assert!(read("match = \"**/*.json\"\nservice_account = { env = \"KEY\" }").is_ok());
    assert!(read("matc = \"**/*.json\"").unwrap_err().to_string().contains("matc"));
}

#[test]
fn what_settings_can_not_be_is_told_with_its_key() {
    for (keys, key) in [
        ("url = \"/srv/x\"", "url"),
        ("url = \"gs://b\"\nregion = \"eu\"", "region"),
        ("url = \"gs://b\"\nafter = { move_to = \"/\" }", "after"),
        ("url = \"sftp://u@h/p\"\npassword = \"x\"", "url"),
    ] {
        let settings: Settings = toml::from_str(keys).unwrap();
        let faults = settings.faults();
        assert_eq!(faults.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), [key], "{keys}: {faults:?}");
    }
}
