//! The pure core of countersign: the wire types and every decision.
//!
//! Nothing here performs I/O, reads a clock or draws randomness; the crate's dependencies make
//! that impossible rather than forbidden. The guided tour:
//!
//! 1. [`api`] holds the custom resources exactly as they travel on the wire.
//! 2. [`value`] holds always-valid values that the wire types are parsed into.
//! 3. Each kind has a module of the same shape ([`identity`], [`binding`], [`trust`],
//!    [`connection`]):
//!    `intent` parses the spec, `world` is what was observed, `gates` say whether we may act,
//!    `triggers` say whether we must, `decide` names the next effect, `report` writes the status.
//! 4. [`fault`] is the only error that leaves an effect, [`next`] the shape of every decision.
//! 5. [`leader`] decides the election, [`rights`] derives RBAC and admission policies from features.

pub mod api;
pub mod binding;
pub mod connection;
pub mod explain;
pub mod fault;
pub mod grants;
pub mod identity;
pub mod leader;
pub mod network;
pub mod next;
pub mod rights;
pub mod trust;
pub mod value;
