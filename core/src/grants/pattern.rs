//! Patterns of paths and role names, with the two placeholders.

use std::{fmt, str::FromStr};

use crate::value::{
    names::is_subdomain,
    vault_path::{MAX_PATH, MAX_SEGMENTS, Segment, VaultPath},
};

/// The most `*` of one segment.
const MAX_STARS: usize = 2;

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternProblem {
    /// Too long, too many segments, or an empty one.
    Shape,
    /// A character that no path has, or `.` or `..` as a segment.
    Character,
    /// Braces around anything but `namespace` and `serviceAccount`.
    Placeholder,
    /// `**` elsewhere than as the last segment, after at least one other.
    DoubleStar,
    /// More than two `*` in one segment.
    Stars,
    /// The first segment, the mount, has a placeholder or a star, or belongs to the server itself.
    Mount,
    /// A role that is missing, not wanted, or no role name.
    Role,
    /// A grant to the operator's own login covers a whole mount without saying `all: true`.
    WholeMount,
}

impl PatternProblem {
    /// What must be instead.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Shape => "a path pattern must have 2 to 16 segments, none empty, and at most 512 characters",
            Self::Character => {
                "segments must match [A-Za-z0-9_.-] besides * and placeholders, and not be \".\" or \"..\""
            }
            Self::Placeholder => "the placeholders are {namespace} and {serviceAccount}",
            Self::DoubleStar => "** may only be the last segment, after at least one other",
            Self::Stars => "a segment may have at most two *",
            Self::Mount => "the first segment must be a mount, written out",
            Self::Role => "role is required with as: ServiceAccount, and goes with nothing else",
            Self::WholeMount => "as: Operator may cover a whole mount only with all: true",
        }
    }
}

impl fmt::Display for PatternProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for PatternProblem {}

/// A part of a segment's pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// One or more characters.
    Star,
    Namespace,
    Account,
}

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// The namespace of the binding.
    pub namespace: &'a str,
    /// Its ServiceAccount, if it names one.
    pub account: Option<&'a str>,
}

impl<'a> Fill<'a> {
    /// The literal for a placeholder; only a DNS-1123 name is ever put in.
    fn literal(&self, part: &'a Part) -> Option<&'a str> {
        let name = |text: &'a str| is_subdomain(text).then_some(text);
        match part {
            Part::Literal(text) => Some(text),
            Part::Namespace => name(self.namespace),
            Part::Account => name(self.account?),
            Part::Star => None,
        }
    }
}

/// A pattern of a mount and a path below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Vec<Part>>,
    /// Whether one or more further segments may follow.
    open: bool,
}

impl FromStr for PathPattern {
    type Err = PatternProblem;

    fn from_str(text: &str) -> Result<Self, PatternProblem> {
        let mut texts: Vec<&str> = text.split('/').collect();
        if text.len() > MAX_PATH || !(2..=MAX_SEGMENTS).contains(&texts.len()) || texts.contains(&"") {
            return Err(PatternProblem::Shape);
        }
        let open = texts.last() == Some(&"**");
        if open {
            texts.pop();
        }
        if texts.iter().any(|text| text.contains("**")) {
            return Err(PatternProblem::DoubleStar);
        }
        let segments: Vec<Vec<Part>> = texts.iter().map(|text| parts(text)).collect::<Result<_, _>>()?;
        if segments.iter().any(|parts| parts.iter().filter(|part| **part == Part::Star).count() > MAX_STARS) {
            return Err(PatternProblem::Stars);
        }
        let mount = texts.first().and_then(|mount| mount.parse::<VaultPath>().ok());
        if mount.is_none() { Err(PatternProblem::Mount) } else { Ok(Self { segments, open }) }
    }
}

impl PathPattern {
    /// Whether it covers everything below a mount.
    pub fn covers_a_mount(&self) -> bool {
        self.open && self.segments.len() == 1
    }

    /// Whether it covers `path`.
    pub fn matches(&self, path: &VaultPath, fill: &Fill<'_>) -> bool {
        let given = path.segments();
        let fits = if self.open { given.len() > self.segments.len() } else { given.len() == self.segments.len() };
        fits && self.segments.iter().zip(given).all(|(parts, segment)| covers(parts, segment.as_str(), fill))
    }

    /// Whether a segment that stands for the namespace could as well stand for one with a longer name: then `path`
    /// belongs to that one.
    pub fn is_ambiguous(&self, path: &VaultPath, namespace: &str, others: &[String]) -> bool {
        let marked: Vec<&str> = self
            .segments
            .iter()
            .zip(path.segments())
            .filter(|(parts, _)| parts.contains(&Part::Namespace))
            .map(|(_, segment)| segment.as_str())
            .collect();
        others
            .iter()
            .filter(|other| other.len() > namespace.len() && other.starts_with(namespace))
            .any(|other| marked.iter().any(|segment| names(segment, other)))
    }
}

/// Whether `namespace` stands in `segment`, up to a hyphen or its end.
fn names(segment: &str, namespace: &str) -> bool {
    segment.match_indices(namespace).any(|(at, found)| {
        let rest = segment.get(at + found.len()..).unwrap_or_default();
        rest.is_empty() || rest.starts_with('-')
    })
}

/// A pattern of a role's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePattern(Vec<Part>);

impl FromStr for RolePattern {
    type Err = PatternProblem;

    fn from_str(text: &str) -> Result<Self, PatternProblem> {
        let parts = parts(text).map_err(|_| PatternProblem::Role)?;
        if text.is_empty() || parts.contains(&Part::Star) { Err(PatternProblem::Role) } else { Ok(Self(parts)) }
    }
}

impl RolePattern {
    /// The role's name; `None` where a placeholder stands for nothing, or the name would be none.
    pub fn render(&self, fill: &Fill<'_>) -> Option<Segment> {
        let texts: Vec<&str> = self.0.iter().map(|part| fill.literal(part)).collect::<Option<_>>()?;
        texts.concat().parse().ok()
    }
}

fn parts(text: &str) -> Result<Vec<Part>, PatternProblem> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (part, length) = match first {
            '*' => (Part::Star, 1),
            '{' => {
                let end = rest.find('}').ok_or(PatternProblem::Placeholder)?;
                let part = match rest.get(1..end) {
                    Some("namespace") => Part::Namespace,
                    Some("serviceAccount") => Part::Account,
                    _ => return Err(PatternProblem::Placeholder),
                };
                (part, end + 1)
            }
            _ => {
                let end = rest.find(['*', '{']).unwrap_or(rest.len());
                let literal = rest.get(..end).unwrap_or_default();
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                if !literal.bytes().all(plain) {
                    return Err(PatternProblem::Character);
                }
                (Part::Literal(literal.to_owned()), end)
            }
        };
        parts.push(part);
        rest = rest.get(length..).unwrap_or_default();
    }
    if matches!(text, "." | "..") { Err(PatternProblem::Character) } else { Ok(parts) }
}

/// Whether the parts cover the whole of `segment`; the stars are few, so trying every split is cheap.
fn covers(parts: &[Part], segment: &str, fill: &Fill<'_>) -> bool {
    let Some((first, others)) = parts.split_first() else { return segment.is_empty() };
    if *first == Part::Star {
        // A segment is ASCII, so every byte is a border.
        return (1..=segment.len()).any(|end| segment.get(end..).is_some_and(|rest| covers(others, rest, fill)));
    }
    let literal = fill.literal(first);
    literal.and_then(|literal| segment.strip_prefix(literal)).is_some_and(|rest| covers(others, rest, fill))
}
