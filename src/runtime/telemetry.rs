//! Log lines: one JSON object a line, or short text on a terminal.
//!
//! Only our own targets are enabled. Other crates put foreign error texts, URLs and sometimes whole
//! values into their lines, so they are off and no level turns them on; what we need of them is
//! classified and logged in our own words. `cli` calls this once, at start.

mod line;

use std::{
    io::{IsTerminal as _, Write},
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use self::line::{Fields, Line};
use super::clock::Clock;

/// Our crates' targets begin with it.
const OURS: &str = "countersign";

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Time, level, message and `key=value` pairs.
    Text,
}

impl Format {
    /// Text on a terminal, else JSON.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("must be json or text"),
        }
    }
}

/// Writes lines of `level` and above to standard error from now on.
///
/// # Errors
/// Somebody has already installed a subscriber.
pub fn init(format: Format, level: Level, clock: Clock) -> Result<(), &'static str> {
    subscriber(format, level, clock, std::io::stderr())
        .try_init()
        .map_err(|_| "log lines are already going somewhere else")
}

fn subscriber(
    format: Format,
    level: Level,
    clock: Clock,
    out: impl Write + Send + 'static,
) -> impl Subscriber + Send + Sync {
    let lines = Lines { format, clock, out: Mutex::new(out) };
    tracing_subscriber::registry().with(lines.with_filter(Targets::new().with_target(OURS, level)))
}

struct Lines<W> {
    format: Format,
    clock: Clock,
    out: Mutex<W>,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(own) = span.extensions().get::<Fields>() {
                fields.extend(own);
            }
        }
        event.record(&mut fields);
        let line = Line { at: self.clock.precise(), level: *event.metadata().level(), fields };
        let text = match self.format {
            Format::Json => line.json(),
            Format::Text => line.text(),
        };
        // Nobody is left to tell that a log line could not be written.
        let _ = self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn clock() -> Clock {
        Clock::simulated("2026-01-01T00:00:00.25Z".parse().unwrap(), 0)
    }

    fn written(format: Format, level: Level, work: impl FnOnce()) -> String {
        let out = Written::default();
        with_default(subscriber(format, level, clock(), out.clone()), work);
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn each_line_is_one_json_object_with_the_fields_of_its_spans() {
        let text = written(Format::Json, Level::INFO, || {
            let outer = tracing::info_span!("reconcile", controller = "identity", namespace = "shop", attempt = 1);
            let _outer = outer.enter();
            let inner = tracing::info_span!("effect", name = tracing::field::Empty);
            inner.record("name", "or\"ders\n");
            let _inner = inner.enter();
            tracing::info!(
                reconcileId = 7_u64,
                attempt = 2,
                ok = true,
                share = 0.5,
                odd = f64::NAN,
                "certificate stored"
            );
            tracing::warn!("second");
            tracing::debug!("not written");
        });
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({
                "ts": "2026-01-01T00:00:00.250Z", "level": "info", "msg": "certificate stored",
                "controller": "identity", "namespace": "shop", "name": "or\"ders\n",
                "reconcileId": 7, "attempt": 2, "ok": true, "share": 0.5, "odd": null,
            })
        );
        assert!(
            text.starts_with("{\"ts\":\"2026-01-01T00:00:00.250Z\",\"level\":\"info\",\"msg\":\"certificate stored\",")
        );
        assert_eq!((lines[1]["level"].as_str(), lines[1]["msg"].as_str()), (Some("warn"), Some("second")));
        assert_eq!(lines.len(), 2);
    }

    #[tokio::test]
    async fn foreign_targets_are_off_at_every_level() {
        let text = written(Format::Json, Level::TRACE, || {
            for work in [
                || tracing::error!(target: "vaultrs::client", "canary"),
                || tracing::error!(target: "rustify::endpoint", "canary"),
                || tracing::error!(target: "hyper::proto", "canary"),
                || tracing::error!(target: "kube_client::client", "canary"),
                || tracing::error!(target: "kube_runtime::controller", "canary"),
            ] {
                work();
            }
            let span = tracing::error_span!(target: "vaultrs", "request", token = "canary");
            let _entered = span.enter();
            tracing::trace!("ours");
            tracing::trace!(target: "countersign_core::identity", "the core's");
        });
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[tokio::test]
    async fn the_text_of_a_foreign_error_is_withheld_and_own_names_cannot_be_taken() {
        let text = written(Format::Json, Level::INFO, || {
            let error = std::io::Error::other("canary");
            tracing::info!(error = &error as &dyn std::error::Error, level = "mine", ts = 1, "failed");
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["error"], &line["level"]), (&"(withheld)".into(), &"info".into()));
        assert!(!text.contains("canary") && text.matches("\"ts\"").count() == 1);
    }

    #[tokio::test]
    async fn text_lines_are_short_and_carry_no_control_characters() {
        let text = written(Format::Text, Level::INFO, || {
            tracing::warn!(name = "a\u{1b}[31m b", n = 3, plain = "shop", "late");
        });
        assert_eq!(text, "2026-01-01T00:00:00.250Z WARN  late name=\"a\\u{1b}[31m b\" n=3 plain=shop\n");
    }
}
