//! `countersign crds`.

use countersign_core::api::crd_files;

use super::{FATAL, print};

/// Prints every CRD as one YAML stream, ready to be applied.
pub(super) fn run() -> u8 {
    let documents: Result<Vec<_>, _> = crd_files().iter().map(|(_, crd)| serde_saphyr::to_string(crd)).collect();
    let Ok(documents) = documents else {
        eprintln!("countersign: the CRDs cannot be written as YAML");
        return FATAL;
    };
    print(&documents.join("---\n"))
}
