//! The worst that a stranger can send, through the built binary: each ends in time and memory, with the reason.
//!
//! `extract` reads each one, `process` takes it into a ledger as well, and every one of them must leave a row that
//! says what it was. Mails are made here, so that the repository stays small. A test build gets more time: what is
//! quadratic in 50 MB does not end in that either.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::support::cli::Bench;

const TIME: Duration = if cfg!(debug_assertions) { Duration::from_secs(30) } else { Duration::from_secs(2) };
const MEMORY_KIB: u64 = 128 << 10;
const MIB: usize = 1 << 20;

const HEAD: &str = "From: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n";

/// What a bomb is taken for: the reason, or what `extract` finds where nothing is over a limit.
struct Bomb(&'static str, &'static str, fn() -> Vec<u8>);

const BOMBS: &[Bomb] = &[
    Bomb("multiparts in multiparts", "too_deep", || {
        let levels = (0..20_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"));
        format!("{HEAD}{}\r\nx\r\n", levels.collect::<String>()).into_bytes()
    }),
    Bomb("messages in messages", "too_deep", || {
        format!("{HEAD}Content-Type: message/rfc822\r\n\r\n").repeat(200_000).into_bytes()
    }),
    Bomb("messages in base64 in messages", "too_large", || {
        let mut mail = format!("{HEAD}\r\n{}", "hello world ".repeat(MIB / 12)).into_bytes();
        while mail.len() < 36 * MIB {
            let inner = base64(&mail);
            mail =
                format!("{HEAD}Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n").into_bytes();
            mail.extend(inner);
        }
        mail
    }),
    Bomb("100,000 parts", "too_large", || multipart(std::iter::repeat_n("\r\nx".to_owned(), 100_000))),
    Bomb("100,000 broken documents", "too_large", || {
        let part = "Content-Type: text/plain; name=\"metadata-1.json\"\r\n\r\n{".to_owned();
        multipart(std::iter::repeat_n(part, 100_000))
    }),
    Bomb("a line of 200 MB", "too_large", || body(200 * MIB, "x")),
    Bomb("a line of 49 MB", "no_metadata", || body(49 * MIB, "x")),
    Bomb("a line of labels", "too_large", || body(49 * MIB, "Session ID: 48213 ")),
    Bomb("a million labels", "too_large", || body(49 * MIB, "Session ID: 48213\r\n")),
    Bomb("a line of open objects", "too_large", || body(49 * MIB, "{\"id\":48213,\"call_type\":")),
    Bomb("labels in one line", "no_metadata", || inside("", "Session ID: 48213, Status: x, ")),
    Bomb("separators behind a label", "no_metadata", || inside("Session ID: 1\nStatus: :", ",")),
    Bomb("commas and colons behind a label", "no_metadata", || inside("Session ID: 1\nStatus: ", ",a:")),
    Bomb("a million dispositions", "malformed_metadata", || inside("Session ID: 1\nStatus: x\n", "Wrap-up: a\n")),
    Bomb("a million participants", "malformed_metadata", || inside("Session ID: 1\nStatus: x\nParticipants: ", "a,")),
    Bomb("a million links in a word", "malformed_metadata", || inside("Session ID: 1\nStatus: x\nPhotos: ", "http://")),
    Bomb("a list behind every label", "too_large", || {
        inside("", &format!("Session ID: 1\nTicket ID: 2\nTransfers: [{}0]\nSession ID: 2\n", "0,".repeat(8_000)))
    }),
    Bomb("quotes before comments", "no_metadata", || inside("{\"call_type\":1,\"recording_url\":2,\"x\":'", "'//")),
    Bomb("a word of many lines", "no_metadata", || inside("{\"call_type\":1,\"recording_url\":2,\"x\":\"", "a1\n")),
    Bomb("braces in a long line", "no_metadata", || inside(&">".repeat(7 * MIB), "{\"a\" ")),
    Bomb("lines beside a thousand documents", "sessions", || {
        let one = |n| format!("{{\"id\":{n},\"call_type\":\"Voice Inbound\",\"status\":\"finished\"}}\n");
        inside(&(0..900).map(one).collect::<String>(), "\n")
    }),
    Bomb("rows below a wide row", "no_metadata", || {
        let mail = format!("{HEAD}Content-Type: text/html\r\n\r\n<table><tr><td>Session ID{}", "<td>1".repeat(30_000));
        let rows = (8 * MIB - mail.len()) / 20;
        format!("{mail}{}", "<tr><td>Status<td>x\n".repeat(rows)).into_bytes()
    }),
    Bomb("tables in tables", "too_large", || {
        let mail = format!("{HEAD}Content-Type: text/html\r\n\r\n");
        [mail.as_bytes(), "<table><tr><td>Session ID<td>".repeat(49 * MIB / 29).as_bytes()].concat()
    }),
    Bomb("a text of three bytes a character", "no_metadata", || {
        let mail = format!("{HEAD}Content-Type: text/plain; charset=windows-1252\r\n\r\n");
        [mail.as_bytes(), &vec![0x80; 49 * MIB]].concat()
    }),
    Bomb("lines that end in CR", "too_large", || {
        [HEAD.replace("\r\n", "\r"), "Session ID: 48213\r".repeat(45 * MIB / 18)].concat().into_bytes()
    }),
    Bomb("a boundary that never is one", "too_large", || {
        let mail = format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n");
        [mail, "--b x\r\n".repeat(49 * MIB / 7)].concat().into_bytes()
    }),
    Bomb("a field of 10 MB", "too_large", || {
        format!("From: a@b.example\r\nX-Long: {}\r\n\r\nhi\r\n", "a".repeat(10 * MIB)).into_bytes()
    }),
    Bomb("10 MB of encoded words", "too_large", || {
        format!("From: a@b.example\r\nSubject:{}\r\n\r\nhi\r\n", " =?utf-8?q?a?=\r\n".repeat(10 * MIB / 16))
            .into_bytes()
    }),
    Bomb("a file name in 20,000 pieces", "no_metadata", || {
        let pieces: String = (0..12_000).map(|n| format!("name*{n}*=a;")).collect();
        format!("{HEAD}Content-Type: text/plain; {pieces}\r\n\r\nhi\r\n").into_bytes()
    }),
    Bomb("brackets in brackets", "too_deep", || document(&"[".repeat(7 * MIB))),
    Bomb("objects in objects", "too_deep", || document(&"{\"a\":".repeat(MIB))),
    Bomb("three million empty objects", "too_large", || document(&format!("[{}{{}}]", "{},".repeat(5 * MIB / 2)))),
    Bomb("a session with three million numbers", "too_large", || {
        document(&format!("{{\"id\":1,\"call_type\":\"Voice Inbound\",\"x\":[{}0]}}", "0,".repeat(3 * MIB)))
    }),
    Bomb("100,000 sessions", "too_large", || {
        let one = |n| format!("{{\"id\":{n},\"call_type\":\"Voice Inbound\",\"status\":\"finished\"}}");
        document(&format!("[{}]", (0..100_000).map(one).collect::<Vec<_>>().join(",")))
    }),
    Bomb("2,000 sessions in lines", "too_large", || {
        let one =
            |n| format!("{{\"id\":{n},\"call_type\":\"Voice Inbound\",\"status\":\"finished\",\"call_duration\":1}}\n");
        document(&(0..2_000).map(one).collect::<String>())
    }),
    Bomb("a gzip bomb", "too_large", || attached("metadata-1.json.gz", &gzip(&vec![b' '; 256 * MIB]))),
    Bomb("a gzip bomb in gzip", "too_large", || attached("x.gz", &gzip(&gzip(&vec![0; 256 * MIB])))),
    Bomb("a dense gzip bomb", "too_large", || {
        let text: String = (0..6_000_000).map(|n| format!("{n} ")).collect();
        attached("metadata-1.json.gz", &gzip(text.as_bytes()))
    }),
    Bomb("a document of 20 MB", "too_large", || document(&format!("[{}1]", "1,".repeat(10 * MIB)))),
];

fn base64(bytes: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let line = |chunk: &[u8]| base64::engine::general_purpose::STANDARD.encode(chunk) + "\r\n";
    bytes.chunks(57).map(line).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, bytes).expect("memory");
    packed.finish().expect("memory")
}

