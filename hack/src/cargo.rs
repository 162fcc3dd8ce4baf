//! Cargo as a child, and what it says of its artifacts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::cache::repository;

/// Cargo in this clone, as the one that runs this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(arguments).current_dir(repository());
    command
}

/// The executable of `package` among cargo's messages, one JSON object a line.
pub fn executable(messages: &str, package: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        target: Named,
        executable: PathBuf,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.into_iter().find(|artifact| artifact.target.name == package).map(|artifact| artifact.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_libraries() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"countersign\"},\"executable\":null}\n\
                        not json\n\
                        {\"target\":{\"name\":\"countersign\"},\"executable\":\"/t/countersign\"}\n";
        assert_eq!(executable(messages, "countersign"), Some("/t/countersign".into()));
        assert_eq!(executable(messages, "shop"), None);
    }
}
