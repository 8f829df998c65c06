//! `demo`: the whole path with nothing to install or configure. A sandbox CRM, a mailbox with sample mails,
//! and the service between them, all on loopback and in a folder that goes away at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rust_embed::RustEmbed;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::{Context, Failure, Result};
use crate::config;
use crate::ledger::{DeliveryState, Filter, Ledger, MessageState};
use crate::sandbox::{Records, Running, Sandbox, Settings};
use crate::service::Service;
use crate::telemetry;

/// The sample mails.
#[derive(RustEmbed)]
#[folder = "fixtures/mail"]
#[include = "*.eml"]
struct Samples;

/// The sandbox's token: it holds nothing but samples.
const TOKEN: &str = "demo";
/// Records that are listed one by one.
const SHOWN: usize = 8;
/// With `--once`: how long it may take until everything is delivered.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show the whole path, with nothing to install or configure: mailbox, bridge, sandbox CRM.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mail2crm demo\n  mail2crm demo --once")]
pub(super) struct Args {
    /// End by itself after the last delivery, and print what happened.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let quiet = args.once && context.verbosity <= 0;
    telemetry::start(if quiet { -1 } else { context.verbosity + 1 }, telemetry::Form::Text);
    let folder = Folder::new()?;
    super::runtime()?.block_on(async {
        let mut settings = Settings::new(SecretString::from(TOKEN.to_owned()), Records::any(""));
        if !args.once {
            // A page that keeps its address is easier to find again.
            settings.http.set_port(7025);
        }
        let sandbox = match Sandbox::start(settings.clone()).await {
            Ok(sandbox) => sandbox,
            Err(_) => {
                settings.http.set_port(0);
                Sandbox::start(settings).await?
            }
        };
        let mails = fill_mailbox(&folder.0.join("mailbox"))?;
        let path = folder.0.join("mail2crm.toml");
        fs::write(&path, configuration(&sandbox))?;
        let config = config::load(&path, &context.catalogue()?)?;
        let ledger = super::open_ledger(&config.ledger)?;
        let service = Service::build(config, ledger.clone())?;
        let page = format!("http://{}/", sandbox.http_addr);
        eprintln!("a mailbox with {mails} sample mails   {}", folder.0.join("mailbox").display());
        eprintln!("a sandbox CRM                      {page}");
        eprintln!("the bridge between them            {}\n", path.display());

        let stop = CancellationToken::new();
        let running = tokio::spawn(service.run(stop.clone()));
        let all_well = if args.once {
            let all_well = settle(&ledger, mails).await?;
            print_result(&ledger, &sandbox, &page).await?;
            all_well
        } else {
            settle(&ledger, mails).await?;
            print_result(&ledger, &sandbox, &page).await?;
            print_what_next(&folder.0, &page);
            super::run::stop_on_signal()?.cancelled().await;
            true
        };
        stop.cancel();
        running.await.map_err(anyhow::Error::new)??;
        sandbox.stop().await;
        if all_well { Ok(()) } else { Err(Failure::NotAllWell) }
    })
}

/// A folder of our own that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("mail2crm-demo-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A Maildir with the sample mails; says how many.
fn fill_mailbox(path: &Path) -> Result<usize> {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(part))?;
    }
    let mut count = 0;
    for name in Samples::iter() {
        if let Some(mail) = Samples::get(&name) {
            fs::write(path.join("new").join(format!("{count:03}.{}", name.trim_end_matches(".eml"))), &mail.data)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Calls by REST, chats by email, and every document into a folder: the three uses of session metadata.
fn configuration(sandbox: &Running) -> String {
    let smtp = sandbox.smtp_addr.map_or(0, |a| a.port());
    format!(
        r#"# Made by `mail2crm demo`.
state = "mail2crm.db"

[source.inbox]
kind = "maildir"
path = "mailbox"
start = "all"
trust = "anyone"

[destination.helpdesk]                    # a CRM by its REST interface
connector = "sandbox"
base_url = "http://{http}"
token = "{TOKEN}"

[destination.helpdesk.fields]
disposition_code = "disposition"
disposition_note = "disposition_note"
handle_minutes = "handle_minutes"
rating = "csat"
recording_url = "recording"
agent_name = "agent"

[destination.cases]                       # the same CRM by email
connector = "email"
to = "tickets@sandbox.example"
from = "bridge@mail2crm.example"
token_before = "[sandbox #"               # the record's id is in the subject, as its mail intake wants it
smtp = {{ host = "127.0.0.1", port = {smtp}, tls = "none" }}

[destination.archive]                     # the documents themselves
storage = "archive"
path = "{{{{date ends_at '%Y/%m/%d'}}}}/{{{{key}}}}.json"

[[route]]
match = {{ channel = "voice" }}
to = ["helpdesk", "archive"]

[[route]]
match = {{ channel = "chat" }}
to = ["cases", "archive"]
"#,
        http = sandbox.http_addr,
    )
}

/// Waits until every mail is taken in and nothing is due; false if something is not as it should be.
async fn settle(ledger: &Ledger, mails: usize) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let messages = ledger.messages(Filter::default()).await?;
        let open = |state| Filter { state: Some(state), ..Filter::default() };
        let waiting = ledger.deliveries(open(DeliveryState::Waiting)).await?.len();
        let sending = ledger.deliveries(open(DeliveryState::Sending)).await?.len();
        if messages.len() >= mails && waiting + sending == 0 {
            let dead = ledger.deliveries(open(DeliveryState::Dead)).await?;
            return Ok(dead.is_empty());
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::World(anyhow::anyhow!(
                "{} of {mails} mails were taken in and {} deliveries are still open after {} s",
                messages.len(),
                waiting + sending,
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn print_result(ledger: &Ledger, sandbox: &Running, page: &str) -> Result {
    let messages = ledger.messages(Filter::default()).await?;
    let count = |state| messages.iter().filter(|m| m.state == state).count();
    let deliveries = ledger.deliveries(Filter::default()).await?;
    let of = |state| deliveries.iter().filter(|d| d.state == state).count();
    let tickets = sandbox.store().tickets();
    let mut records: Vec<&str> = tickets.iter().filter(|t| t.version > 1).map(|t| t.id.as_str()).collect();
    records.sort_unstable();
    println!(
        "{} mails: {} with sessions, {} without, {} put into quarantine",
        messages.len(),
        count(MessageState::Processed),
        count(MessageState::Ignored),
        count(MessageState::Quarantined)
    );
    println!(
        "{} deliveries: {} delivered, {} superseded by newer versions, {} parked until an OutTicket ID comes, {} failed",
        deliveries.len(),
        of(DeliveryState::Delivered),
        of(DeliveryState::Superseded),
        of(DeliveryState::Parked),
        of(DeliveryState::Dead)
    );
    println!("{} records updated in the sandbox CRM", records.len());
    for id in records.iter().take(SHOWN) {
        println!("  {page}tickets/{id}");
    }
    if records.len() > SHOWN {
        println!("  … and {} more: {page}", records.len() - SHOWN);
    }
    Ok(())
}

fn print_what_next(folder: &Path, page: &str) {
    let config = folder.join("mail2crm.toml");
    let config = config.display();
    println!(
        "\nLook at the records: {page}\n\
         Then try, in another terminal:\n  \
         mail2crm --config {config} deliveries list\n  \
         mail2crm --config {config} messages show 1\n  \
         mail2crm --config {config} audit\n  \
         cp some.eml {mailbox}/new/          # another mail: it is taken in within seconds\n\
         Stop with Ctrl-C.",
        mailbox = folder.join("mailbox").display()
    );
}
