//! Documents read as sessions, and what is no session.
