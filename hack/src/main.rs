//! Developer commands.

mod chart;

fn main() -> anyhow::Result<()> {
    chart::run(std::env::args().any(|argument| argument == "--check"))
}
