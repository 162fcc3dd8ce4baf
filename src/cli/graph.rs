//! `countersign graph`: who may talk to whom, as declared.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use countersign_core::{
    api::{EdgePhase, Reason},
    network::{
        compiled::Edge,
        consent::Pair,
        decide::Decision,
        report::{phase, ports},
    },
};
use serde::Serialize;

use super::{
    NOTHING_MATCHED, OK, UNSEEN, network,
    shared::{Access, answer, columns, json, with_view},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    access: Access,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: one edge a line
    Text,
    /// For programs: stable and documented
    Json,
    /// For Graphviz
    Dot,
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Graph {
    edges: Vec<Line>,
}

/// One edge.
#[derive(Debug, Serialize)]
struct Line {
    from: String,
    to: String,
    ports: Vec<String>,
    state: EdgePhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Prints the graph.
pub(super) fn run(arguments: &Arguments) -> u8 {
    with_view(&arguments.access, |view, clock| async move {
        let decision = match Box::pin(network::look(&view, clock.now())).await {
            Ok(decision) => decision,
            Err(why) => {
                eprintln!("error: {why}");
                return UNSEEN;
            }
        };
        let graph = graph(&decision);
        let code = if graph.edges.is_empty() { NOTHING_MATCHED } else { OK };
        let text = match arguments.output {
            Format::Text => text(&graph),
            Format::Json => json("GraphResult", &graph),
            Format::Dot => dot(&graph),
        };
        answer(&text, code)
    })
}

fn graph(decision: &Decision) -> Graph {
    Graph { edges: decision.compiled.edges.iter().map(|(pair, edge)| line(pair, edge)).collect() }
}

fn line(pair: &Pair, edge: &Edge) -> Line {
    let (state, reason) = phase(edge.state);
    Line {
        from: pair.client.to_string(),
        to: pair.server.to_string(),
        ports: edge.ports.openings().map(ports).collect(),
        state,
        reason: reason.map(Reason::name),
    }
}

fn text(graph: &Graph) -> String {
    if graph.edges.is_empty() {
        return "nothing is declared\n".to_owned();
    }
    let mut lines = vec![["FROM", "TO", "STATE", "REASON", "PORTS"].map(str::to_owned).to_vec()];
    for edge in &graph.edges {
        lines.push(vec![
            edge.from.clone(),
            edge.to.clone(),
            format!("{:?}", edge.state),
            edge.reason.unwrap_or("-").to_owned(),
            if edge.ports.is_empty() { "-".to_owned() } else { edge.ports.join(", ") },
        ]);
    }
    columns(&lines, &[36, 36, 8, 17])
}

/// Graphviz: what is not open is drawn dashed.
fn dot(graph: &Graph) -> String {
    let mut text = "digraph countersign {\n".to_owned();
    for Line { from, to, ports, state, reason } in &graph.edges {
        let style = if *state == EdgePhase::Live { "solid" } else { "dashed" };
        let label = reason.map_or_else(|| ports.join(", "), str::to_owned);
        // Names of namespaces and accounts hold no quote.
        let _ = writeln!(text, "  \"{from}\" -> \"{to}\" [label=\"{label}\", style={style}];");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Graph {
        let line = |to: &str, state, reason| Line {
            from: "shop/order".to_owned(),
            to: to.to_owned(),
            ports: vec!["TCP 8443".to_owned()],
            state,
            reason,
        };
        Graph {
            edges: vec![
                line("payments/payment", EdgePhase::Live, None),
                line("tools/log", EdgePhase::Pending, Some("GrantMissing")),
            ],
        }
    }

    #[test]
    fn a_graph_is_read_by_people_and_by_graphviz() {
        assert_eq!(
            text(&two()),
            "FROM        TO                STATE    REASON        PORTS\n\
             shop/order  payments/payment  Live     -             TCP 8443\n\
             shop/order  tools/log         Pending  GrantMissing  TCP 8443\n"
        );
        assert_eq!(
            dot(&two()),
            "digraph countersign {\n  \"shop/order\" -> \"payments/payment\" [label=\"TCP 8443\", style=solid];\n  \
             \"shop/order\" -> \"tools/log\" [label=\"GrantMissing\", style=dashed];\n}\n"
        );
        assert_eq!(text(&Graph { edges: Vec::new() }), "nothing is declared\n");
    }
}
