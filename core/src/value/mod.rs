//! Always-valid values: parse once at the border, build infallibly afterwards.

pub mod digest;
pub mod domain;
pub mod keyed;
pub mod kv;
pub mod lifetime;
pub mod names;
pub mod secret_data;
pub mod spiffe;
pub mod target;
pub mod vault_path;
pub mod x509;
