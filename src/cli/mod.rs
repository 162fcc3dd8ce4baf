//! The command line: one file a command. Parses and checks, calls, and turns ends into exit codes.

mod crds;
mod run;
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
}
