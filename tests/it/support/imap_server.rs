//! A small IMAP server on loopback whose mailboxes are values, for what a real one won't do on command:
//! it breaks off, refuses, lies about sizes or numbers anew, as its `tricks` say. Keeps the commands it got.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens when the bytes of a message are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// The command is answered with NO, after the messages before it.
    No,
    /// It is expunged at this moment.
    Vanish,
    /// BYE and the end, in the middle of the literal.
    BreakOff,
    /// The same, but the next time all is well.
    BreakOffOnce,
    /// A literal of this many bytes is announced.
    Announce(u64),
    /// The bytes are `""`.
    Empty,
    /// INTERNALDATE is NIL in the listing, on which the client's parser panics.
    NoDate,
}

#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) bytes: Vec<u8>,
    pub(crate) date: String,
    pub(crate) flags: Vec<String>,
}

/// What is told as HIGHESTMODSEQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Modseq {
    /// Nothing, as by a server without CONDSTORE.
    #[default]
    Untold,
    /// What it is.
    True,
    /// Always this.
    Always(u64),
    /// `[NOMODSEQ]`.
    Refused,
    /// Less each time.
    Falling,
}

/// A mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) uidvalidity: u32,
    pub(crate) uid_next: u32,
    pub(crate) modseq: u64,
    pub(crate) mails: BTreeMap<u32, Mail>,
    pub(crate) moved: BTreeMap<u32, String>,
    pub(crate) tricks: BTreeMap<u32, Trick>,
    /// The attributes in a listing.
    pub(crate) attributes: &'static str,
}

impl Folder {
    fn new() -> Self {
        let (mails, moved, tricks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { uidvalidity: 7, uid_next: 1, modseq: 1, mails, moved, tricks, attributes: "" }
    }
}

/// Used as a folder it is its INBOX.
pub(crate) struct State {
    pub(crate) capabilities: String,
    pub(crate) user: String,
    pub(crate) password: String,
    /// The access token that is taken.
    pub(crate) token: String,
    pub(crate) inbox: Folder,
    /// The other mailboxes.
    pub(crate) others: BTreeMap<String, Folder>,
    /// Mailboxes that mails are moved to, without content.
    pub(crate) folders: Vec<String>,
    pub(crate) modseq_told: Modseq,
    falling: u64,
    /// False: SELECT does not tell the next UID.
    pub(crate) says_uid_next: bool,
    /// What is said instead of a greeting.
    pub(crate) greeting: &'static str,
    /// Commands that begin so are never answered.
    pub(crate) silent_on: Option<&'static str>,
    /// Commands with this in them are answered with BAD, whatever the capabilities say.
    pub(crate) unknown: Option<&'static str>,
    pub(crate) commands: Vec<String>,
    pub(crate) connections: u32,
}

impl Deref for State {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.inbox
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut Folder {
        &mut self.inbox
    }
}

impl State {
    fn folder(&mut self, name: &str) -> Option<&mut Folder> {
        if name.eq_ignore_ascii_case("INBOX") { Some(&mut self.inbox) } else { self.others.get_mut(name) }
    }

    /// What is told of a modseq: the number, or none.
    fn tell_modseq(&mut self, actual: u64) -> Option<u64> {
        match self.modseq_told {
            Modseq::Untold | Modseq::Refused => None,
            Modseq::True => Some(actual),
            Modseq::Always(number) => Some(number),
            Modseq::Falling => {
                self.falling -= 1;
                Some(self.falling)
            }
        }
    }

