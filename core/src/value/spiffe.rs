//! See the module's users.
