//! mail2crm: the bridge between contact-centre session metadata and CRMs.
//!
//! # Map
//!
//! Two halves joined by one durable ledger. **Intake** turns bytes into sessions and deliveries and commits
//! them; **dispatch** takes committed deliveries to the CRM. CRMs and mail formats are data folders under
//! `templates/`; sources, senders and auth schemes are one Rust file each.
//!
//! A mail on its way: `source` (a kind hands over raw bytes) → `message` (MIME view) → `session::extract`
//! (the ladder of readings) → `verify` (who sent it) → `intake` (one transaction in the `ledger`) → `dispatch` (claim, `connector`
//! plans the requests through `record` templates, `sender` sends, the reply table judges) → `ledger` again.
//!
//! # Invariants
//!
//! - Parsing never fails: what is odd is noted, what is over a limit is refused with a reason.
//! - Nothing is acknowledged to a source before the commit.
//! - An accepted delivery never changes, only its state does.
//! - Secrets never enter a `Debug`, a log or the ledger.
//! - There is no Rust for one CRM.
//! - Templates see `record::context` and nothing else.
//! - Every outgoing write carries a key by which its effect can be recognised.
//! - Preview, `render`, `plan` and delivery call the same functions.
//!
//! The order of the modules below is the law: a module names only those above it, and one edge never
//! names another edge (`tests/it/architecture.rs`).

#![cfg_attr(test, recursion_limit = "256")]

// ── words (no I/O but the reading of a secret, no async)
pub mod outcome;
pub mod diagnostic;
pub mod ids;
pub mod failpoint;
pub mod digest;
pub mod folder;
pub mod secret;
pub mod tls;
pub mod transport;
pub mod settings;
// ── access tokens (a token endpoint is asked)
pub mod oauth2;
// ── places that documents are stored in, reached over a network (their requests are sent)
pub mod store;
// ── message (pure)
pub mod message;
// ── session (pure)
pub mod session;
// ── record (pure)
pub mod record;
// ── connector (pure)
pub mod connector;
// ── edges (I/O)
pub mod catalogue;
pub mod source;
pub mod verify;
pub mod ledger;
pub mod sender;
// ── halves
pub mod intake;
pub mod dispatch;
// ── outside
pub mod telemetry;
pub mod console;
pub mod sandbox;
pub mod config;
pub mod service;
pub mod cli;
