//! The command line through the built binary: what each command prints where, and its exit codes.

mod auditing;
mod delivering;
mod guarding;
mod planning;
mod reading;
mod records;
mod replaying;
mod surface;

use super::support::cli::{Bench, Crm, TOKEN};

/// A folder with a configuration of all three uses: calls by REST, chats by mail, every document as a file.
fn all_three(crm: &Crm) -> Bench {
    let bench = Bench::new();
    bench.write(
        "mail2crm.toml",
        &format!(
            r#"
[destination.helpdesk]
connector = "sandbox"
base_url = "{}"
token = "{TOKEN}"
fields = {{ disposition_code = "disposition", handle_minutes = "handle_minutes" }}

[destination.cases]
connector = "email"
to = "tickets@sandbox.example"
from = "bridge@mail2crm.example"
token_before = "[sandbox #"
smtp = {{ host = "127.0.0.1", port = {}, tls = "none" }}

[destination.archive]
storage = "archive"
path = "{{{{date ends_at '%Y/%m/%d'}}}}/{{{{key}}}}.json"

[[route]]
match = {{ channel = "voice" }}
to = ["helpdesk", "archive"]

[[route]]
match = {{ channel = "chat" }}
to = ["cases", "archive"]
"#,
            crm.url(),
            crm.smtp_port()
        ),
    );
    bench
}
