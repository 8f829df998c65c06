//! The live tests: real servers that nobody here wrote. `tests/run` starts them; `cargo test --test live` does
//! too, and leaves them running.

mod arriving;
mod mailboxes;
mod mails;
mod pop3;
mod senders;
mod servers;
mod spine;
mod stores;
mod storage;
mod support;
mod tokens;
