//! Paths inside Vault and OpenBao: lists of plain segments, so that no text of a spec can ever
//! reach another path than the one it names.
//!
//! Raw `..` and `//` make a server redirect, `%2e%2e` makes it refuse; here none of them parses.
//! What does parse is still percent-encoded when a URL is built, by [`encode`], so that a laxer
//! rule would not silently become a hole.

use std::{fmt, fmt::Write as _, str::FromStr};

/// The most characters of one segment.
pub const MAX_SEGMENT: usize = 128;
/// The most segments of a path.
pub const MAX_SEGMENTS: usize = 16;
/// The most characters of a path.
pub const MAX_PATH: usize = 512;
/// The most segments of a server namespace.
pub const MAX_NAMESPACE_SEGMENTS: usize = 8;
/// The most characters of a server namespace.
pub const MAX_NAMESPACE: usize = 256;

/// First segments that belong to the server itself; no spec may name a path below them.
const RESERVED: [&str; 4] = ["sys", "auth", "identity", "cubbyhole"];

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathProblem {
    /// A segment is empty, `.`, `..`, over [`MAX_SEGMENT`] long or has other characters than `A-Za-z0-9_.-`.
    Segment,
    /// More segments than allowed.
    TooManySegments,
    /// More characters than allowed.
    TooLong,
    /// The first segment is `sys`, `auth`, `identity` or `cubbyhole`.
    Reserved,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segment => r#"segments must match ^[A-Za-z0-9_.-]{1,128}$, not "." or "..""#,
            Self::TooManySegments => "too many segments",
            Self::TooLong => "too long",
            Self::Reserved => "path is reserved",
        })
    }
}

impl std::error::Error for PathProblem {}

/// One segment: `^[A-Za-z0-9_.-]{1,128}$`, neither `.` nor `..`; a role or an issuer reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment(String);

impl Segment {
    /// The segment as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Segment {
    type Err = PathProblem;

    fn from_str(text: &str) -> Result<Self, PathProblem> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fits = (1..=MAX_SEGMENT).contains(&text.len()) && text.bytes().all(plain);
        if fits && text != "." && text != ".." { Ok(Self(text.to_owned())) } else { Err(PathProblem::Segment) }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mount or a path below one: 1–16 segments, ≤ 512 characters, not reserved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultPath(Vec<Segment>);

impl VaultPath {
    /// The segments, at least one.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// A path below a mount, where no word is reserved; `None` if it is none.
    pub fn below_a_mount(text: &str) -> Option<Self> {
        split(text, MAX_PATH, MAX_SEGMENTS).ok().map(Self)
    }
}

impl FromStr for VaultPath {
    type Err = PathProblem;

    fn from_str(text: &str) -> Result<Self, PathProblem> {
        let segments = split(text, MAX_PATH, MAX_SEGMENTS)?;
        // Case-insensitive: the server compares exactly, but nobody needs a mount called `SYS`.
        let reserved = |first: &Segment| RESERVED.iter().any(|word| first.0.eq_ignore_ascii_case(word));
        if segments.first().is_some_and(reserved) { Err(PathProblem::Reserved) } else { Ok(Self(segments)) }
    }
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(&self.0, f)
    }
}

/// A Vault Enterprise or OpenBao namespace: 1–8 segments, ≤ 256 characters; sent as a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultNamespace(Vec<Segment>);

impl FromStr for VaultNamespace {
    type Err = PathProblem;

    fn from_str(text: &str) -> Result<Self, PathProblem> {
        split(text, MAX_NAMESPACE, MAX_NAMESPACE_SEGMENTS).map(Self)
    }
}

impl fmt::Display for VaultNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(&self.0, f)
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 (`A-Za-z0-9-._~`).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn split(text: &str, most_characters: usize, most_segments: usize) -> Result<Vec<Segment>, PathProblem> {
    if text.len() > most_characters {
        return Err(PathProblem::TooLong);
    }
    let segments: Vec<Segment> = text.split('/').map(str::parse).collect::<Result<_, _>>()?;
    if segments.len() > most_segments { Err(PathProblem::TooManySegments) } else { Ok(segments) }
}

