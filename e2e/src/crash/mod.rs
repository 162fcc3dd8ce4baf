//! A fault at every call of the release binary, on real servers.
//!
//! The unchanged binary runs as a process of the host and reaches a real API server and a real OpenBao through two fault
//! proxies ([`proxy`]). [`plan`] names one fault at one call; [`workload`] and [`segment`] make the operator do something, with the objects of [`maker`]; [`recorder`]
//! watches from outside; [`oracle`] judges the history by the invariants of the design; [`run`] brings it together.
//! Nothing here shares code with the operator.

pub mod call;
pub mod certificate;
pub mod history;
pub mod install;
pub mod lane;
pub mod maker;
pub mod operator;
pub mod oracle;
pub mod plan;
pub mod proxy;
pub mod recorder;
pub mod run;
pub mod script;
pub mod segment;
pub mod tls;
pub mod wire;
pub mod workload;
