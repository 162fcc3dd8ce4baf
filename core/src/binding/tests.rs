//! The machine against a model of a server and of a Secret: what is written, what is read, and what is left alone.

mod answers;
mod mapping;
mod model;
mod refresh;
mod sources;
