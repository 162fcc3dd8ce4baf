//! One log line: what was recorded, and how it is spelt.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde_json::Value;
use tracing::{
    Level,
    field::{Field, Visit},
};

/// The line's own keys; a field of that name is dropped, or a reader would see two.
const OWN: [&str; 3] = ["ts", "level", "msg"];

/// The fields of a span or an event in the order of their recording; a later value replaces an earlier.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    pub(super) fields: Fields,
}

impl Fields {
    /// Adds the fields of an inner span.
    pub(super) fn extend(&mut self, inner: &Self) {
        for (key, value) in &inner.values {
            self.set(key, value.clone());
        }
    }

    fn set(&mut self, key: &'static str, value: Value) {
        if OWN.contains(&key) {
            return;
        }
        match self.values.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.values.push((key, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.set(field.name(), value.into());
        }
    }

    /// An error's text was written by somebody else and may quote anything.
    fn record_error(&mut self, field: &Field, _: &(dyn std::error::Error + 'static)) {
        self.set(field.name(), "(withheld)".into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Line {
    /// One JSON object and a line end.
    pub(super) fn json(&self) -> String {
        let level = self.level.as_str().to_ascii_lowercase();
        let own = [self.time(), level, self.fields.message.clone()].map(Value::from);
        let mut text = String::from("{");
        for (key, value) in OWN.iter().zip(&own).chain(self.fields.values.iter().map(|(key, value)| (key, value))) {
            if text.len() > 1 {
                text.push(',');
            }
            // Writing to a string cannot fail, and a `Value` prints as JSON.
            let _ = write!(text, "{}:{value}", Value::from(*key));
        }
        text.push_str("}\n");
        text
    }

    /// Time, level, message and pairs; a value that is not one plain word is quoted.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{} {:<5} {}", self.time(), self.level, self.fields.message.escape_debug());
        for (key, value) in &self.fields.values {
            // Writing to a string cannot fail.
            let _ = match value.as_str() {
                Some(word) if !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"') => {
                    write!(text, " {key}={word}")
                }
                Some(words) => write!(text, " {key}={words:?}"),
                None => write!(text, " {key}={value}"),
            };
        }
        text.push('\n');
        text
    }

    fn time(&self) -> String {
        format!("{:.3}", self.at)
    }
}