fn join(segments: &[Segment], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, segment) in segments.iter().enumerate() {
        let slash = if index == 0 { "" } else { "/" };
        write!(f, "{slash}{segment}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> Option<PathProblem> {
        text.parse::<VaultPath>().err()
    }

    #[test]
    fn plain_paths_parse_and_print_as_written() {
        let deepest = ["a"; MAX_SEGMENTS].join("/");
        let longest = "s".repeat(MAX_SEGMENT);
        for text in ["pki", "pki_int", "team-a/pki.v2", "kubernetes", "...", "system", deepest.as_str(), &longest] {
            assert_eq!(text.parse::<VaultPath>().map(|path| path.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_cause() {
        use PathProblem::{Reserved, Segment, TooLong, TooManySegments};
        let deep = ["a"; MAX_SEGMENTS + 1].join("/");
        let wide = "s".repeat(MAX_SEGMENT + 1);
        let long = ["s".repeat(102).as_str(); 5].join("/");
        let table = [
            ("", Segment),
            ("/", Segment),
            ("/a", Segment),
            ("a/", Segment),
            ("a//b", Segment),
            ("a/../b", Segment),
            ("./a", Segment),
            ("..", Segment),
            ("../../sys/mounts", Segment),
            ("%2e%2e", Segment),
            ("a%2fb", Segment),
            ("a%00", Segment),
            ("a\\b", Segment),
            ("r?list=true", Segment),
            ("r#x", Segment),
            ("a;b", Segment),
            ("a b", Segment),
            ("a\tb", Segment),
            ("a\nb", Segment),
            ("a\n", Segment),
            ("a\0", Segment),
            ("ключ", Segment),
            (wide.as_str(), Segment),
            (deep.as_str(), TooManySegments),
            (long.as_str(), TooLong),
            ("sys", Reserved),
            ("sys/mounts", Reserved),
            ("auth/token/create", Reserved),
            ("identity/entity", Reserved),
            ("cubbyhole/x", Reserved),
            ("SYS/mounts", Reserved),
        ];
        assert!(long.len() > MAX_PATH);
        for (text, cause) in table {
            assert_eq!(problem(text), Some(cause), "{text:?}");
        }
    }

    #[test]
    fn a_namespace_is_shorter_but_knows_no_reserved_words() {
        assert_eq!("team-a/x".parse::<VaultNamespace>().map(|n| n.to_string()).as_deref(), Ok("team-a/x"));
        for (text, cause) in [
            ("../root", PathProblem::Segment),
            ("a//b", PathProblem::Segment),
            ("/a", PathProblem::Segment),
            ("a/b/c/d/e/f/g/h/i", PathProblem::TooManySegments),
        ] {
            assert_eq!(text.parse::<VaultNamespace>(), Err(cause), "{text:?}");
        }
        assert_eq!("n".repeat(257).parse::<VaultNamespace>(), Err(PathProblem::TooLong));
    }

    #[test]
    fn encoding_leaves_only_unreserved_characters() {
        assert_eq!(encode("a/b?c#d%e f"), "a%2Fb%3Fc%23d%25e%20f");
        assert_eq!(encode("ü"), "%C3%BC");
        assert_eq!(encode("A-z_0.9~"), "A-z_0.9~");
    }

    proptest! {
        #[test]
        fn whatever_parses_is_already_in_its_encoded_form(text in "[a-zA-Z0-9_./%?#\\\\ -]{0,40}") {
            if let Ok(path) = text.parse::<VaultPath>() {
                prop_assert_eq!(path.to_string(), text.clone());
                for segment in path.segments() {
                    prop_assert_eq!(encode(segment.as_str()), segment.as_str());
                    prop_assert!(segment.as_str() != "." && segment.as_str() != "..");
                }
                prop_assert_eq!(text.split('/').count(), path.segments().len());
            }
        }

        #[test]
        fn no_text_panics_and_encoding_can_be_undone(text in any::<String>()) {
            let _ = text.parse::<VaultPath>();
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
            let mut bytes = Vec::new();
            let mut rest = encoded.as_bytes();
            while let Some((&first, tail)) = rest.split_first() {
                if first == b'%' {
                    let hex = std::str::from_utf8(&tail[..2]).unwrap();
                    bytes.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &tail[2..];
                } else {
                    bytes.push(first);
                    rest = tail;
                }
            }
            prop_assert_eq!(bytes, text.as_bytes());
        }
    }
}
