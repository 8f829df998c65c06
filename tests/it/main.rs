//! x
mod extract;
mod robustness;
