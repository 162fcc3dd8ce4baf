//! Looking for secrets where they must not be, in every form that a log, a status or an event could give them.

use std::collections::{BTreeMap, HashMap};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};

/// Bytes of a form that are looked up; nothing shorter is looked for, since it would be found by chance.
const PREFIX: usize = 12;

/// Secrets to look for.
#[derive(Default)]
pub struct Canaries {
    /// By its first bytes, each form of a secret with the secret's name.
    forms: HashMap<[u8; PREFIX], Vec<(Vec<u8>, String)>>,
    secrets: usize,
}

impl Canaries {
    /// Adds a secret; shorter ones than [`PREFIX`] are left out.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        if secret.len() < PREFIX {
            return;
        }
        self.secrets += 1;
        for form in forms(secret) {
            if let Some(prefix) = form.as_bytes().first_chunk::<PREFIX>() {
                let same = self.forms.entry(*prefix).or_default();
                same.push((form.into_bytes(), name.to_owned()));
            }
        }
    }

    /// Adds the lines of a PEM private key's body; at most six, of which one alone would be a leak.
    pub fn add_key(&mut self, name: &str, pem: &str) {
        let body = pem.lines().filter(|line| !line.starts_with("-----"));
        // The first line begins with the algorithm, which is no secret, but a whole line is unique.
        for line in body.filter(|line| line.len() >= 16).take(6) {
            self.add(name, line.as_bytes());
        }
    }

    /// How many secrets there are.
    pub fn len(&self) -> usize {
        self.secrets
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.secrets == 0
    }

    /// What is found in `text`: names of secrets and shapes of credentials, with the number of times; never values.
    pub fn find(&self, text: &str) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        let mut rest = text.as_bytes();
        while let Some(prefix) = rest.first_chunk::<PREFIX>() {
            for (_, name) in self.forms.get(prefix).into_iter().flatten().filter(|(form, _)| rest.starts_with(form)) {
                *found.entry(name.clone()).or_default() += 1;
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        for (name, hits) in shapes(text) {
            *found.entry(name.to_owned()).or_default() += hits;
        }
        found
    }
}

/// Raw, base64 at each of the three alignments, hex, URL-encoded, JSON-escaped.
fn forms(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push(text.to_owned());
        forms.push(text.replace('/', "\\/"));
        forms.push(serde_json::to_string(text).unwrap_or_default().trim_matches('"').to_owned());
        forms.push(percent(secret));
        forms.push(percent(secret).to_lowercase());
    }
    forms.push(HEXLOWER.encode(secret));
    forms.push(HEXUPPER.encode(secret));
    for skipped in 0..3 {
        // Three bytes become four characters, so whole groups from each start cover every alignment.
        let rest = secret.get(skipped..).unwrap_or_default();
        let whole = rest.get(..rest.len() - rest.len() % 3).unwrap_or_default();
        forms.push(BASE64.encode(whole));
    }
    forms.retain(|form| form.len() >= PREFIX);
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn percent(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}"); // writing to a String cannot fail
        }
        text
    })
}

/// Credentials that nobody told us of, by their looks: private keys, JSON web tokens, OpenBao tokens.
fn shapes(text: &str) -> Vec<(&'static str, usize)> {
    let keys = text.matches("PRIVATE KEY-----").count();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let words = text.split(|c: char| !(c.is_ascii() && (is_part(c as u8) || c == '.')));
    let (mut jwts, mut tokens) = (0, 0);
    for word in words {
        let parts: Vec<&str> = word.split('.').collect();
        jwts += usize::from(
            parts.len() >= 3 && word.starts_with("eyJ") && parts.iter().take(2).all(|part| part.len() > 10),
        );
        if let [kind, rest] = parts.as_slice() {
            let long = rest.len() >= 24 && rest.bytes().all(|byte| is_part(byte) && byte != b'-');
            tokens += usize::from(long && ["s", "b", "hvs", "hvb"].contains(kind));
        }
    }
    [("a private key", keys), ("a JSON web token", jwts), ("an OpenBao token", tokens)]
        .into_iter()
        .filter(|(_, hits)| *hits > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "MHcCAQEEIA+w/c1vB1aZq9Qm3Xr7kQ2v";

    fn finds(text: &str) -> bool {
        let mut canaries = Canaries::default();
        canaries.add_key("key", SECRET);
        canaries.find(text).contains_key("key")
    }

    #[test]
    fn every_disguise_is_seen_through() {
        let around = |prefix: &str| BASE64.encode(format!("{prefix}{SECRET} and more").as_bytes());
        assert!(finds(&format!("x {SECRET} y")));
        assert!(finds(&around("")) && finds(&around("a")) && finds(&around("ab")));
        assert!(finds(&HEXLOWER.encode(SECRET.as_bytes())) && finds(&HEXUPPER.encode(SECRET.as_bytes())));
        assert!(finds(&percent(SECRET.as_bytes())));
        assert!(finds(&SECRET.replace('/', "\\/")));
        assert!(!finds("nothing of the kind"));
    }

    #[test]
    fn credentials_are_known_by_their_looks() {
        let found = |text: &str| Canaries::default().find(text).into_keys().collect::<Vec<_>>();
        assert_eq!(found("-----BEGIN EC PRIVATE KEY-----"), ["a private key"]);
        assert_eq!(found("token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJl;"), ["a JSON web token"]);
        assert_eq!(found("\"s.abcdefghijklmnopqrstuvwx\""), ["an OpenBao token"]);
        assert!(found("main.rs s.short countersign.dev spiffe://a.b/ns/c").is_empty());
    }
}
