//! The rules of ARCHITECTURE.md and CONTRIBUTING.md that a machine can check, each with its reason.

use crate::{
    checks,
    source::{Source, names},
};

/// One rule. Where it says `in_paths`, an entry ending in `/` is a folder, else one file.
pub struct Rule {
    /// Short name, for the failure message.
    pub name: &'static str,
    /// Why we want it; the last word in an argument about it.
    pub reason: &'static str,
    /// Where it holds.
    pub in_paths: &'static [&'static str],
    /// Where it does not, inside of those.
    pub but_not: &'static [&'static str],
    /// What is wrong.
    pub check: Check,
    /// A file that breaks it: proof that the rule can fail.
    pub broken_by: (&'static str, &'static str),
}

/// How a rule looks at a file.
pub enum Check {
    /// Production code names none of these paths; see [`names`] for the notation.
    NoPath(&'static [&'static str]),
    /// The text, comments and tests included, has none of these.
    NoText(&'static [&'static str]),
    /// Anything else: returns lines and what is wrong with them.
    Lines(fn(&Source) -> Vec<(usize, String)>),
}

const ALL_RUST: &[&str] = &["core/", "src/", "e2e/", "hack/", "truth/", "examples/", "tests/", "benches/", "fuzz/"];
const MEMBERS: &[&str] =
    &["core/Cargo.toml", "e2e/Cargo.toml", "hack/Cargo.toml", "truth/Cargo.toml", "examples/shop/Cargo.toml"];
/// A file of one line more than that.
const LONG: &str = {
    const LINES: [[u8; 2]; checks::MOST_LINES + 1] = [*b";\n"; checks::MOST_LINES + 1];
    match std::str::from_utf8(LINES.as_flattened()) {
        Ok(text) => text,
        Err(_) => "",
    }
};

