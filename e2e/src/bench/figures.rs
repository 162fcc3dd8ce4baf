//! What is reported: the names of the figures, their bars, and the two ways they are written down.
//!
//! Pure; must not know how anything is measured. Filled by the cases, printed by `run`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use anyhow::{Result, ensure};

/// What a figure has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// It depends on the machine or has no bar yet.
    None,
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// Not more, and the command fails otherwise: a count does not depend on the machine.
    Never(f64),
}

/// A figure that can be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its name in the table and in the JSON.
    pub name: &'static str,
    /// Its bar.
    pub bar: Bar,
    /// Decimals it is written with, and its bar judged at.
    decimals: u8,
}

const fn key(name: &'static str, bar: Bar, decimals: u8) -> Key {
    Key { name, bar, decimals }
}

/// Every figure, in the order of the table.
pub const KEYS: &[Key] = &[
    key("raw.pairs_per_second", Bar::None, 0),
    key("raw.cpu_ms_per_pair", Bar::None, 1),
    key("load_average", Bar::None, 1),
    key("issue.embedded.per_second", Bar::None, 0),
    key("issue.embedded.ratio_to_raw", Bar::AtLeast(0.5), 2),
    key("issue.embedded.cpu_ms_per_object", Bar::None, 1),
    key("issue.embedded.per_second_with_creation", Bar::None, 0),
    key("issue.vault.per_second", Bar::None, 0),
    key("issue.vault.ratio_to_raw", Bar::AtLeast(0.4), 2),
    key("issue.vault.requests_per_object", Bar::AtMost(1.0), 1),
    key("issue.vault.per_second_with_creation", Bar::None, 0),
    key("issue.api_writes_per_object", Bar::Never(2.0), 3),
    key("issue.refused_writes_per_object", Bar::Never(0.0), 3),
    key("issue.events_per_object", Bar::AtMost(1.0), 3),
    key("renew.per_second", Bar::None, 0),
    key("renew.api_writes_per_object", Bar::Never(2.0), 3),
    key("renew.vault_logins", Bar::AtMost(0.0), 0),
    key("bind.per_second", Bar::None, 0),
    key("bind.ratio_to_raw", Bar::AtLeast(0.5), 2),
    key("bind.vault_requests_per_object", Bar::AtMost(1.1), 2),
    key("bind.api_writes_per_object", Bar::Never(2.0), 3),
    key("kv.vault_requests_per_unchanged_path", Bar::AtMost(1.05), 2),
    key("kv.api_writes_per_refresh", Bar::Never(0.0), 3),
    key("idle.api_writes_per_minute", Bar::Never(0.0), 1),
    key("idle.cpu_percent", Bar::AtMost(0.5), 2),
    key("restart.api_writes", Bar::Never(0.0), 0),
    key("restart.vault_signatures", Bar::AtMost(0.0), 0),
    key("restart.vault_logins", Bar::AtMost(2.0), 0),
    key("restart.idle_after_ms", Bar::None, 0),
    key("one.p50_ms", Bar::AtMost(20.0), 1),
    key("one.p99_ms", Bar::AtMost(60.0), 1),
    key("rss_mib.idle", Bar::None, 1),
    key("rss_mib.500_500", Bar::AtMost(48.0), 1),
    key("rss_mib.growth_with_foreign_secrets", Bar::AtMost(2.0), 1),
    key("network.compile_ms", Bar::AtMost(2_000.0), 0),
    key("network.objects_written_per_edge_edit", Bar::Never(2.0), 0),
    key("network.resync_writes", Bar::Never(0.0), 0),
    key("simulate.schedules_per_second", Bar::AtLeast(20_000.0), 0),
    key("simulate.violations", Bar::AtMost(0.0), 0),
    key("start_ms", Bar::AtMost(500.0), 0),
];

/// What was measured so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    measured: BTreeMap<&'static str, Measured>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    value: f64,
    load: f64,
}

impl Figures {
    /// Keeps `value`, measured at that load average; of several of one name the last.
    ///
    /// # Errors
    /// When there is no figure of that name, or the value is no number.
    pub fn set(&mut self, name: &str, value: f64, load: f64) -> Result<()> {
        let key = KEYS.iter().find(|key| key.name == name);
        ensure!(value.is_finite(), "{name} came out as {value}");
        let Some(key) = key else { anyhow::bail!("there is no figure {name}") };
        self.measured.insert(key.name, Measured { value, load });
        Ok(())
    }

    /// Keeps the largest `value` of that name.
    ///
    /// # Errors
    /// As [`Figures::set`].
    pub fn raise(&mut self, name: &str, value: f64, load: f64) -> Result<()> {
        if self.measured.get(name).is_some_and(|known| known.value >= value) {
            return Ok(());
        }
        self.set(name, value, load)
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.measured.get(name).map(|measured| measured.value)
    }

    /// One JSON object: name → value.
    ///
    /// # Errors
    /// Never for values that were accepted.
    pub fn json(&self) -> Result<String> {
        let mut object = serde_json::Map::new();
        for (key, measured) in self.rows() {
            let text = key.text(measured.value);
            object.insert(key.name.to_owned(), serde_json::from_str(&text)?);
        }
        Ok(format!("{}\n", serde_json::to_string_pretty(&object)?))
    }

