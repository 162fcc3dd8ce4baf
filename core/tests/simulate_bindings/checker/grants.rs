//! Which paths the grants of the connection cover.

/// secrets.md §2: "literal characters; `*` = 1 or more characters inside one segment; `**` only as last segment, ≥ 1
/// segments".
pub fn covers(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return wanted.next().is_none(),
            (Some(segment), Some(name)) if is_like(segment, name) => {}
            _ => return false,
        }
    }
}

fn is_like(segment: &str, name: &str) -> bool {
    let Some((before, after)) = segment.split_once('*') else { return segment == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    let mut starts = rest.char_indices().map(|(start, _)| start).skip(1).chain([rest.len()]);
    !rest.is_empty() && starts.any(|start| rest.get(start..).is_some_and(|tail| is_like(after, tail)))
}