pub const RULES: &[Rule] = &[
    Rule {
        name: "core is pure",
        reason: "a decision that reads the world by itself can be neither simulated nor replayed",
        in_paths: &["core/src/"],
        but_not: &[],
        check: Check::NoPath(&[
            "^tokio",
            "^kube",
            "^kube_client",
            "^kube_runtime",
            "^reqwest",
            "^hyper",
            "^rustls",
            "^aws_lc_rs",
            "^rand",
            "^getrandom",
            "^std::env",
            "^std::fs",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "^std::process",
            "^std::thread",
            "SystemTime",
            "Instant",
            "Timestamp::now",
        ]),
        broken_by: ("core/src/identity/decide.rs", "//! x\nlet now = jiff::Timestamp::now();\n"),
    },
    Rule {
        name: "api imports nothing of ours",
        reason: "wire types are a contract; behaviour must not leak into them (`fault::Class` and `Reason` travel in the status)",
        in_paths: &["core/src/api/"],
        but_not: &[],
        check: Check::NoPath(&[
            "^crate::identity",
            "^crate::trust",
            "^crate::connection",
            "^crate::value",
            "^crate::next",
            "^crate::leader",
            "^crate::rights",
        ]),
        broken_by: ("core/src/api/trust_domain.rs", "//! x\nuse crate::{fault::Class, value::Names};\n"),
    },
    Rule {
        name: "value imports only api",
        reason: "a value is valid by itself, whoever uses it",
        in_paths: &["core/src/value/"],
        but_not: &[],
        check: Check::NoPath(&[
            "^crate::identity",
            "^crate::trust",
            "^crate::connection",
            "^crate::next",
            "^crate::leader",
            "^crate::rights",
            "^crate::fault",
        ]),
        broken_by: ("core/src/value/names.rs", "//! x\nuse crate::fault::Failure;\n"),
    },
    Rule {
        name: "identity knows no other kind",
        reason: "kinds meet in the world that the shell observes, not in each other's code",
        in_paths: &["core/src/identity/"],
        but_not: &[],
        check: Check::NoPath(&["^crate::trust", "^crate::connection"]),
        broken_by: ("core/src/identity/world.rs", "//! x\nuse crate::trust::World;\n"),
    },
    Rule {
        name: "trust knows no other kind",
        reason: "kinds meet in the world that the shell observes, not in each other's code",
        in_paths: &["core/src/trust/"],
        but_not: &[],
        check: Check::NoPath(&["^crate::identity", "^crate::connection"]),
        broken_by: ("core/src/trust/world.rs", "//! x\nuse crate::identity::World;\n"),
    },
    Rule {
        name: "connection knows no other kind",
        reason: "kinds meet in the world that the shell observes, not in each other's code",
        in_paths: &["core/src/connection/"],
        but_not: &[],
        check: Check::NoPath(&["^crate::identity", "^crate::trust"]),
        broken_by: ("core/src/connection/world.rs", "//! x\nuse crate::{api, trust};\n"),
    },
    Rule {
        name: "binding knows no other kind",
        reason: "kinds meet in the world that the shell observes, not in each other's code",
        in_paths: &["core/src/binding/"],
        but_not: &[],
        check: Check::NoPath(&["^crate::identity", "^crate::trust", "^crate::connection", "^crate::network"]),
        broken_by: ("core/src/binding/world.rs", "//! x\nuse crate::connection::World;\n"),
    },
    Rule {
        name: "network knows no other kind",
        reason: "who may talk is asked of ServiceAccounts and labels alone: a namespace can be closed without an identity of ours",
        in_paths: &["core/src/network/"],
        but_not: &[],
        check: Check::NoPath(&["^crate::identity", "^crate::trust", "^crate::connection", "^crate::binding"]),
        broken_by: ("core/src/network/compile.rs", "//! x\nuse crate::identity::World;\n"),
    },
    Rule {
        name: "kube::Api stays in src/cluster",
        reason: "there every call has its deadline, precondition and field manager; controllers only name an Api to watch it",
        in_paths: &["src/"],
        but_not: &[
            "src/cluster/",
            "src/controllers/",
            "src/runtime/leader.rs",
            "src/runtime/events.rs",
            "src/testing/",
        ],
        check: Check::NoPath(&["kube::Api", "kube::api::Api", "^Api"]),
        broken_by: ("src/issuers/embedded.rs", "//! x\nuse kube::{Api, Client};\n"),
    },
    Rule {
        name: "controllers do not call the API server",
        reason: "a write without src/cluster would have no precondition and no fence",
        in_paths: &["src/controllers/"],
        but_not: &[],
        check: Check::NoPath(&[
            "PatchParams",
            "PostParams",
            "DeleteParams",
            "ListParams",
            "GetParams",
            "kube::api::Patch",
        ]),
        broken_by: ("src/controllers/identity.rs", "//! x\nuse kube::api::{Patch, PatchParams};\n"),
    },
    Rule {
        name: "controllers do not decide",
        reason: "a branch on the spec belongs to core, where it is a tested, pure function",
        in_paths: &["src/controllers/"],
        but_not: &[],
        check: Check::Lines(checks::branches_on_spec),
        broken_by: ("src/controllers/identity.rs", "//! x\nif identity.spec.suspend == Some(true) {\n"),
    },
    Rule {
        name: "HTTP to Vault stays in src/vault",
        reason: "there tokens are kept, answers bounded and foreign errors turned into our own words",
        in_paths: &["src/"],
        but_not: &["src/vault/", "src/testing/"],
        check: Check::NoPath(&["^vaultrs", "^rustify", "^rustify_derive", "^reqwest"]),
        broken_by: ("src/issuers/vault_pki.rs", "//! x\nuse vaultrs::pki;\n"),
    },
    Rule {
        name: "only runtime::clock tells the time",
        reason: "a second clock cannot be paused by a test nor corrected for skew",
        in_paths: &["src/"],
        but_not: &["src/runtime/clock.rs"],
        check: Check::NoPath(&["Timestamp::now", "SystemTime::now", "OffsetDateTime::now_utc"]),
        broken_by: ("src/issuers/embedded.rs", "//! x\nlet now = Timestamp::now();\n"),
    },
    Rule {
        name: "only runtime::entropy rolls dice",
        reason: "a hidden source of randomness makes a failing seed impossible to replay; keys alone are made by the library itself",
        in_paths: &["src/"],
        but_not: &["src/runtime/entropy.rs", "src/issuers/keys.rs"],
        check: Check::NoPath(&[
            "^rand",
            "^getrandom",
            "aws_lc_rs::rand",
            "SystemRandom",
            "KeyPair::generate",
            "KeyPair::generate_for",
        ]),
        broken_by: ("src/issuers/embedded.rs", "//! x\nuse aws_lc_rs::{digest, rand};\n"),
    },
    Rule {
        name: "only main and cli touch the process",
        reason: "what a function depends on is in its arguments; and nobody else may end the process",
        in_paths: &["src/"],
        but_not: &["src/main.rs", "src/cli/"],
        check: Check::NoPath(&["env::var", "env::vars", "env::args", "env::var_os", "process::exit"]),
        broken_by: ("src/runtime/leader.rs", "//! x\nstd::process::exit(3);\n"),
    },
    Rule {
        name: "issuers do not import each other",
        reason: "a new issuer is one file and one line; a shared part belongs to verify.rs or core",
        in_paths: &["src/issuers/"],
        but_not: &["src/issuers/mod.rs", "src/issuers/tests/"],
        check: Check::NoPath(&["super::embedded", "super::vault_pki", "issuers::embedded", "issuers::vault_pki"]),
        broken_by: ("src/issuers/embedded.rs", "//! x\nuse super::vault_pki::Answer;\n"),
    },
    Rule {
        name: "files are small",
        reason: "a file that does not fit in a head holds more than one idea",
        in_paths: ALL_RUST,
        but_not: &[],
        check: Check::Lines(checks::too_long),
        broken_by: ("src/x.rs", LONG),
    },
    Rule {
        name: "a module introduces itself",
        reason: "the first line says what it does, what it must not know and who calls it",
        in_paths: ALL_RUST,
        but_not: &[],
        check: Check::Lines(checks::no_introduction),
        broken_by: ("src/x.rs", "use std::fmt;\n"),
    },
    Rule {
        name: "nothing is left to do",
        reason: "an unfinished branch is a panic in somebody's cluster",
        in_paths: ALL_RUST,
        but_not: &[],
        check: Check::Lines(checks::unfinished),
        broken_by: ("src/x.rs", "//! x\nfn f() { todo!() }\n"),
    },
    Rule {
        name: "an ignored test says why",
        reason: "otherwise nobody knows when it may run again",
        in_paths: ALL_RUST,
        but_not: &[],
        check: Check::Lines(checks::ignored_without_reason),
        broken_by: ("tests/x.rs", "//! x\n#[ignore]\nfn t() {}\n"),
    },
    Rule {
        name: "a silenced lint says why",
        reason: "a lint is advice that we took; going against it is a decision with an author and a reason",
        in_paths: ALL_RUST,
        but_not: &[],
        check: Check::Lines(checks::silenced_without_reason),
        broken_by: ("src/x.rs", "//! x\n#[allow(dead_code)]\nfn f() {}\n"),
    },
    Rule {
        name: "functions, not doers",
        reason: "a Manager or Helper has no idea of its own, so everything ends up in it",
        in_paths: ALL_RUST,
        but_not: &[],
        check: Check::Lines(checks::doers),
        broken_by: ("src/x.rs", "//! x\npub struct CertificateManager;\n"),
    },
    Rule {
        name: "no path of somebody's machine",
        reason: "it works nowhere else, and tells where it was written",
        in_paths: &[""],
        but_not: &["tests/tidy/", "Cargo.lock"],
        check: Check::NoText(&["/root/", "/home/", "/Users/"]),
        broken_by: ("docs/x.md", "see /home/me/notes\n"),
    },
    Rule {
        name: "no Rust in Markdown",
        reason: "nothing compiles it, so it rots; examples live in rustdoc and examples/",
        in_paths: &[""],
        but_not: &["tests/tidy/"],
        check: Check::NoText(&["```rust"]),
        broken_by: ("docs/x.md", "```rust\nlet x = 1;\n```\n"),
    },
    Rule {
        name: "every package takes the workspace's lints",
        reason: "one package without them is where the unwraps go",
        in_paths: MEMBERS,
        but_not: &[],
        check: Check::Lines(checks::lints_not_inherited),
        broken_by: ("hack/Cargo.toml", "[package]\nname = \"xtask\"\n"),
    },
    Rule {
        name: "versions and features stand in one place",
        reason: "two members that ask for a crate in two ways get a third way, by feature unification",
        in_paths: MEMBERS,
        but_not: &[],
        check: Check::Lines(checks::versions_of_its_own),
        broken_by: ("hack/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
    },
];

impl Rule {
    /// Whether it holds for this file at all.
    pub fn applies(&self, path: &str) -> bool {
        let covers = |paths: &[&str]| {
            paths.iter().any(|p| p.is_empty() || *p == path || (p.ends_with('/') && path.starts_with(p)))
        };
        covers(self.in_paths) && !covers(self.but_not) && (self.reads_any_file() || is_rust(path))
    }

    /// Lines that break it, with what is wrong.
    pub fn find(&self, source: &Source) -> Vec<(usize, String)> {
        match self.check {
            Check::NoPath(wanted) => {
                let paths = source.paths().into_iter();
                let hit = |path: &str| wanted.iter().any(|wanted| names(path, wanted));
                paths.filter(|named| hit(&named.path)).map(|named| (named.line, format!("`{}`", named.path))).collect()
            }
            Check::NoText(wanted) => {
                let lines = source.text.lines().enumerate();
                let hits = lines.filter_map(|(index, line)| {
                    wanted.iter().find(|text| line.contains(*text)).map(|text| (index + 1, format!("`{text}`")))
                });
                hits.collect()
            }
            Check::Lines(check) => check(source),
        }
    }

    fn reads_any_file(&self) -> bool {
        matches!(self.check, Check::NoText(_)) || self.in_paths.iter().any(|path| path.ends_with("Cargo.toml"))
    }
}

fn is_rust(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|extension| extension == "rs")
}
