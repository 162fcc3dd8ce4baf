//! Tables: each named fault, built from objects as they are on the wire, breaks the chain at its link.

mod faults;
mod installed;
mod rows;
mod sight;
mod wire;
