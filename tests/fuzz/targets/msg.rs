//! Fuzzes `checks::msg`, which says what the bytes are and what must hold for any of them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mail2crm_fuzz::msg(bytes));
