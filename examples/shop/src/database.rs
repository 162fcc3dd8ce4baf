//! The database login of the payment service, as a mounted Secret has it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::reload::{Files, Loaded};

/// The files of the mounted Secret.
pub const FILES: [&str; 3] = ["username", "password", "revision"];

/// A login. No `Debug`: it holds the password.
pub struct Login {
    /// Who logs in.
    pub username: String,
    /// With what; a real service would hand it to its database driver.
    password: Vec<u8>,
    /// Which login it is, for people; written beside the password by whoever changes it.
    pub revision: String,
}

impl Login {
    /// The login out of a snapshot; refuses one that is empty.
    pub fn of(mut files: Files) -> Result<Self> {
        let text = |bytes: Vec<u8>, name: &str| String::from_utf8(bytes).with_context(|| format!("{name} is no text"));
        let [username, password, revision] = FILES;
        let login = Self {
            username: text(files.take(username)?, username)?,
            password: files.take(password)?,
            revision: text(files.take(revision)?, revision)?,
        };
        ensure!(!login.username.is_empty() && !login.password.is_empty(), "the login is empty");
        Ok(login)
    }
}

impl Loaded for Login {
    fn state(&self) -> Map<String, Value> {
        let login = json!({"username": self.username, "revision": self.revision});
        Map::from_iter([("database".to_owned(), login)])
    }
}
