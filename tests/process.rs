//! The binary as a whole: exit codes, signals, what it prints and where.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The binary with an empty environment.
fn countersign(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.env_clear().args(arguments);
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    texts(&countersign(arguments).output().unwrap())
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A kubeconfig for a server at `port` of this machine; removed when dropped.
struct KubeconfigFile(PathBuf);

impl KubeconfigFile {
    fn new(name: &str, port: u16) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for KubeconfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running operator and its log lines; killed when dropped.
struct Running {
    process: Child,
    lines: BufReader<ChildStderr>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut process = countersign(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap());
        Self { process, lines }
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// The next line that says `message`.
    fn wait_for(&mut self, message: &str) -> Value {
        while let Some(line) = self.line() {
            if line["msg"] == message {
                return line;
            }
        }
        panic!("it ended without saying {message:?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(port: &Value, path: &str) -> String {
    let port = u16::try_from(port.as_u64().unwrap()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn bad_flags_exit_with_2_and_help_with_0() {
    for arguments in [
        &["run", "--concurrency=0"][..],
        &["run", "--lease-duration=10s", "--lease-grace=10s"],
        &["run", "--rbac-profile=Guarded"],
        &["jump"],
        &[],
    ] {
        let (code, out, err) = output(arguments);
        assert_eq!((code, out.as_str(), err.is_empty()), (Some(2), "", false), "{arguments:?}");
    }
    let (code, out, err) = output(&["run", "--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("--drift-interval") && out.contains("COUNTERSIGN_DRIFT_INTERVAL"), "{out}");
}

#[test]
fn a_flag_wins_over_the_environment() {
    let run = |arguments: &[&str]| {
        let mut command = countersign(&["run"]);
        command.args(arguments).env("COUNTERSIGN_CONCURRENCY", "0");
        texts(&command.output().unwrap()).0
    };
    assert_eq!(run(&[]), Some(2), "the variable is read");
    assert_eq!(run(&["--concurrency=1"]), Some(1), "the flag wins; there is no cluster");
}

#[test]
fn version_and_crds_print_to_standard_output() {
    let (code, out, err) = output(&["version"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("countersign {} (revision ", env!("CARGO_PKG_VERSION"))), "{out}");

    let (code, out, _) = output(&["crds"]);
    assert_eq!(code, Some(0));
    let kinds = out.split("---\n").filter(|document| document.contains("kind: CustomResourceDefinition"));
    assert_eq!(kinds.count(), 8);
}

#[test]
fn an_ambient_kubeconfig_is_not_used() {
    let file = KubeconfigFile::new("ambient", 1);
    let (code, _, err) = texts(&countersign(&["run"]).env("KUBECONFIG", file.path()).output().unwrap());
    assert_eq!(code, Some(1));
    let line: Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert!(line["why"].as_str().unwrap().contains("give --kubeconfig"), "{line}");
}

#[test]
fn it_answers_probes_and_stops_in_time_while_the_api_server_hangs() {
    // Accepts connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = KubeconfigFile::new("silent", silent.local_addr().unwrap().port());
    for signal in [Signal::TERM, Signal::INT] {
        let kubeconfig = format!("--kubeconfig={}", file.path());
        let addresses = ["--metrics-address=127.0.0.1:0", "--probe-address=127.0.0.1:0"];
        let mut operator = Running::start(&[
            "run",
            &kubeconfig,
            addresses[0],
            addresses[1],
            "--time-scale=2",
            "--allow-loopback-connections",
        ]);
        operator.wait_for("time is scaled: only for tests and demos");
        operator.wait_for("connections may point at this machine: only for tests and demos");
        let started = operator.wait_for("started");
        assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
        silent.accept().unwrap();

        assert!(get(&started["probes"], "/livez?verbose").contains("[+]election ok"));
        let ready = get(&started["probes"], "/readyz");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("[-]api_server failed"), "{ready}");
        assert!(get(&started["metrics"], "/metrics").contains("countersign_leader 0\n"));
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", operator.process.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);

        let told = Instant::now();
        operator.signal(signal);
        operator.wait_for("stopped");
        assert_eq!(operator.process.wait().unwrap().code(), Some(0));
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    }
}