    /// The names of counts that are above their hard limit.
    pub fn broken(&self) -> Vec<&'static str> {
        let broken =
            self.rows().filter(|(key, it)| matches!(key.bar, Bar::Never(_)) && key.met(it.value) == Some(false));
        broken.map(|(key, _)| key.name).collect()
    }

    fn rows(&self) -> impl Iterator<Item = (&'static Key, Measured)> + '_ {
        KEYS.iter().filter_map(|key| Some((key, *self.measured.get(key.name)?)))
    }
}

impl fmt::Display for Figures {
    /// A table for people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = format!("{:<40} {:>10} {:>10}  {:<7}  {:>4}\n", "figure", "value", "bar", "", "load");
        for (key, measured) in self.rows() {
            let met = key.met(measured.value).map_or("", |met| if met { "met" } else { "not met" });
            let (value, bar) = (key.text(measured.value), key.bar.to_string());
            writeln!(table, "{:<40} {value:>10} {bar:>10}  {met:<7}  {:>4.1}", key.name, measured.load)?;
        }
        formatter.write_str(table.trim_end())
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("–"),
            Self::AtLeast(bar) => write!(formatter, "≥ {bar}"),
            Self::AtMost(bar) | Self::Never(bar) => write!(formatter, "≤ {bar}"),
        }
    }
}

impl Key {
    fn text(&self, value: f64) -> String {
        format!("{value:.*}", usize::from(self.decimals))
    }

    /// Whether the bar is met; `None` without one. Judged as written, so that the table never contradicts itself.
    fn met(&self, value: f64) -> Option<bool> {
        let value: f64 = self.text(value).parse().ok()?;
        match self.bar {
            Bar::None => None,
            Bar::AtLeast(bar) => Some(value >= bar),
            Bar::AtMost(bar) | Bar::Never(bar) => Some(value <= bar),
        }
    }
}

/// The value below which `percent` of the sorted `values` lie; the nearest that was measured.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = f64::from(u32::try_from(sorted.len()).ok()?);
    let rank = (percent / 100.0 * count).ceil().max(1.0);
    // Counted up instead of cast down: no rank is lost or negative.
    let mut at = 0.0;
    sorted.into_iter().find(|_| {
        at += 1.0;
        at >= rank
    })
}

/// `total` shared among `count`; nothing among nobody.
pub fn per(total: u64, count: u32) -> f64 {
    let total = f64::from(u32::try_from(total).unwrap_or(u32::MAX));
    if count == 0 { 0.0 } else { total / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (name, value) in values {
            figures.set(name, *value, 1.25).unwrap();
        }
        figures
    }

    #[test]
    fn names_are_unique_and_only_known_ones_are_kept() {
        let names: std::collections::BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        assert!(Figures::default().set("issue.embedded.per_hour", 1.0, 0.0).is_err());
        assert!(Figures::default().set("start_ms", f64::NAN, 0.0).is_err());
    }

    #[test]
    fn the_table_has_bars_and_whether_they_are_met() {
        let figures =
            figures(&[("start_ms", 93.4), ("issue.embedded.ratio_to_raw", 0.494), ("raw.pairs_per_second", 301.6)]);
        let expected = "\
figure                                        value        bar           load
raw.pairs_per_second                            302          –            1.2
issue.embedded.ratio_to_raw                    0.49      ≥ 0.5  not met   1.2
start_ms                                         93      ≤ 500  met       1.2";
        assert_eq!(figures.to_string(), expected);
    }

    #[test]
    fn the_json_has_the_agreed_names_and_numbers() {
        let figures = figures(&[("idle.cpu_percent", 0.123), ("restart.api_writes", 0.0)]);
        let read: serde_json::Value = serde_json::from_str(&figures.json().unwrap()).unwrap();
        assert_eq!(read, serde_json::json!({"idle.cpu_percent": 0.12, "restart.api_writes": 0}));
    }

    #[test]
    fn a_count_above_its_limit_breaks_and_a_slow_rate_does_not() {
        let bad = figures(&[
            ("issue.api_writes_per_object", 2.002),
            ("issue.refused_writes_per_object", 0.0),
            ("idle.api_writes_per_minute", 1.0),
            ("issue.embedded.ratio_to_raw", 0.1),
            ("one.p50_ms", 900.0),
        ]);
        assert_eq!(bad.broken(), ["issue.api_writes_per_object", "idle.api_writes_per_minute"]);
        assert!(figures(&[("issue.api_writes_per_object", 2.0), ("restart.api_writes", 0.0)]).broken().is_empty());
    }

    #[test]
    fn the_larger_of_two_stays() {
        let mut figures = figures(&[("raw.pairs_per_second", 200.0)]);
        figures.raise("raw.pairs_per_second", 150.0, 9.0).unwrap();
        assert_eq!(figures.value("raw.pairs_per_second"), Some(200.0));
        figures.raise("raw.pairs_per_second", 250.0, 9.0).unwrap();
        assert_eq!(figures.value("raw.pairs_per_second"), Some(250.0));
    }

    #[test]
    fn percentiles_are_measured_values() {
        let fifty: Vec<f64> = (1..=50).rev().map(f64::from).collect();
        assert_eq!(percentile(&fifty, 50.0), Some(25.0));
        assert_eq!(percentile(&fifty, 99.0), Some(50.0));
        assert_eq!(percentile(&[7.0], 0.0), Some(7.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_share_is_exact() {
        assert!((per(1001, 500) - 2.002).abs() < 1e-12);
        assert!(per(3, 0).abs() < f64::EPSILON);
    }
}
