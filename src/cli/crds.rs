//! `countersign crds`.

use super::{FATAL, print};

/// Prints every CRD as one YAML stream.
pub(super) fn run() -> u8 {
    let Ok(files) = countersign_core::api::crd_files() else {
        eprintln!("countersign: the CRDs cannot be written as YAML");
        return FATAL;
    };
    let documents: Vec<_> = files.into_iter().map(|(_, yaml)| yaml).collect();
    print(&documents.join("---\n"))
}
