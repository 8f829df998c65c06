//! What it costs to parse a mail and to find its sessions, for each shape of mail in `fixtures/mail`, and
//! for a big ordinary mail without any. Run with `cargo bench --bench extract`.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use divan::Bencher;
use divan::counter::BytesCount;
use mail2crm::message::{Limits, parse};
use mail2crm::session::extract::extract;
use mail2crm::session::profile::Profile;
use mail2crm::session::redact::Redaction;

fn main() {
    Profile::builtin();
    divan::main();
}

const SHAPES: &[&str] = &[
    "ccaip-01-json-attachment",
    "ccaip-06-chat-with-transcript",
    "ccaip-07-json-text-body",
    "ccaip-08-json-html-pre",
    "ccaip-10-labels-text",
    "ccaip-11-html-table",
    "generic-01-forwarded-rfc822",
    "generic-02-json-quoted-wrapped",
    "generic-07-json-array",
    "generic-14-no-session",
    "large-no-session",
    "large-html-with-attachment",
];

fn mail(shape: &str) -> Vec<u8> {
    let prose = "Dear colleague, the parcels of this week are on their way and nothing has to be done about them.\r\n"
        .repeat(500);
    match shape {
        "large-no-session" => format!("Subject: x\r\nContent-Type: text/plain\r\n\r\n{prose}").into_bytes(),
        "large-html-with-attachment" => {
            let document = fs::read_to_string(fixture("sessions/voice-48213-v2.json")).unwrap_or_default();
            let html = prose.replace("Dear", "<p style=\"color: red\">Dear").replace("\r\n", "</p>\r\n");
            format!(
                "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n--b\r\n\
                 Content-Type: application/json; name=metadata-48213.json\r\nContent-Disposition: attachment\r\n\r\n{document}\r\n--b--\r\n"
            )
            .into_bytes()
        }
        shape => fs::read(fixture(&format!("mail/{shape}.eml"))).unwrap_or_default(),
    }
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    path.to_string_lossy().into_owned()
}

#[divan::bench(args = SHAPES)]
fn parse_only(bencher: Bencher<'_, '_>, shape: &str) {
    let raw = mail(shape);
    let limits = Limits::default();
    bencher
        .counter(BytesCount::of_slice(&raw))
        .bench_local(|| black_box(parse::parse(black_box(&raw), &limits).parts.len()));
}

#[divan::bench(args = SHAPES)]
fn extract_only(bencher: Bencher<'_, '_>, shape: &str) {
    let raw = mail(shape);
    let (limits, privacy) = (Limits::default(), Redaction::default());
    let message = parse::parse(&raw, &limits);
    let profile = Profile::builtin();
    bencher
        .counter(BytesCount::of_slice(&raw))
        .bench_local(|| black_box(extract(black_box(&message), "default", profile, &limits, &privacy)));
}