    fn status(&mut self, name: &str) -> Option<String> {
        if self.folders.iter().any(|one| one == name) {
            return Some("MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7".to_owned());
        }
        let folder = self.folder(name)?;
        let text =
            format!("MESSAGES {} UIDNEXT {} UIDVALIDITY {}", folder.mails.len(), folder.uid_next, folder.uidvalidity);
        let modseq = folder.modseq;
        Some(match self.tell_modseq(modseq) {
            Some(modseq) => format!("{text} HIGHESTMODSEQ {modseq}"),
            None => text,
        })
    }
}

pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    arrivals: watch::Sender<u32>,
    /// Counts the steps of all connections, so that a test can wait for one.
    steps: watch::Receiver<u32>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State {
            capabilities: "IMAP4rev1 IDLE UIDPLUS MOVE".to_owned(),
            user: "robot".to_owned(),
            password: "secret \"word\"".to_owned(),
            token: "good".to_owned(),
            inbox: Folder::new(),
            others: BTreeMap::new(),
            folders: vec!["Processed".to_owned()],
            modseq_told: Modseq::Untold,
            falling: 1_000_000,
            says_uid_next: true,
            greeting: "* OK ready",
            silent_on: None,
            unknown: None,
            commands: Vec::new(),
            connections: 0,
        }));
        let (arrivals, arrived) = watch::channel(0);
        let (stepped, steps) = watch::channel(0);
        let shared = state.clone();
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                shared.lock().expect("state").connections += 1;
                let peer = Peer::new(stream, shared.clone(), arrived.clone(), stepped.clone());
                // The end of a connection is no error of the server's.
                tokio::spawn(async move { peer.serve().await.unwrap_or(()) });
            }
        });
        Self { port, state, arrivals, steps, listener }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("state")
    }

    /// A mail arrives; whoever is in IDLE hears of it.
    pub(crate) fn deliver(&self, text: &str, date: &str) -> u32 {
        self.deliver_to("INBOX", text, date)
    }

    /// A mail arrives in a mailbox, which is made if it is not there.
    pub(crate) fn deliver_to(&self, name: &str, text: &str, date: &str) -> u32 {
        let mut state = self.state();
        if name != "INBOX" {
            state.others.entry(name.to_owned()).or_insert_with(Folder::new);
        }
        let folder = state.folder(name).expect("a mailbox");
        let uid = folder.uid_next;
        folder.uid_next += 1;
        folder.modseq += 1;
        let mail = Mail { bytes: text.as_bytes().to_vec(), date: date.to_owned(), flags: Vec::new() };
        folder.mails.insert(uid, mail);
        drop(state);
        self.arrivals.send_modify(|count| *count += 1);
        uid
    }

    /// Waits until something is so: the source acts after the commit without a sign to the test.
    pub(crate) async fn until(&self, mut so: impl FnMut() -> bool) {
        let mut steps = self.steps.clone();
        let wait = async {
            loop {
                steps.borrow_and_update();
                if so() {
                    return;
                }
                steps.changed().await.expect("a server that runs");
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("it in time");
    }

    /// The commands that begin with this word, in order.
    pub(crate) fn commands(&self, word: &str) -> Vec<String> {
        self.state().commands.iter().filter(|command| command.starts_with(word)).cloned().collect()
    }
}

struct Peer {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    arrived: watch::Receiver<u32>,
    stepped: watch::Sender<u32>,
    /// The mailbox that is open, and what the peer believes to be in it.
    open: String,
    told: usize,
    /// The next UIDs of the others as last told, once it wants to be told.
    notified: Option<BTreeMap<String, u32>>,
}

type Io = std::io::Result<()>;

impl Peer {
    fn new(
        stream: TcpStream,
        state: Arc<Mutex<State>>,
        arrived: watch::Receiver<u32>,
        stepped: watch::Sender<u32>,
    ) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read: BufReader::new(read),
            write,
            state,
            arrived,
            stepped,
            open: String::new(),
            told: 0,
            notified: None,
        }
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut State) -> R) -> R {
        use_it(&mut self.state.lock().expect("state"))
    }

    /// The open mailbox.
    fn at<R>(&self, use_it: impl FnOnce(&mut Folder) -> R) -> R {
        self.with(|state| use_it(state.folder(&self.open).expect("an open mailbox")))
    }

    async fn say(&mut self, text: impl AsRef<[u8]>) -> Io {
        self.stepped.send_modify(|count| *count += 1);
        self.write.write_all(text.as_ref()).await?;
        self.write.write_all(b"\r\n").await
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.read.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    async fn serve(mut self) -> Io {
        let greeting = self.with(|state| state.greeting);
        self.say(greeting).await?;
        loop {
            let line = self.line().await?;
            let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
            let silent = self.with(|state| {
                state.commands.push(command.to_owned());
                state.silent_on.is_some_and(|word| command.starts_with(word))
            });
            if silent {
                std::future::pending::<()>().await;
            }
            if self.with(|state| state.unknown.is_some_and(|text| command.contains(text))) {
                self.say(format!("{tag} BAD what?")).await?;
                continue;
            }
            let words: Vec<&str> = command.split(' ').collect();
            let rest = |n: usize| command.splitn(n + 1, ' ').nth(n).unwrap_or_default().to_owned();
            let reply = match words[..] {
                ["CAPABILITY"] => {
                    let list = self.with(|state| state.capabilities.clone());
                    self.say(format!("* CAPABILITY {list}")).await?;
                    "OK done".to_owned()
                }
                ["LOGIN", ..] => self.with(|state| {
                    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
                    let expected = format!("LOGIN \"{}\" \"{}\"", quoted(&state.user), quoted(&state.password));
                    if command == expected {
                        "OK in".to_owned()
                    } else {
                        format!("NO [AUTHENTICATIONFAILED] wrong password for {} at robot@acme.example", state.user)
                    }
                }),
                ["AUTHENTICATE", "PLAIN"] => {
                    self.say("+ ").await?;
                    let answer = self.line().await?;
                    self.with(|state| {
                        use base64::Engine;
                        let expected = format!("\0{}\0{}", state.user, state.password);
                        let fine = answer == base64::engine::general_purpose::STANDARD.encode(expected);
                        if fine { "OK in".to_owned() } else { "NO [AUTHENTICATIONFAILED] no".to_owned() }
                    })
                }
                ["AUTHENTICATE", mechanism @ ("XOAUTH2" | "OAUTHBEARER"), ..] => {
                    let initial = match words.get(2) {
                        Some(initial) => (*initial).to_owned(),
                        None => {
                            self.say("+ ").await?;
                            self.line().await?
                        }
                    };
                    self.bearer(mechanism, &initial).await?
                }
                ["SELECT" | "EXAMINE", ..] => self.select(&rest(1), words[0] == "EXAMINE").await?,
                ["STATUS", folder, ..] => match self.with(|state| state.status(folder.trim_matches('"'))) {
                    Some(status) => {
                        self.say(format!("* STATUS {folder} ({status})")).await?;
                        "OK done".to_owned()
                    }
                    None => "NO [NONEXISTENT] no such mailbox".to_owned(),
                },
                ["LIST", "\"\"", pattern, ..] => self.listing(pattern.trim_matches('"'), words.len() > 3).await?,
                ["NOTIFY", "SET", ..] => {
                    let now = self.with(|state| state.others.iter().map(|(n, f)| (n.clone(), f.uid_next)).collect());
                    self.notified = Some(now);
                    "OK you will be told".to_owned()
                }
                ["CREATE", folder] => {
                    self.with(|state| state.folders.push(folder.trim_matches('"').to_owned()));
                    "OK made".to_owned()
                }
                ["NOOP"] => {
                    self.tell().await?;
                    "OK done".to_owned()
                }
                ["UID", "FETCH", set, "(UID", "BODY.PEEK[])"] => self.bodies(set).await?,
                ["UID", "FETCH", set, ..] => self.list(set).await?,
                ["UID", "STORE", set, ..] => {
                    let flags = rest(4).trim_matches(['(', ')']).to_owned();
                    self.at(|state| {
                        state.modseq += 1;
                        for uid in uids(set, state) {
                            let mail = state.mails.get_mut(&uid).expect("a mail");
                            mail.flags.extend(flags.split(' ').map(str::to_owned));
                        }
                    });
                    "OK stored".to_owned()
                }
                ["UID", "MOVE" | "COPY", set, folder] => {
                    self.relocate(set, folder.trim_matches('"'), words[1] == "MOVE")
                }
                ["UID", "EXPUNGE", set] => {
                    self.at(|state| {
                        state.modseq += 1;
                        for uid in uids(set, state) {
                            state.mails.remove(&uid);
                        }
                    });
                    self.tell().await?;
                    "OK gone".to_owned()
                }
                ["IDLE"] => self.idle().await?,
                ["LOGOUT"] => {
                    self.say("* BYE bye").await?;
                    self.say(format!("{tag} OK done")).await?;
                    return Ok(());
                }
                _ => "BAD what?".to_owned(),
            };
            self.say(format!("{tag} {reply}")).await?;
        }
    }

    /// Judges a token as Gmail does: what is wrong comes as a challenge, which the client has to answer.
    async fn bearer(&mut self, mechanism: &str, initial: &str) -> std::io::Result<String> {
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD;
        let expected = self.with(|state| match mechanism {
            "XOAUTH2" => format!("user={}\x01auth=Bearer {}\x01\x01", state.user, state.token),
            _ => {
                let port = self.write.local_addr().expect("an address").port();
                let to = format!("host=127.0.0.1\x01port={port}");
                format!("n,a={},\x01{to}\x01auth=Bearer {}\x01\x01", state.user, state.token)
            }
        });
        if initial == base64.encode(expected) {
            return Ok("OK in".to_owned());
        }
        let challenge = base64.encode(r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#);
        self.say(format!("+ {challenge}")).await?;
        let answer = self.line().await?;
        let due = if mechanism == "XOAUTH2" { "" } else { "AQ==" };
        Ok(if answer == due { "NO [AUTHENTICATIONFAILED] Invalid credentials" } else { "BAD what?" }.to_owned())
    }

    async fn select(&mut self, name: &str, read_only: bool) -> std::io::Result<String> {
        let (name, asks_modseq) = name.strip_suffix(" (CONDSTORE)").map_or((name, false), |name| (name, true));
        self.open = name.trim_matches('"').to_owned();
        let found =
            self.with(|state| state.folder(&self.open).map(|f| (f.mails.len(), f.uidvalidity, f.uid_next, f.modseq)));
        let Some((count, uidvalidity, uid_next, modseq)) = found else {
            return Ok("NO [NONEXISTENT] no such mailbox".to_owned());
        };
        self.told = count;
        self.say(format!("* {count} EXISTS")).await?;
        self.say("* OK [PERMANENTFLAGS (\\Seen \\Flagged \\Deleted \\*)] kept").await?;
        self.say(format!("* OK [UIDVALIDITY {uidvalidity}] valid")).await?;
        if self.with(|state| state.says_uid_next) {
            self.say(format!("* OK [UIDNEXT {uid_next}] next")).await?;
        }
        if !asks_modseq {
            // As Dovecot does.
        } else if self.with(|state| state.modseq_told) == Modseq::Refused {
            self.say("* OK [NOMODSEQ] not here").await?;
        } else if let Some(modseq) = self.with(|state| state.tell_modseq(modseq)) {
            self.say(format!("* OK [HIGHESTMODSEQ {modseq}] highest")).await?;
        }
        Ok(format!("OK [READ-{}] opened", if read_only { "ONLY" } else { "WRITE" }))
    }

    /// The mailboxes that a pattern with one wildcard at its end names.
    async fn listing(&mut self, pattern: &str, with_status: bool) -> std::io::Result<String> {
        let (start, wildcard) = pattern.split_at(pattern.len() - 1);
        let names: Vec<(String, &str)> = self.with(|state| {
            let others = state.others.iter().map(|(name, folder)| (name.clone(), folder.attributes));
            let all = std::iter::once(("INBOX".to_owned(), state.inbox.attributes)).chain(others);
            let all = all.chain(state.folders.iter().map(|name| (name.clone(), "")));
            let within =
                |name: &str| name.strip_prefix(start).is_some_and(|rest| wildcard == "*" || !rest.contains('/'));
            all.filter(|(name, _)| within(name)).collect()
        });
        for (name, attributes) in names {
            self.say(format!("* LIST ({attributes}) \"/\" \"{name}\"")).await?;
            if with_status {
                let status = self.with(|state| state.status(&name)).expect("it is there");
                self.say(format!("* STATUS \"{name}\" ({status})")).await?;
            }
        }
        Ok("OK listed".to_owned())
    }

    /// Tells of what came or went since it was told last.
    async fn tell(&mut self) -> Io {
        let count = self.at(|folder| folder.mails.len());
        for gone in (count..self.told).rev() {
            self.say(format!("* {} EXPUNGE", gone + 1)).await?;
        }
        if count != self.told {
            self.say(format!("* {count} EXISTS")).await?;
        }
        self.told = count;
        let Some(mut notified) = self.notified.take() else { return Ok(()) };
        let now: Vec<(String, u32)> =
            self.with(|state| state.others.iter().map(|(name, folder)| (name.clone(), folder.uid_next)).collect());
        for (name, uid_next) in now {
            if notified.insert(name.clone(), uid_next) != Some(uid_next) && name != self.open {
                self.say(format!("* STATUS \"{name}\" (UIDNEXT {uid_next})")).await?;
            }
        }
        self.notified = Some(notified);
        Ok(())
    }

    async fn list(&mut self, set: &str) -> std::io::Result<String> {
        let lines = self.at(|state| {
            let mut lines = Vec::new();
            for uid in uids(set, state) {
                let (number, mail) = state
                    .mails
                    .iter()
                    .enumerate()
                    .find(|(_, (u, _))| **u == uid)
                    .map(|(i, (_, m))| (i + 1, m))
                    .expect("it");
                let date = match state.tricks.get(&uid) {
                    Some(Trick::NoDate) => "NIL".to_owned(),
                    _ => format!("\"{}\"", mail.date),
                };
                let size = mail.bytes.len();
                lines.push(format!("* {number} FETCH (UID {uid} RFC822.SIZE {size} INTERNALDATE {date})"));
            }
            lines
        });
        for line in lines {
            self.say(line).await?;
        }
        Ok("OK listed".to_owned())
    }

    async fn bodies(&mut self, set: &str) -> std::io::Result<String> {
        let wanted: Vec<u32> = self.at(|state| uids(set, state));
        for uid in wanted {
            let (trick, bytes) = self.at(|s| (s.tricks.get(&uid).copied(), s.mails[&uid].bytes.clone()));
            match trick {
                Some(Trick::No) => return Ok("NO [SERVERBUG] can't read that one".to_owned()),
                Some(Trick::Vanish) => {
                    self.at(|state| state.mails.remove(&uid));
                    continue;
                }
                Some(Trick::BreakOff | Trick::BreakOffOnce) => {
                    if trick == Some(Trick::BreakOffOnce) {
                        self.at(|state| state.tricks.remove(&uid));
                    }
                    self.say(format!("* 1 FETCH (UID {uid} BODY[] {{5000}}\r\nSubject: \r\n* BYE sorry")).await?;
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
                Some(Trick::Announce(size)) => {
                    self.say(format!("* 1 FETCH (UID {uid} BODY[] {{{size}}}\r\nSubject: ")).await?;
                    std::future::pending::<()>().await;
                }
                Some(Trick::Empty) => {
                    self.say(format!("* 1 FETCH (UID {uid} BODY[] \"\")")).await?;
                    continue;
                }
                Some(Trick::NoDate) | None => {}
            }
            // An unasked FETCH in between, as when somebody reads the mail elsewhere.
            self.say(format!("* 1 FETCH (UID {uid} FLAGS (\\Seen))")).await?;
            let mut literal = format!("* 1 FETCH (BODY[] {{{}}}\r\n", bytes.len()).into_bytes();
            literal.extend(bytes);
            literal.extend(format!(" UID {uid})").bytes());
            self.say(literal).await?;
        }
        Ok("OK fetched".to_owned())
    }

    fn relocate(&self, set: &str, folder: &str, remove: bool) -> String {
        self.with(|state| {
            if !state.folders.iter().any(|one| one == folder) {
                return "NO [TRYCREATE] no such mailbox".to_owned();
            }
            let state = state.folder(&self.open).expect("an open mailbox");
            state.modseq += 1;
            for uid in uids(set, state) {
                state.moved.insert(uid, folder.to_owned());
                if remove {
                    state.mails.remove(&uid);
                }
            }
            "OK moved".to_owned()
        })
    }

    async fn idle(&mut self) -> std::io::Result<String> {
        self.say("+ idling").await?;
        loop {
            self.arrived.mark_unchanged();
            self.tell().await?;
            let mut line = String::new();
            tokio::select! {
                changed = self.arrived.changed() => changed.map_err(|_| std::io::ErrorKind::BrokenPipe)?,
                read = self.read.read_line(&mut line) => {
                    read?;
                    return Ok(if line.trim_end() == "DONE" { "OK done" } else { "BAD what?" }.to_owned());
                }
            }
        }
    }
}

/// The messages of a set that are there; `n:*` names the last one in any case.
fn uids(set: &str, state: &Folder) -> Vec<u32> {
    let last = state.mails.keys().last().copied().unwrap_or(0);
    let number = |text: &str| if text == "*" { last } else { text.parse().expect("a UID") };
    let mut found = Vec::new();
    for part in set.split(',') {
        let (a, b) = part.split_once(':').unwrap_or((part, part));
        let (a, b) = (number(a).min(number(b)), number(a).max(number(b)));
        found.extend(state.mails.keys().filter(|uid| (a..=b).contains(uid)));
    }
    found
}
