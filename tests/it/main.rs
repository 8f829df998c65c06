//! x

mod imap;
