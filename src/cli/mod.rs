//! The command line: one file a command. Parses and checks, calls, and turns ends into exit codes.

mod check;
mod crds;
mod explain;
#[cfg(test)]
mod fake;
mod graph;
mod network;
mod reach;
mod run;
mod shared;
mod status;
mod version;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Everything went well, or `run` was told to stop.
const OK: u8 = 0;
/// Something went wrong that a restart may heal.
const FATAL: u8 = 1;
/// Bad flags; a restart heals nothing.
const USAGE: u8 = 2;
/// `run` lost its leadership.
const LEADERSHIP_LOST: u8 = 3;
/// A question was answered: no.
const NOT_SO: u8 = 1;
/// A question could not be answered.
const UNSEEN: u8 = 3;
/// There is nothing to answer about.
const NOTHING_MATCHED: u8 = 5;

/// Gives every service in a Kubernetes cluster an identity, from Vault or OpenBao.
#[derive(Debug, Parser)]
#[command(name = "countersign", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Run(Box<run::Arguments>),
    /// Show every connection, trust domain and identity, the worst first.
    Status(Box<status::Arguments>),
    /// Show what an object depends on, and the first thing that is broken.
    Explain(Box<explain::Arguments>),
    /// Show who may talk to whom, as declared.
    Graph(Box<graph::Arguments>),
    /// Say whether one identity may call another, and what is missing.
    Reach(Box<reach::Arguments>),
    /// Check that the installation is as it should be.
    Check(Box<check::Arguments>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Print version, revision and compiler.
    Version,
}

/// Runs the command that `arguments` ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let code = match Cli::try_parse_from(arguments) {
        Ok(cli) => match cli.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Status(arguments) => status::run(&arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Graph(arguments) => graph::run(&arguments),
            Command::Reach(arguments) => reach::run(&arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Crds => crds::run(),
            Command::Version => version::run(),
        },
        // Help is an answer, not an error; both are printed where they belong.
        Err(answer) => match answer.print() {
            Ok(()) if !answer.use_stderr() => OK,
            _ => USAGE,
        },
    };
    ExitCode::from(code)
}

/// Writes a command's answer to standard output.
fn print(text: &str) -> u8 {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => OK,
        Err(_) => FATAL,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Nothing is read from the environment but what carries our prefix and the flag's own name.
    #[test]
    fn every_flag_has_the_variable_of_its_name() {
        let cli = Cli::command();
        let run = cli.get_subcommands().find(|command| command.get_name() == "run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_id() != "help") {
            let name = flag.get_long().unwrap();
            let variable = format!("COUNTERSIGN_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(flag.get_env().unwrap().to_str().unwrap(), variable);
        }
    }

    #[test]
    fn every_command_and_flag_for_people_is_in_the_manual() {
        let manual = include_str!("../../docs/reference/cli.md");
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            let name = command.get_name();
            assert!(manual.contains(&format!("## `countersign {name}`")), "{name} has no heading");
            // `run` has its flags in --help and in the chart's values.
            for flag in command.get_arguments().filter(|flag| name != "run" && flag.get_id() != "help") {
                let position = || flag.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
                let shown = flag.get_long().map(|long| format!("`--{long}")).or_else(position).unwrap();
                assert!(manual.contains(&shown), "{name} {shown}");
            }
        }
    }

    /// What a person types has no variable; what an installation sets may have one, of the flag's own name.
    #[test]
    fn no_variable_has_another_name_than_its_flag() {
        let cli = Cli::command();
        let flags = cli.get_subcommands().flat_map(clap::Command::get_arguments);
        let mut seen = 0;
        for (flag, variable) in flags.filter_map(|flag| flag.get_env().map(|variable| (flag, variable))) {
            let name = flag.get_long().unwrap();
            let expected = format!("COUNTERSIGN_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(variable.to_str().unwrap(), expected);
            seen += 1;
        }
        assert!(seen > 20, "only {seen} were seen");
    }
}
