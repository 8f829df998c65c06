//! The whole path in figures: makes a seeded corpus of mixed mails and measures, in one run on one machine,
//! what the README's table says. `cargo bench --bench whole_path -- --mails 10000`.
//!
//! CPU is what the kernel counts for the program's own process (user and system). The mailbox part starts a
//! real Dovecot as the live tests do; `--offline` leaves it out and says so. `--write FOLDER` makes the corpus only.

mod corpus;
#[path = "../tests/live/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mail_parser::MessageParser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use support::mailbox::Mailbox;
use support::program::{Running, Site};
use support::servers::Servers;

/// Where the sandbox CRM listens.
const SANDBOX: &str = "127.0.0.1:7925";
/// The kernel's clock ticks a second (`getconf CLK_TCK` on Linux).
const TICKS: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: usize| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|i| arguments.get(i + 1)?.parse().ok()).unwrap_or(otherwise)
    };
    let (mails, seed) = (number("--mails", 10_000), number("--seed", 1) as u64);
    if let Some(at) = arguments.iter().position(|a| a == "--write") {
        let folder = arguments.get(at + 1).expect("--write FOLDER");
        corpus::write(Path::new(folder), seed, mails).expect("the corpus");
        return println!("wrote {mails} mails of seed {seed} as a Maildir to {folder}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let begun = Instant::now();
    let made = corpus::write(folder.path(), seed, mails).expect("the corpus");
    let average = made.bytes as f64 / mails as f64 / 1000.0;
    println!(
        "corpus: {mails} mails of {average:.1} kB on average, {} sessions, seed {seed}, made in {:.1} s",
        made.expected.len(),
        begun.elapsed().as_secs_f64()
    );

    // In turns, and the median of each: what else the machine does falls on both.
    let mut rounds: Vec<_> = (0..3).map(|_| (bare_parse(folder.path()), dry_run(folder.path(), mails))).collect();
    rounds.sort_by(|a, b| (a.1 / a.0.1).total_cmp(&(b.1 / b.0.1)));
    let ((read, bare), dry) = rounds[1];
    println!(
        "bare mail-parser parse              {bare:.3} ms of CPU a mail, {:.3} with the reading of its file",
        read + bare
    );
    println!(
        "process --dry-run                   {dry:.3} ms of CPU a mail = {:.2} x the bare parse, {:.2} x with the reading",
        dry / bare,
        dry / (read + bare)
    );
    if arguments.iter().any(|a| a == "--offline") {
        println!("mailbox part left out (--offline)");
        return;
    }
    tokio::runtime::Runtime::new().expect("a runtime").block_on(mailbox_part(seed, mails));
}

/// CPU milliseconds a mail over the same mails: of reading the files, and of mail-parser alone.
fn bare_parse(folder: &Path) -> (f64, f64) {
    let mut names: Vec<_> = fs::read_dir(folder.join("new")).expect("the corpus").flatten().map(|e| e.path()).collect();
    names.sort();
    let parser = MessageParser::default();
    let (mut reading, mut spent, mut parts) = (0.0, 0.0, 0);
    for chunk in names.chunks(200) {
        let begun = thread_cpu();
        let mails: Vec<Vec<u8>> = chunk.iter().map(|p| fs::read(p).expect("a mail")).collect();
        let before = thread_cpu();
        reading += before - begun;
        for mail in &mails {
            parts += parser.parse(mail).map_or(0, |m| m.parts.len());
        }
        spent += thread_cpu() - before;
    }
    assert!(parts > names.len());
    let a_mail = 1000.0 / names.len() as f64;
    (reading * a_mail, spent * a_mail)
}

fn dry_run(folder: &Path, mails: usize) -> f64 {
    let site = Site::new(&configuration(None));
    let before = children_cpu();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_mail2crm"))
        .args(["process", "--dry-run"])
        .arg(folder)
        .current_dir(site.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .output()
        .expect("the program runs");
    assert!(out.status.code().is_some_and(|c| c < 2), "{}", String::from_utf8_lossy(&out.stderr));
    (children_cpu() - before) * 1000.0 / mails as f64
}

/// The sandbox as the only destination; with a mailbox, if one is given.
fn configuration(mailbox: Option<(u16, &str, &str)>) -> String {
    let source = mailbox.map_or(String::new(), |(port, user, password)| {
        format!(
            "[source.inbox]\nkind = \"imap\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nuser = \"{user}\"\n\
             password = \"{password}\"\nstart = \"all\"\nafter = \"nothing\"\ntrust = \"anyone\"\n"
        )
    });
    format!(
        "{source}\n[destination.sandbox]\nconnector = \"sandbox\"\nbase_url = \"http://{SANDBOX}\"\n\
         token = {{ command = \"echo sandbox\" }}\nconcurrency = 32\n\n[destination.sandbox.fields]\n\
         disposition_code = \"disposition\"\ndisposition_note = \"disposition_note\"\nhandle_minutes = \"handle_minutes\"\n\
         rating = \"csat\"\nrecording_url = \"recording\"\nagent_name = \"agent\"\n"
    )
}

async fn mailbox_part(seed: u64, mails: usize) {
    let servers = Servers::up(&["dovecot"]);
    let mut mailbox = Mailbox::open(&servers, "ARCHIVE").await;
    mailbox.clear("INBOX").await;
    let begun = Instant::now();
    mailbox.append("INBOX", corpus::Writer::new(seed, mails).map(|m| m.raw)).await;
    println!("mailbox filled in {:.1} s", begun.elapsed().as_secs_f64());

    let user = servers.get("MAIL_ARCHIVE");
    let site = Site::new(&configuration(Some((servers.port("IMAP_PORT"), user, servers.get("PASSWORD")))));
    let sandbox = site.start(&["-q", "sandbox", "--http", SANDBOX, "--smtp", "127.0.0.1:7926"]);
    support::until("the sandbox answers", Duration::from_secs(10), async || effects().await).await;

    // The whole mailbox.
    let begun = Instant::now();
    let program = site.start(&["-q", "run"]);
    let (mut last, mut changed) = (0, begun);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = effects().await.unwrap_or(0);
        if now != last {
            (last, changed) = (now, Instant::now());
        }
        if last > 0 && changed.elapsed() > Duration::from_secs(2) && open_deliveries(&site) == 0 {
            break;
        }
    }
    let (wall, cpu) = ((changed - begun).as_secs_f64(), process_cpu(program.pid()));
    let delivered = count(&site, "delivered");
    println!(
        "IMAP → ledger → sandbox             {delivered} updates of {mails} mails in {wall:.1} s = {:.0} updates/s, {:.0} mails/s",
        delivered as f64 / wall,
        mails as f64 / wall
    );
    println!(
        "                                    {:.3} ms of CPU a mail, {:.3} a update",
        cpu * 1000.0 / mails as f64,
        cpu * 1000.0 / delivered as f64
    );
    println!("resident at its highest             {:.1} MiB", memory(program.pid(), "VmHWM"));
    stop(program).await;

    // Idle, after a start with nothing to do.
    let program = site.start(&["-q", "run"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = process_cpu(program.pid());
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!(
        "idle                                {:.1} MiB resident, {:.0} ms of CPU in 10 s",
        memory(program.pid(), "VmRSS"),
        (process_cpu(program.pid()) - before) * 1000.0
    );

    // A mail that comes while it idles: from the server's notice to the record.
    let mut late = Vec::new();
    let mut extra = (900_000..).map(single_mail);
    for _ in 0..9 {
        let mail = extra.next().expect("a session mail");
        let before = effects().await.unwrap_or(0);
        let watch =
            tokio::spawn(notice(servers.port("IMAP_PORT"), user.to_owned(), servers.get("PASSWORD").to_owned()));
        tokio::time::sleep(Duration::from_millis(700)).await;
        mailbox.append("INBOX", [mail]).await;
        let updated = updated_after(before).await;
        let noticed = watch.await.expect("a notice");
        late.push(updated.duration_since(noticed).as_secs_f64() * 1000.0);
    }
    late.sort_by(f64::total_cmp);
    println!("from IDLE's notice to the record    {:.0} ms (median of 9; at most {:.0} ms)", late[4], late[8]);
    stop(program).await;

    // A mail that is there when it starts.
    let mut first = Vec::new();
    for _ in 0..5 {
        mailbox.append("INBOX", [extra.next().expect("a session mail")]).await;
        let before = effects().await.unwrap_or(0);
        let begun = Instant::now();
        let program = site.start(&["-q", "run"]);
        first.push((updated_after(before).await - begun).as_secs_f64());
        stop(program).await;
    }
    first.sort_by(f64::total_cmp);
    println!("first update after a start          {:.2} s (median of 5)", first[2]);
    stop(sandbox).await;
    mailbox.clear("INBOX").await;
}

/// A small mail of a session of its own.
fn single_mail(id: u64) -> Vec<u8> {
    format!(
        "From: cc@ccaip.example\r\nTo: archive@example.test\r\nSubject: Session\r\nMessage-ID: <{id}@ccaip.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: application/json\r\n\r\n\
         {{\"id\": {id}, \"call_type\": \"Voice Outbound\", \"status\": \"finished\", \"created_at\": \"2026-02-17T10:00:00Z\", \
         \"updated_at\": \"2026-02-17T10:05:00Z\", \"call_duration\": 60, \"out_ticket_id\": \"C-{id}\"}}\r\n"
    )
    .into_bytes()
}

async fn stop(program: Running) {
    let (status, log) = program.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{log}");
}

/// When the sandbox has had one more effect.
async fn updated_after(before: u64) -> Instant {
    support::until("the record is updated", Duration::from_secs(20), async || effects().await.filter(|n| *n > before))
        .await;
    Instant::now()
}

/// Effects in the sandbox's journal; asked over a connection of its own each time, without an HTTP client.
async fn effects() -> Option<u64> {
    let mut stream = TcpStream::connect(SANDBOX).await.ok()?;
    let request = "GET /api/journal?since=9999999999&limit=1 HTTP/1.0\r\nAuthorization: Bearer sandbox\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.ok()?;
    let total = answer.split("\"total\":").nth(1)?;
    total.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// When another client of the mailbox gets the notice of a new mail.
async fn notice(port: u16, user: String, password: String) -> Instant {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the IMAP server");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("a greeting");
    for command in [format!("a LOGIN {user} {password}\r\n"), "b SELECT INBOX\r\n".to_owned(), "c IDLE\r\n".to_owned()]
    {
        stream.write_all(command.as_bytes()).await.expect("written");
        let end = if command.starts_with('c') { "+".to_owned() } else { command[..1].to_owned() };
        loop {
            line.clear();
            stream.read_line(&mut line).await.expect("an answer");
            if line.starts_with(&end) {
                break;
            }
        }
    }
    loop {
        line.clear();
        stream.read_line(&mut line).await.expect("a notice");
        if line.contains("EXISTS") {
            return Instant::now();
        }
    }
}

fn open_deliveries(site: &Site) -> usize {
    count(site, "waiting") + count(site, "sending")
}

fn count(site: &Site, state: &str) -> usize {
    let out = site.run(&["--json", "deliveries", "list", "--limit", "1000000", "--state", state]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout.iter().filter(|b| **b == b'\n').count()
}

/// CPU seconds of this thread.
fn thread_cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number") / 1e9
}

/// CPU seconds of a process.
fn process_cpu(pid: u32) -> f64 {
    stat(&format!("/proc/{pid}/stat"), 11)
}

/// CPU seconds of the children of this process that have ended.
fn children_cpu() -> f64 {
    stat("/proc/self/stat", 13)
}

/// Two neighbouring fields of a `stat` file, counted behind the name, in seconds.
fn stat(path: &str, field: usize) -> f64 {
    let text = fs::read_to_string(path).expect("Linux");
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).expect("a number");
    (ticks(field) + ticks(field + 1)) / TICKS
}

/// A line of `/proc/PID/status`, in MiB.
fn memory(pid: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = text.lines().find(|l| l.starts_with(name)).expect("the line");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).expect("a number") / 1024.0
}
