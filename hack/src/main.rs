//! Developer commands.

mod chart;
mod crds;
mod docs;

fn main() -> anyhow::Result<()> {
    let check = std::env::args().any(|argument| argument == "--check");
    crds::run(check)?;
    chart::run(check)?;
    docs::run(check)
}
