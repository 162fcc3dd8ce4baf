//! Tells the binary which compiler and which revision it is made of.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=COUNTERSIGN_REVISION");
    let revision = std::env::var_os("COUNTERSIGN_REVISION").and_then(|text| text.into_string().ok());
    println!("cargo::rustc-env=COUNTERSIGN_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=COUNTERSIGN_RUSTC={}", compiler().as_deref().unwrap_or("unknown"));
}

/// `rustc --version`, as far as it answers.
fn compiler() -> Option<String> {
    let rustc = std::env::var_os("RUSTC")?;
    let answer = std::process::Command::new(rustc).arg("--version").output().ok()?;
    let version = String::from_utf8(answer.stdout).ok()?;
    Some(version.trim().trim_start_matches("rustc ").to_owned())
}
