//! OpenMetrics to the older text format 0.0.4, for whoever does not ask for OpenMetrics.
//!
//! Knows only what our own encoder writes: `HELP`, then `TYPE`, then the samples of one family.

/// The content type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the older format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a request with this `Accept` header asks for OpenMetrics.
///
/// The first of the two types that is listed wins; scrapers list them by preference.
pub fn wants_open_metrics(accept: &str) -> bool {
    accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .find_map(|media| match media {
            "application/openmetrics-text" => Some(true),
            "text/plain" | "text/*" | "*/*" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}

/// The same samples in format 0.0.4.
///
/// There a counter's family carries `_total` and an info's `_info` in its name, `info` is a gauge and
/// `unknown` is `untyped`; units, exemplars and the end mark do not exist.
pub fn from_open_metrics(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').or(Some((rest, "")));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            if let Some((_, words)) = help.take().filter(|(named, _)| *named == name) {
                push(&mut text, &["# HELP ", name, suffix, " ", words]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') && !line.is_empty() {
            push(&mut text, &[without_exemplar(line)]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

/// A sample up to its exemplar; a label value may contain the mark of one.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample.get(..at).unwrap_or(sample).trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_the_names_and_types_of_the_older_format() {
        let open = "# HELP issues What we issued.\n# TYPE issues counter\n# UNIT issues certificates\n\
                    issues_total{name=\"a # {b\\\" #\"} 3 # {trace=\"x\"} 1.0 1700000000.0\n\
                    # HELP build Which build.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
                    # HELP odd Odd.\n# TYPE odd unknown\nodd 2\n\
                    # HELP took Seconds.\n# TYPE took histogram\ntook_bucket{le=\"+Inf\"} 1 # {trace=\"y\"} 0.5\n\
                    # EOF\n";
        let expected = "# HELP issues_total What we issued.\n# TYPE issues_total counter\n\
                        issues_total{name=\"a # {b\\\" #\"} 3\n\
                        # HELP build_info Which build.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
                        # HELP odd Odd.\n# TYPE odd untyped\nodd 2\n\
                        # HELP took Seconds.\n# TYPE took histogram\ntook_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(from_open_metrics(open), expected);
    }

    #[test]
    fn open_metrics_only_for_whoever_prefers_it() {
        let table = [
            ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
            ("text/plain;version=0.0.4,application/openmetrics-text", false),
            ("text/html, */*", false),
            ("", false),
        ];
        for (accept, expected) in table {
            assert_eq!(wants_open_metrics(accept), expected, "{accept}");
        }
    }
}
