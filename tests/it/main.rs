//! x
mod robustness;
