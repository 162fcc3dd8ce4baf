//! What passes between whom, as lines.
//!
//! A line says `allow`, `block` or `unclear`, then `from -> to`, then maybe a port, a protocol or both (`80`, `UDP`,
//! `80/UDP`). Of several lines about one question the last counts; without any, it is allowed.

use std::fmt;

use serde::Deserialize;

/// Whether something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Allow,
    /// It does not.
    Block,
    /// The policies cannot be read, or are read in two ways.
    Unclear,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Unclear => "unclear",
        })
    }
}

/// May this pass?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question<'a> {
    /// A pod, `namespace/name`, or an address.
    pub from: &'a str,
    /// A pod, `namespace/name`, or an address.
    pub to: &'a str,
    /// Port of the destination.
    pub port: u16,
    /// `TCP` or `UDP`.
    pub protocol: &'a str,
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}/{}", self.from, self.to, self.port, self.protocol)
    }
}

/// The answers to all questions.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// The answer to one question.
    pub fn outcome(&self, question: &Question<'_>) -> Outcome {
        self.lines.iter().rfind(|line| line.is_about(question)).map_or(Outcome::Allow, |line| line.outcome)
    }

    /// Whether it says anything of a pod and itself by name; only then is that a question for a data plane.
    pub fn names_itself(&self, end: &str) -> bool {
        self.lines.iter().any(|line| line.from == end && line.to == end)
    }

    /// The lines that are about none of the questions between these ends.
    pub fn idle(&self, ends: &[&str]) -> Vec<&Line> {
        let is_idle = |line: &&Line| !crate::questions(ends).any(|question| line.is_about(&question));
        self.lines.iter().filter(is_idle).collect()
    }
}

/// One line of a table.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Line {
    outcome: Outcome,
    from: String,
    to: String,
    port: Option<u16>,
    protocol: Option<String>,
}

impl TryFrom<String> for Line {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (outcome, from, to, what) = match words[..] {
            [outcome, from, "->", to] => (outcome, from, to, ""),
            [outcome, from, "->", to, what] => (outcome, from, to, what),
            _ => return Err(format!("no line of a table: {text}")),
        };
        let outcome = match outcome {
            "allow" => Outcome::Allow,
            "block" => Outcome::Block,
            "unclear" => Outcome::Unclear,
            _ => return Err(format!("no outcome: {text}")),
        };
        let (mut port, mut protocol) = (None, None);
        for part in what.split('/').filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(number) => port = Some(number),
                Err(_) if crate::PROTOCOLS.contains(&part) => protocol = Some(part.to_owned()),
                Err(_) => return Err(format!("neither a port nor a protocol: {text}")),
            }
        }
        Ok(Self { outcome, from: from.to_owned(), to: to.to_owned(), port, protocol })
    }
}

impl Line {
    fn is_about(&self, question: &Question<'_>) -> bool {
        // Nothing can part a pod from itself, so that no table needs to say so.
        let by_name = self.from == question.from && self.to == question.to;
        (question.from != question.to || by_name)
            && covers(&self.from, question.from)
            && covers(&self.to, question.to)
            && self.port.is_none_or(|own| own == question.port)
            && self.protocol.as_deref().is_none_or(|own| own == question.protocol)
    }
}

/// `*` is every end, `x/*` every pod of a namespace, `*/a` the pods of one name.
fn covers(pattern: &str, end: &str) -> bool {
    match (pattern.split_once('/'), end.split_once('/')) {
        (None, _) => pattern == "*" || pattern == end,
        (Some((namespace, name)), Some(end)) => {
            [(namespace, end.0), (name, end.1)].iter().all(|(p, e)| *p == "*" || p == e)
        }
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &[&str]) -> Table {
        Table { lines: lines.iter().map(|line| Line::try_from((*line).to_owned()).unwrap()).collect() }
    }

    #[test]
    fn the_last_line_counts() {
        let table = table(&["block * -> x/*", "allow */b -> x/a UDP", "unclear y/b -> x/a 81"]);
        let ask = |from, to, port, protocol| table.outcome(&Question { from, to, port, protocol });
        assert_eq!(ask("y/a", "x/a", 80, "UDP"), Outcome::Block);
        assert_eq!(ask("y/b", "x/a", 80, "UDP"), Outcome::Allow);
        assert_eq!(ask("y/b", "x/a", 80, "TCP"), Outcome::Block);
        assert_eq!(ask("y/b", "x/a", 81, "UDP"), Outcome::Unclear);
        assert_eq!(ask("192.0.2.1", "x/a", 80, "UDP"), Outcome::Block);
        assert_eq!(ask("x/a", "y/a", 80, "UDP"), Outcome::Allow);
    }

    #[test]
    fn a_pod_reaches_itself_unless_it_is_named() {
        let own = Question { from: "x/a", to: "x/a", port: 80, protocol: "TCP" };
        assert_eq!(table(&["block * -> x/*"]).outcome(&own), Outcome::Allow);
        assert_eq!(table(&["block x/a -> x/a"]).outcome(&own), Outcome::Block);
        assert!(table(&["block x/a -> x/a"]).names_itself("x/a") && !table(&["block * -> x/a"]).names_itself("x/a"));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in ["allow x/a", "forbid x/a -> y/a", "allow x/a -> y/a tcp", "allow x/a -> y/a 80 TCP"] {
            assert!(Line::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(table(&["allow w/* -> x/a"]).idle(&["x/a", "y/a"]).len(), 1);
    }
}
