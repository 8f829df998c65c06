//! The offline suite: one binary, a file per topic. Needs nothing installed and no network.

mod architecture;
mod bombs;
mod cli;
mod configuration;
mod connectors;
mod corpus;
mod extract;
mod flow;
mod fuzzed;
mod health;
mod imap;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod kills;
mod listening;
mod mailboxes;
mod robustness;
mod sandbox;
mod support;
mod templates_readme;
mod trust;
