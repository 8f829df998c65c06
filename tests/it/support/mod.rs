//! What several topics use.

pub(crate) mod cli;
