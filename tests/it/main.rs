//! The offline tests, one binary: everything here runs on loopback with nothing installed.

mod corpus;
mod sandbox;
