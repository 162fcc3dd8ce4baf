//! Why is it so: objects and statuses in, a chain of links out.
//!
//! An identity works if every link of its chain holds: the fence, the connection, the trust domain,
//! the account, the names, the Secret, the certificate; a binding's are grant, sources and values instead. [`identity`],
//! [`binding`], [`domain`] and [`connection`] judge the links; the first one that failed is the thing to repair. [`overview`] is one line for
//! each object, [`installation`] judges what `helm install` should have left behind.
//!
//! Nothing here is a rule of its own: names, references and targets are judged by
//! [`identity::gates`](crate::identity::gates), as the operator judges them, and what only the operator
//! can know is taken from the conditions it wrote. Reads nothing: the command line hands in what the
//! caller may see, and a link about something hidden is unknown, never guessed.

mod advice;
pub mod binding;
pub mod connection;
pub mod domain;
pub mod guard;
pub mod identity;
pub mod installation;
mod link;
mod look;
pub mod overview;
mod said;
mod target;
#[cfg(test)]
mod tests;

pub use link::{Chain, End, Link, State, Step};
pub use look::{Look, Right, Unseen};
