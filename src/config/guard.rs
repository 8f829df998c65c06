//! `[limits]` and `[brake]`: what a stranger's mail may cost, and how often the same may come back.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::ledger::Brake;
use crate::message::Limits;

/// What a stranger's mail may cost: beyond a limit a message is refused and kept in quarantine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsTable {
    /// The largest message, in bytes. 52428800 if not set.
    #[schemars(range(min = 1024, max = 1073741824))]
    pub message_bytes: u64,
    /// The largest header of a message or a part, in bytes. 262144 if not set.
    #[schemars(range(min = 1024, max = 16777216))]
    pub header_bytes: u64,
    /// Parts of a message, nested messages included. 1000 if not set.
    #[schemars(range(min = 1, max = 100000))]
    pub parts: u64,
    /// Messages in messages. 16 if not set.
    #[schemars(range(min = 1, max = 60))]
    pub nesting: u64,
    /// All decoded parts together, in bytes. 67108864 if not set.
    #[schemars(range(min = 1024, max = 4294967296_u64))]
    pub decoded_bytes: u64,
    /// What comes out of gzip, zip and `winmail.dat`, all together, in bytes. 33554432 if not set.
    #[schemars(range(min = 1024, max = 4294967296_u64))]
    pub unpacked_bytes: u64,
    /// How many times its size a packed file may become, beyond the first MiB. 100 if not set.
    #[schemars(range(min = 1, max = 1000))]
    pub unpacked_ratio: u64,
    /// Levels of a JSON document. 64 if not set.
    #[schemars(range(min = 8, max = 120))]
    pub json_depth: u64,
    /// The largest JSON document, in bytes. 8388608 if not set.
    #[schemars(range(min = 1024, max = 268435456))]
    pub json_bytes: u64,
    /// How long one message may be read, in seconds. It is refused then, and the next ones go on. 30 if not set.
    #[schemars(range(min = 1, max = 3600))]
    pub message_seconds: u64,
}

impl Default for LimitsTable {
    fn default() -> Self {
        let of = Limits::default();
        let wide = |n: usize| n as u64;
        Self {
            message_bytes: wide(of.message_bytes),
            header_bytes: wide(of.header_bytes),
            parts: wide(of.parts),
            nesting: wide(of.nesting),
            decoded_bytes: wide(of.decoded_bytes),
            unpacked_bytes: wide(of.unpacked_bytes),
            unpacked_ratio: wide(of.unpacked_ratio),
            json_depth: wide(of.json_depth),
            json_bytes: wide(of.json_bytes),
            message_seconds: of.message_seconds,
        }
    }
}

impl From<&LimitsTable> for Limits {
    fn from(table: &LimitsTable) -> Self {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            message_bytes: size(table.message_bytes),
            header_bytes: size(table.header_bytes),
            parts: size(table.parts),
            nesting: size(table.nesting),
            decoded_bytes: size(table.decoded_bytes),
            unpacked_bytes: size(table.unpacked_bytes),
            unpacked_ratio: size(table.unpacked_ratio),
            json_depth: size(table.json_depth),
            json_bytes: size(table.json_bytes),
            message_seconds: table.message_seconds,
        }
    }
}

/// The brake behind all rules against loops. Distinct contents pass; it counts those that come back after another
/// one took their place. What it holds back is `parked` with the reason `braked`, and goes on when the window has
/// passed or with `deliveries release`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BrakeTable {
    /// The window that is looked at, in minutes. 120 if not set.
    #[schemars(range(min = 1, max = 10080))]
    pub minutes: u32,
    /// Contents that may come back to one record. 20 if not set.
    #[schemars(range(min = 1, max = 1000000))]
    pub repeats_per_record: u32,
    /// Contents that may come back in the mails of one sender. 200 if not set.
    #[schemars(range(min = 1, max = 1000000))]
    pub repeats_per_sender: u32,
    /// Versions of one session, whatever their content. 200 if not set.
    #[schemars(range(min = 1, max = 1000000))]
    pub versions_per_session: u32,
}

impl Default for BrakeTable {
    fn default() -> Self {
        let of = Brake::default();
        Self {
            minutes: u32::try_from(of.window_ms / 60_000).unwrap_or(u32::MAX),
            repeats_per_record: of.repeats_per_record,
            repeats_per_sender: of.repeats_per_sender,
            versions_per_session: of.versions_per_session,
        }
    }
}

impl From<&BrakeTable> for Brake {
    fn from(table: &BrakeTable) -> Self {
        Self {
            window_ms: i64::from(table.minutes) * 60_000,
            repeats_per_record: table.repeats_per_record,
            repeats_per_sender: table.repeats_per_sender,
            versions_per_session: table.versions_per_session,
        }
    }
}
