//! What several topics use.

pub(crate) mod cli;
pub(crate) mod crm;
