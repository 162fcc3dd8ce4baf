//! `VaultConnection`: what is decided about a server before and after asking it.

pub mod breaker;
pub mod pace;
pub mod token;