fn attached(name: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("Content-Type: application/gzip; name=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    multipart(std::iter::once(head + &String::from_utf8_lossy(&base64(bytes))))
}

fn body(bytes: usize, of: &str) -> Vec<u8> {
    format!("{HEAD}\r\n{}", of.repeat(bytes / of.len())).into_bytes()
}

/// A text that is read to its end: as much of it as one document may have.
fn inside(before: &str, of: &str) -> Vec<u8> {
    let room = 8 * MIB - before.len() - 1;
    format!("{HEAD}\r\n{before}{}", of.repeat(room / of.len())).into_bytes()
}

fn multipart(parts: impl Iterator<Item = String>) -> Vec<u8> {
    let parts: String = parts.map(|part| format!("--b\r\n{part}\r\n")).collect();
    format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n").into_bytes()
}

fn document(json: &str) -> Vec<u8> {
    multipart(std::iter::once(format!("Content-Type: application/json; name=\"metadata-1.json\"\r\n\r\n{json}")))
}

/// Runs the binary until it ends, its time is over, or it has taken too much. What it printed, or what was wrong.
fn run(bench: &Bench, args: &[&str]) -> Result<String, String> {
    let begun = Instant::now();
    let mut child = bench.command(args).spawn().expect("the binary");
    drop(child.stdin.take());
    let reading = |mut stream: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            stream.read_to_end(&mut text).expect("read");
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = reading(Box::new(child.stdout.take().expect("stdout")));
    let err = reading(Box::new(child.stderr.take().expect("stderr")));
    let (mut peak, mut excess) = (0, None);
    while child.try_wait().expect("a look").is_none() {
        peak = peak.max(peak_kib(child.id()));
        if excess.is_none() && (begun.elapsed() > TIME || peak > MEMORY_KIB) {
            excess = Some(format!("`{}` took {:?} and {peak} KiB", args.join(" "), begun.elapsed()));
            child.kill().expect("an end");
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let printed = [out.join().expect("a text"), err.join().expect("a text")].concat();
    println!("{:?} {:.2?} {} MiB", args, begun.elapsed(), peak >> 10);
    match excess {
        Some(excess) => Err(excess),
        None if printed.contains("panicked") || printed.contains("\"internal\"") => Err(printed),
        None => Ok(printed),
    }
}

/// The most memory that a process has had so far. 0 where the system does not say it.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// What is wrong with what became of a bomb.
fn blow(bench: &Bench, reason: &str) -> Result<(), String> {
    let printed = run(bench, &["--json", "extract", "bomb.eml"])?;
    if !printed.contains(reason) {
        return Err(format!("no `{reason}` in {}", printed.chars().take(500).collect::<String>()));
    }
    run(bench, &["--config", "m.toml", "process", "bomb.eml"])?;
    let listed = bench.run(&["--config", "m.toml", "--json", "messages", "list", "--limit", "1"]).exits(0).json();
    let row = listed.first().ok_or("it left no row")?;
    let is_found = reason == "sessions" && row["state"] == "processed";
    let says = row["state"] == "ignored" || row["detail"].as_str().is_some_and(|detail| !detail.is_empty());
    if is_found || row["reason"] == reason && says { Ok(()) } else { Err(format!("the ledger says {row}")) }
}

#[test]
fn every_bomb_ends_in_time_and_memory_and_says_what_it_was() {
    let bench = Bench::new();
    bench.write("m.toml", "[destination.archive]\nstorage = \"archive\"\npath = \"{{key}}.json\"\n");
    let mut faults = Vec::new();
    for Bomb(name, reason, make) in BOMBS {
        println!("{name}");
        std::fs::write(bench.path().join("bomb.eml"), make()).expect("written");
        faults.extend(blow(&bench, reason).err().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    bench.run(&["--config", "m.toml", "audit"]).exits(0);
}
