//! Cases as data: read from a file of `cases/`, and what became of all of them.

use anyhow::{Result, ensure};
use countersign_e2e::manifests::parse;
use serde::de::DeserializeOwned;

/// The cases of a file, with `values` put in; there must be so many at least.
///
/// # Errors
/// When one does not read as what is played.
pub fn read<T: DeserializeOwned>(text: &str, values: &[(&str, &str)], at_least: usize) -> Result<Vec<T>> {
    let cases: Vec<T> = parse(text, values)?
        .into_iter()
        .flat_map(|list| list.as_array().cloned().unwrap_or_default())
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()?;
    ensure!(cases.len() >= at_least, "only {} cases were read", cases.len());
    Ok(cases)
}

/// Fails if one went wrong, and then names each that did: row of the catalogue, name, and how.
///
/// # Errors
/// As said.
pub fn all_went_well<'a>(played: impl IntoIterator<Item = (u32, &'a str, Result<()>)>) -> Result<()> {
    let mut count = 0;
    let mut wrong = Vec::new();
    for (row, name, outcome) in played {
        count += 1;
        wrong.extend(outcome.err().map(|error| format!("row {row}, {name}: {error:#}")));
    }
    ensure!(wrong.is_empty(), "of {count} cases {} went wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
