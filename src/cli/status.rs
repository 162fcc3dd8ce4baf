//! `countersign status`: one line for each object, the worst first.

use clap::Args;
use countersign_core::{
    api::{SecretBinding, ServiceIdentity, TrustDomain, VaultConnection, Verdict},
    explain::{
        Unseen,
        overview::{self, Kind, Row, Summary, sort, summary},
    },
};
use futures::join;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    NOT_SO, NOTHING_MATCHED, OK, UNSEEN,
    shared::{Access, Output, answer, columns, json, remaining, with_view},
};
use crate::{
    cluster::inspect::{Listed, Span, View},
    runtime::settings,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Namespace of the identities [default: that of the kubeconfig or pod]
    #[arg(short, long, value_parser = settings::label, value_name = "NAME")]
    namespace: Option<String>,

    /// Identities of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,

    #[command(flatten)]
    access: Access,
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview {
    objects: Vec<Row>,
    summary: Summary,
    not_shown: Vec<NotShown>,
}

/// A kind that could not be listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NotShown {
    kind: Kind,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_right: Option<String>,
    #[serde(skip)]
    matters: bool,
}

/// Prints the overview.
pub(super) fn run(arguments: &Arguments) -> u8 {
    with_view(&arguments.access, |view, clock| async move {
        let span = match &arguments.namespace {
            _ if arguments.all_namespaces => Span::Everywhere,
            Some(namespace) => Span::Namespace(namespace.clone()),
            None => Span::Namespace(view.namespace().to_owned()),
        };
        let overview = look(&view, &span, || clock.now()).await;
        let text = match arguments.output {
            Output::Text => text(&overview, clock.now()),
            Output::Json => json("StatusResult", &overview),
        };
        answer(&text, code(&overview))
    })
}

async fn look(view: &View, span: &Span, now: impl Fn() -> Timestamp) -> Overview {
    let (connections, domains, identities, bindings) = join!(
        view.list_global::<VaultConnection>(),
        view.list_global::<TrustDomain>(),
        view.list::<ServiceIdentity>(span),
        view.list::<SecretBinding>(span)
    );
    // Only now: the answers have told how far our clock is from the server's.
    let now = now();
    let mut overview = Overview { objects: Vec::new(), summary: Summary::default(), not_shown: Vec::new() };
    overview.add(Kind::VaultConnection, connections, |object| overview::connection(object, now));
    overview.add(Kind::TrustDomain, domains, |object| overview::domain(object, now));
    overview.add(Kind::ServiceIdentity, identities, |object| overview::identity(object, now));
    overview.add(Kind::SecretBinding, bindings, |object| overview::binding(object, now));
    sort(&mut overview.objects);
    overview.summary = summary(&overview.objects, now);
    overview
}

impl Overview {
    fn add<K>(&mut self, kind: Kind, listed: Result<Listed<K>, Unseen>, row: impl Fn(&K) -> Row) {
        match listed {
            Ok(listed) => {
                self.objects.extend(listed.objects.iter().map(row));
                self.objects.extend(listed.unreadable.iter().map(|meta| overview::unreadable(kind, meta)));
            }
            Err(why) => {
                let missing_right = why.right().map(ToString::to_string);
                // A team may look at its own namespace only, and that is all it asked for.
                let is_theirs = matches!(kind, Kind::ServiceIdentity | Kind::SecretBinding);
                let matters = is_theirs || missing_right.is_none();
                self.not_shown.push(NotShown { kind, message: why.to_string(), missing_right, matters });
            }
        }
    }
}

fn code(overview: &Overview) -> u8 {
    if overview.objects.iter().any(|row| row.ready != Verdict::True) {
        NOT_SO
    } else if overview.not_shown.iter().any(|kind| kind.matters) {
        UNSEEN
    } else if overview.objects.is_empty() {
        NOTHING_MATCHED
    } else {
        OK
    }
}

fn text(overview: &Overview, now: Timestamp) -> String {
    let mut lines =
        vec![["KIND", "NAMESPACE", "NAME", "READY", "REASON", "EXPIRES", "WAITS-FOR"].map(str::to_owned).to_vec()];
    for row in &overview.objects {
        lines.push(vec![
            row.kind.short().to_owned(),
            row.namespace.clone().unwrap_or_else(|| "-".to_owned()),
            row.name.clone(),
            format!("{:?}", row.ready),
            row.reason.clone(),
            row.expires.map_or_else(|| "-".to_owned(), |end| remaining(end, now)),
            row.waits_for.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let mut text = if overview.objects.is_empty() { String::new() } else { columns(&lines, &[5, 24, 32, 7, 21, 7]) };
    for kind in &overview.not_shown {
        text.extend([format!("{:?} objects are not shown: {}\n", kind.kind, kind.message)]);
    }
    let Summary { total, ready, not_ready, unknown, next_expiry } = overview.summary;
    text.extend([format!("{total} objects: {ready} ready, {not_ready} not ready, {unknown} unknown")]);
    if let Some(end) = next_expiry {
        text.extend([format!("; the next end is in {} ({end})", remaining(end, now))]);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
