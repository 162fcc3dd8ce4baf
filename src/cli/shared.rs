//! What the read-only commands share: access to the cluster, formats, columns.

use std::{fmt::Write as _, future::Future, path::PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::{FATAL, UNSEEN, print};
use crate::{
    cluster::inspect::View,
    runtime::{client::connect, clock::Clock, metrics::Metrics},
};

/// No line is longer.
pub(super) const WIDTH: usize = 120;
/// Version of everything that `-o json` prints; only additions are made to it.
const API_VERSION: &str = "cli.countersign.dev/v1";

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people: at most 120 columns
    Text,
    /// For programs: stable and documented
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Access {
    /// Use this kubeconfig instead of the pod's own account
    #[arg(long, env = "COUNTERSIGN_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Connects and runs one command to its exit code.
pub(super) fn with_view<F, R>(access: &Access, command: F) -> u8
where
    F: FnOnce(View, Clock) -> R,
    R: Future<Output = u8>,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        eprintln!("error: no thread could be started");
        return FATAL;
    };
    let code = runtime.block_on(async {
        let clock = Clock::system();
        match connect(access.kubeconfig.as_deref(), &clock, &Metrics::new()).await {
            Ok(client) => command(View::new(client), clock).await,
            Err(error) => {
                eprintln!("error: {error}");
                UNSEEN
            }
        }
    });
    // A name lookup that hangs sits in a blocking thread; nobody waits for it.
    runtime.shutdown_background();
    code
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, T> {
    api_version: &'static str,
    kind: &'a str,
    #[serde(flatten)]
    content: T,
}

/// An answer as one JSON document.
pub(super) fn json(kind: &str, content: impl Serialize) -> String {
    let document = Document { api_version: API_VERSION, kind, content };
    // What is written are our own structs with text for keys, which JSON can always hold.
    serde_json::to_string_pretty(&document).map(|text| text + "\n").unwrap_or_default()
}

/// Prints `text` and keeps the code of the answer, unless printing failed.
pub(super) fn answer(text: &str, code: u8) -> u8 {
    if print(text) == FATAL { FATAL } else { code }
}

/// Lines of cells in columns, two spaces apart; a cell longer than its column's `most` is cut, the last
/// column takes what is left of [`WIDTH`].
pub(super) fn columns(lines: &[Vec<String>], most: &[usize]) -> String {
    let width = |column: usize, most: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0).min(most)
    };
    let widths: Vec<usize> = most.iter().enumerate().map(|(column, most)| width(column, *most)).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{:width$}  ", cut(cell, *width));
        }
        let left = WIDTH.saturating_sub(row.chars().count());
        row.extend(line.get(widths.len()).map(|cell| cut(cell, left)));
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// The text in `most` characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The text in lines of at most `width` characters, broken between words; a word that is longer is broken itself.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            let room = width.saturating_sub(line.chars().count() + gap);
            if rest.len() <= room {
                line.extend(std::iter::repeat_n(' ', gap).chain(rest));
                break;
            }
            if line.is_empty() {
                line.extend(rest.drain(..width.clamp(1, rest.len())));
            }
            lines.push(String::new());
        }
    }
    lines
}

/// How far away `end` is: days, hours or minutes, whichever has at least two.
pub(super) fn remaining(end: Timestamp, now: Timestamp) -> String {
    let seconds = end.as_second() - now.as_second();
    match seconds {
        ..=0 => "ended".to_owned(),
        172_800.. => format!("{}d", seconds / 86_400),
        7_200.. => format!("{}h", seconds / 3_600),
        _ => format!("{}m", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit() {
        let lines = [
            vec!["A".to_owned(), "LONGER".to_owned(), "REST".to_owned()],
            vec!["abc".to_owned(), "abcdefgh".to_owned(), "x".repeat(200)],
        ];
        let text = columns(&lines, &[10, 6]);
        let expected = format!("A    LONGER  REST\nabc  abcde…  {}…\n", "x".repeat(WIDTH - 14));
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn what_remains_is_rounded_down() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        for (seconds, text) in
            [(0, "ended"), (59, "0m"), (7_199, "119m"), (7_200, "2h"), (172_799, "47h"), (172_800, "2d")]
        {
            assert_eq!(remaining(at(seconds), at(0)), text);
        }
    }
}
