//! The chart as Helm sees it: what it renders, what it refuses, and that its parts agree.
//!
//! Needs the feature `chart` and two programs: `COUNTERSIGN_HELM` (helm) and
//! `COUNTERSIGN_KUBERNETES_VALIDATE` (kubernetes-validate). `cargo xtask test` provides both.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise; clippy.toml grants that to test functions only, not to what they call"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Kubernetes minors that the chart is promised for.
const MINORS: [&str; 5] = ["1.33", "1.34", "1.35", "1.36", "1.37"];

/// The defaults and nothing else.
const NO_FILES: [&str; 0] = [];

#[test]
fn every_case_passes_the_linter() {
    for (name, files) in cases() {
        let output = run(helm().args(["lint", "--strict"]).arg(chart()).args(with(&files)));
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
}

#[test]
fn every_case_renders_valid_objects_for_every_minor() {
    let scratch = Scratch::new("valid");
    for (name, files) in cases() {
        for minor in MINORS {
            let file = scratch.0.join(format!("{name}-{minor}.yaml"));
            fs::write(&file, render(&files, minor)).unwrap();
            let output = run(program("COUNTERSIGN_KUBERNETES_VALIDATE").args(["--strict", "-k", minor]).arg(&file));
            assert!(output.status.success(), "{name} for {minor}: {}", text(&output));
        }
    }
}

#[test]
fn two_renders_are_byte_equal() {
    for (name, files) in cases() {
        assert_eq!(render(&files, "1.37"), render(&files, "1.37"), "{name}");
    }
}

#[test]
fn templates_ask_neither_cluster_nor_clock_nor_dice() {
    for file in files_below(&chart().join("templates")) {
        let template = fs::read_to_string(&file).unwrap();
        for action in template.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
            let action = action.trim_matches(['-', ' ']);
            let words: Vec<&str> = action.split(|c: char| !c.is_alphanumeric()).collect();
            for word in ["lookup", "now", "date", "uuidv4", "genCA", "genPrivateKey", "randAlphaNum", "getHostByName"] {
                assert!(
                    action.starts_with("/*") || !words.contains(&word),
                    "{}: `{word}` in `{action}`",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn an_older_cluster_is_refused() {
    let output = run(helm().args(["template", "countersign"]).arg(chart()).args(["--kube-version", "1.32.9"]));
    assert!(!output.status.success());
    assert!(text(&output).contains("kubeVersion: >=1.33.0-0"), "{}", text(&output));
}

#[test]
fn bad_values_are_refused_for_the_reason_given() {
    let files = files_below(&tests().join("bad-values"));
    assert!(files.len() >= 30, "{} files", files.len());
    for file in files {
        let values = fs::read_to_string(&file).unwrap();
        let reason = values.lines().next().and_then(|line| line.strip_prefix("# refused: ")).unwrap();
        let output = run(template().arg("-f").arg(&file));
        assert!(!output.status.success(), "{} was accepted", file.display());
        assert!(text(&output).contains(reason), "{}: no `{reason}` in {}", file.display(), text(&output));
    }
}

#[test]
fn the_hardened_preset_asks_for_the_addresses() {
    let output = run(template().args(with(&["values-hardened.yaml"])));
    assert!(!output.status.success());
    assert!(text(&output).contains("give networkPolicy.egress.apiServerCIDRs"), "{}", text(&output));
}

#[test]
fn the_hardened_case_is_the_hardened_preset_and_addresses() {
    let alone = render(&["ci/hardened-values.yaml"], "1.37");
    let together = render(&["values-hardened.yaml", "ci/hardened-values.yaml"], "1.37");
    assert_eq!(alone, together);
}

#[test]
fn it_is_no_subchart() {
    let scratch = Scratch::new("parent");
    let parent = "apiVersion: v2\nname: parent\nversion: 0.0.1\n";
    fs::write(scratch.0.join("Chart.yaml"), parent).unwrap();
    copy(&chart(), &scratch.0.join("charts/countersign"));
    let output = run(helm().args(["template", "parent"]).arg(&scratch.0));
    assert!(!output.status.success());
    assert!(text(&output).contains("countersign cannot be a subchart"), "{}", text(&output));
}

/// Definitions are left out: they are long, and compared with the code where they are generated.
#[test]
fn what_is_rendered_is_what_was_reviewed() {
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("chart/goldens");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings
    };
    settings.bind(|| {
        for (name, files) in cases() {
            let output = run(template().args(with(&files)).args(["--set", "crds.enabled=false"]));
            assert!(output.status.success(), "{name}: {}", text(&output));
            insta::assert_snapshot!(name, String::from_utf8(output.stdout).unwrap());
        }
    });
}

#[test]
fn the_canary_never_looks_like_one_of_our_secrets() {
    for (name, files) in cases() {
        let objects = objects(&render(&files, "1.37"));
        let canary = objects
            .iter()
            .find(|object| object["kind"] == "Secret" && object["metadata"]["name"] == "countersign-fence-canary");
        let canary = canary.unwrap_or_else(|| panic!("{name}: no canary"));
        assert_eq!(canary["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm", "{name}");
        assert!(canary["data"].is_null() && canary["stringData"].is_null(), "{name}: it is empty");
    }
}

#[test]
fn definitions_are_kept_and_carry_their_hash() {
    let objects = objects(&render(&NO_FILES, "1.37"));
    let definitions: Vec<&Value> = objects.iter().filter(|o| o["kind"] == "CustomResourceDefinition").collect();
    assert!(!definitions.is_empty());
    for definition in definitions {
        let annotations = &definition["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/resource-policy"], "keep", "{}", definition["metadata"]["name"]);
        assert_eq!(annotations["countersign.dev/schema-hash"].as_str().map(str::len), Some(64));
    }
}

#[test]
fn no_object_carries_a_secret_value_and_no_custom_resource_is_rendered() {
    for (name, files) in cases() {
        for object in objects(&render(&files, "1.37")) {
            assert!(!object["apiVersion"].as_str().unwrap().starts_with("countersign.dev/"), "{name}");
            assert!(object["kind"] != "Secret" || object["data"].is_null(), "{name}");
        }
    }
}

#[test]
fn the_schema_knows_exactly_the_values() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    compare(&schema, &schema, &values, "");
}

/// Every map of the schema either lists its keys and allows no other, or is a map by nature.
#[test]
fn the_schema_is_strict_at_every_level() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut loose = Vec::new();
    strictness(&schema, "", &mut loose);
    assert_eq!(loose, ["/definitions/kubernetesObject"], "these maps allow any key");
}

/// Keys of the schema and of the defaults are the same, down to values that are no fixed map.
fn compare(root: &Value, schema: &Value, values: &Value, path: &str) {
    let schema = resolve(root, schema);
    let (Some(known), Some(given)) = (schema["properties"].as_object(), values.as_object()) else { return };
    // Shapes of Kubernetes, of which the chart sets only a part.
    let in_part = ["/podSecurityContext", "/securityContext", "/resources"].iter().any(|part| path.starts_with(part));
    let known_keys: BTreeSet<&String> = known.keys().collect();
    let given_keys: BTreeSet<&String> = given.keys().collect();
    if in_part {
        assert!(given_keys.is_subset(&known_keys), "{path}");
    } else {
        assert_eq!(known_keys, given_keys, "{path}: schema and values.yaml");
    }
    for (key, value) in given {
        compare(root, &known[key], value, &format!("{path}/{key}"));
    }
}

fn strictness(schema: &Value, path: &str, loose: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            let is_map = match &schema["type"] {
                Value::Array(types) => types.iter().any(|kind| kind == "object"),
                kind => kind == "object",
            };
            let closed = schema["additionalProperties"] == false
                || schema["additionalProperties"].is_object() && schema["properties"].is_null();
            if is_map && !closed {
                loose.push(path.to_owned());
            }
            for (key, value) in map {
                strictness(value, &format!("{path}/{key}"), loose);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strictness(item, path, loose)),
        _ => {}
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Every set of values that is rendered: the defaults, the presets, and the cases in `ci/`.
fn cases() -> Vec<(String, Vec<String>)> {
    let mut cases =
        vec![("default".to_owned(), vec![]), ("minimal".to_owned(), vec!["values-minimal.yaml".to_owned()])];
    for file in files_below(&chart().join("ci")) {
        let file = file.file_name().unwrap().to_str().unwrap().to_owned();
        let name = file.strip_suffix("-values.yaml").expect("ci/*-values.yaml").to_owned();
        cases.push((name, vec![format!("ci/{file}")]));
    }
    assert!(cases.len() >= 5, "{cases:?}");
    cases
}

fn render(files: &[impl AsRef<str>], minor: &str) -> String {
    let output = run(template().args(["--kube-version", minor]).args(with(files)));
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn objects(rendered: &str) -> Vec<Value> {
    rendered
        .split("\n---\n")
        .filter(|document| document.lines().any(|line| !line.is_empty() && !line.starts_with(['#', '-'])))
        .map(|document| serde_saphyr::from_str(document.trim_start_matches("---\n")).unwrap())
        .collect()
}

fn with(files: &[impl AsRef<str>]) -> Vec<String> {
    let path = |file: &str| chart().join(file).display().to_string();
    files.iter().flat_map(|file| ["-f".to_owned(), path(file.as_ref())]).collect()
}

fn template() -> Command {
    let mut command = helm();
    command.args(["template", "countersign"]).arg(chart()).args(["--namespace", "countersign-system"]);
    command
}

fn helm() -> Command {
    program("COUNTERSIGN_HELM")
}

fn program(variable: &str) -> Command {
    let Some(path) = std::env::var_os(variable) else {
        panic!("{variable} is not set; `cargo xtask test` installs the program and sets it");
    };
    Command::new(path)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/countersign")
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart")
}

fn read(file: &str) -> String {
    fs::read_to_string(chart().join(file)).unwrap()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
    }
}

/// A folder that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
