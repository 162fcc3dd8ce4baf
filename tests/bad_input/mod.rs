//! Loads the cases of this directory; their format is described in `README.md`.

pub mod judge;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

/// What is sent to the server, and what must come back.
#[derive(Debug)]
pub struct Case {
    /// `<kind>/<row>-<slug>`.
    pub name: String,
    /// What is sent.
    pub input: Input,
    /// What must come back.
    pub expected: Expected,
}

/// What is sent to the server.
#[derive(Debug)]
pub enum Input {
    /// A new object.
    Create(Value),
    /// A changed object.
    Update { old: Value, new: Value },
    /// A text that no parsed object could say.
    Raw(String),
}

/// What must come back.
#[derive(Debug)]
pub enum Expected {
    /// The object is stored, without what these JSON pointers name.
    Accept { dropped: Vec<String> },
    /// The object is refused, in these words.
    Refuse { messages: Vec<String> },
}

impl Case {
    /// Compares a verdict with what is expected: `Ok` with the object as it would be stored, or the words of the refusal.
    pub fn check(&self, verdict: &Result<Value, String>) -> Result<(), String> {
        match (&self.expected, verdict) {
            (Expected::Accept { dropped }, Ok(stored)) => {
                match dropped.iter().find(|path| stored.pointer(path).is_some()) {
                    Some(path) => Err(format!("{path} is stored")),
                    None => Ok(()),
                }
            }
            (Expected::Refuse { messages }, Err(words)) => {
                match messages.iter().find(|message| !words.contains(*message)) {
                    Some(message) => Err(format!("refused without the words {message:?}: {}", shortened(words))),
                    None => Ok(()),
                }
            }
            (Expected::Accept { .. }, Err(words)) => Err(format!("refused: {}", shortened(words))),
            (Expected::Refuse { .. }, Ok(_)) => Err("accepted".to_owned()),
        }
    }
}

/// Every case, in the order of the names.
pub fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_input");
    let mut files: Vec<PathBuf> = children(&root)
        .into_iter()
        .filter(|path| path.is_dir())
        .flat_map(|kind| children(&kind))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files.iter().map(|file| load(&root, file)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "what")]
    _what: String,
    verdict: Verdict,
    message: Option<OneOrMany>,
    object: Option<Value>,
    old: Option<Value>,
    raw: Option<String>,
    #[serde(default)]
    dropped: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Accept,
    Refuse,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn load(root: &Path, file: &Path) -> Case {
    let name = file.strip_prefix(root).unwrap().with_extension("").display().to_string();
    let text = fs::read_to_string(file).unwrap();
    let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let input = match (file.object, file.old, file.raw) {
        (Some(object), None, None) => Input::Create(expanded(object)),
        (Some(new), Some(old), None) => Input::Update { old: expanded(old), new: expanded(new) },
        (None, None, Some(text)) => Input::Raw(text),
        _ => panic!("{name}: needs object, or object and old, or raw"),
    };
    let expected = match (file.verdict, file.message) {
        (Verdict::Accept, None) => Expected::Accept { dropped: file.dropped },
        (Verdict::Refuse, Some(OneOrMany::One(message))) => Expected::Refuse { messages: vec![message] },
        (Verdict::Refuse, Some(OneOrMany::Many(messages))) => Expected::Refuse { messages },
        _ => panic!("{name}: message goes with refuse, and only with it"),
    };
    Case { name, input, expected }
}

#[derive(Deserialize)]
enum Builder {
    #[serde(rename = "$text")]
    Text { repeat: String, times: usize },
    #[serde(rename = "$list")]
    List { item: String, times: usize },
    #[serde(rename = "$map")]
    Map { key: String, value: Value, times: usize },
    #[serde(rename = "$nest")]
    Nest { key: String, times: usize },
}

/// Replaces the builders (`$text`, `$list`, …) by what they build.
fn expanded(value: Value) -> Value {
    match value {
        Value::Object(members) if members.len() == 1 && members.keys().all(|key| key.starts_with('$')) => {
            match serde_json::from_value(Value::Object(members)).unwrap() {
                Builder::Text { repeat, times } => Value::String(repeat.repeat(times)),
                Builder::List { item, times } => (0..times).map(|n| numbered(&item, n)).collect(),
                Builder::Map { key, value, times } => {
                    let value = expanded(value);
                    Value::Object((0..times).map(|n| (numbered(&key, n), value.clone())).collect())
                }
                Builder::Nest { key, times } => (0..times)
                    .fold(Value::Object(Map::new()), |inner, _| Value::Object(Map::from_iter([(key.clone(), inner)]))),
            }
        }
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (key, expanded(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(expanded).collect(),
        scalar => scalar,
    }
}

fn numbered(text: &str, number: usize) -> String {
    text.replace("%d", &number.to_string())
}

fn children(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn shortened(words: &str) -> String {
    words.chars().take(600).collect()
}
