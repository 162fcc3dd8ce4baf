//! A Rust file as the rules see it: code without comments and strings, and the paths it names.
//!
//! Not a parser: a lexer that knows comments, strings and `use` trees is enough to say which
//! modules a file reaches for. It knows nothing of the rules.

/// One source file.
pub struct Source {
    /// The text as it is.
    pub text: String,
    /// Line by line, with comments and the contents of strings blanked.
    pub code: Vec<String>,
    /// Number of the first line of the tests at the end of the file; the number after the last line if there are none.
    pub tests_from: usize,
}

/// A path as in `use std::{env, fs}` (two of them) or `kube::Api::all(…)`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Counted from 1.
    pub line: usize,
    /// `std::env`, `std::fs`, `kube::Api::all`.
    pub path: String,
}

impl Source {
    /// The file at `path`, from the root of the repository with `/`.
    pub fn new(path: &str, text: &str) -> Self {
        let code: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let is_test_file = path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"));
        let tests_from = if is_test_file {
            1
        } else {
            code.windows(2)
                .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod tests {"))
                .map_or(code.len() + 1, |index| index + 1)
        };
        Self { text: text.to_owned(), code, tests_from }
    }

    /// The lines of production code, with their numbers.
    pub fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        self.numbered().take_while(|(line, _)| *line < self.tests_from)
    }

    /// All lines with their numbers, counted from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, code)| (index + 1, code.as_str()))
    }

    /// Every path that production code names.
    pub fn paths(&self) -> Vec<Named> {
        let tokens: Vec<Token> = self.production().flat_map(|(line, code)| tokens(line, code)).collect();
        let mut named = Vec::new();
        let mut rest = tokens.as_slice();
        while let [first, tail @ ..] = rest {
            let starts_use = first.text == "use";
            rest = if starts_use { tail } else { rest };
            rest = if starts_use || first.is_name() { tree("", rest, &mut named) } else { tail };
        }
        named
    }
}

/// Whether `path` contains the segments of `wanted` in a row; `^` in front pins them to the start.
pub fn names(path: &str, wanted: &str) -> bool {
    let segments: Vec<&str> = path.split("::").filter(|segment| !segment.is_empty()).collect();
    let (pinned, wanted) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let wanted: Vec<&str> = wanted.split("::").collect();
    if pinned { segments.starts_with(&wanted) } else { segments.windows(wanted.len()).any(|part| part == wanted) }
}

struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_') || self.text == "::"
    }
}

fn tokens(line: usize, code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() {
            found.push(Token { line, text: token.to_owned() });
        }
        rest = after;
    }
    found
}

/// Reads one path, with its branches in braces, and returns what follows it.
fn tree<'a>(prefix: &str, tokens: &'a [Token], named: &mut Vec<Named>) -> &'a [Token] {
    let mut path = prefix.to_owned();
    let mut rest = tokens;
    let mut line = 0;
    let mut after_name = false;
    while let [first, tail @ ..] = rest {
        if first.text == "::" {
            path.push_str("::");
            after_name = false;
        } else if first.is_name() && !after_name {
            path.push_str(&first.text);
            after_name = true;
        } else if first.text == "{" && path.ends_with("::") {
            let mut inner = tail;
            while let [next, after @ ..] = inner {
                match next.text.as_str() {
                    "}" => return after,
                    // `as Name` gives another name to a path that was seen already.
                    "as" => inner = after.get(1..).unwrap_or_default(),
                    _ if next.is_name() => inner = tree(&path, inner, named),
                    _ => inner = after,
                }
            }
            return inner;
        } else {
            break;
        }
        line = first.line;
        rest = tail;
    }
    if path.contains("::") {
        named.push(Named { line, path: path.trim_end_matches("::").to_owned() });
    }
    if rest.len() == tokens.len() { tokens.get(1..).unwrap_or_default() } else { rest }
}

/// Replaces comments and the contents of string and character literals by blanks; keeps line breaks.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest, previous) {
            length
        } else {
            out.push(first);
            previous = first;
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (gone, after) = rest.split_at(length);
        out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        previous = ' ';
        rest = after;
    }
    out
}

/// Length of the string or character literal at the start of `text`, if there is one.
fn literal(text: &str, previous: char) -> Option<usize> {
    let in_name = previous.is_alphanumeric() || previous == '_';
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    if !in_name && text.starts_with('r') {
        let hashes = text[1..].chars().take_while(|c| *c == '#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            return Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()));
        }
    }
    // `'a'` and `'\n'` are characters, `'a` is a lifetime.
    let mut chars = text.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) | (Some('\''), Some(_), Some('\'')) => Some(quoted(text, '\'')),
        _ => None,
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_and_use_trees_are_expanded() {
        let text = "use std::{\n    env,\n    io::{self, Write as _},\n};\nfn f<'a>() { kube::Api::<Secret>::all(c); x.y(); }\n";
        let found: Vec<(usize, String)> =
            Source::new("src/x.rs", text).paths().into_iter().map(|named| (named.line, named.path)).collect();
        let expected = [(2, "std::env"), (3, "std::io::self"), (3, "std::io::Write"), (5, "kube::Api"), (5, "::all")];
        assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        let text = "// std::env\nlet a = \"std::env \\\" \"; let b = r#\"std::env\"#; let c = '\"';\n/* std::env */\n#[cfg(test)]\nmod tests {\n    use std::env;\n}\n";
        let source = Source::new("src/x.rs", text);
        assert_eq!(source.paths(), []);
        assert_eq!(source.tests_from, 4);
    }

    #[test]
    fn segments_match_whole_and_in_a_row() {
        assert!(names("jiff::Timestamp::now", "Timestamp::now"));
        assert!(names("tokio::time", "^tokio"));
        assert!(!names("crate::tokio", "^tokio"));
        assert!(!names("tokio_rustls::rustls", "^tokio"));
    }
}
