//! The dependency rule of ARCHITECTURE.md: `services -> models -> pipelines`, only `services` sees `proto`, and each
//! foreign library with process-wide state has one crate that may use it.
#![expect(clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

fn workspace() -> Metadata {
    MetadataCommand::new().exec().expect("cargo metadata")
}

/// First folder of the crate's path: `proto`, `pipelines`, `models`, `services` or `tests`.
fn layer(metadata: &Metadata, package: &Package) -> String {
    let path = package
        .manifest_path
        .strip_prefix(&metadata.workspace_root)
        .expect("inside the workspace");
    path.components().next().expect("not the root").to_string()
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

fn normal_dependencies(package: &Package) -> BTreeSet<&str> {
    let normal = package
        .dependencies
        .iter()
        .filter(|d| d.kind == DependencyKind::Normal);
    normal.map(|d| d.name.as_str()).collect()
}

/// What a crate of `layer` may depend on, among our own crates.
fn allowed(layer: &str, package: &str, dependency_layer: &str, dependency: &str) -> bool {
    /// What models may use of pipelines: values and pure functions, never decoding.
    const PURE_PIPELINES: [&str; 3] = ["reelsight-media", "reelsight-sampling", "reelsight-preprocess"];
    match (layer, dependency_layer) {
        ("models", "pipelines") => PURE_PIPELINES.contains(&dependency),
        ("pipelines", "pipelines")
        | ("models", "models")
        | ("services", "services" | "models" | "pipelines" | "proto") => package != dependency,
        ("tests", _) => true,
        _ => false,
    }
}

#[test]
fn dependencies_run_one_way() {
    let metadata = workspace();
    let layers: std::collections::BTreeMap<_, _> = members(&metadata)
        .into_iter()
        .map(|p| (p.name.as_str(), layer(&metadata, p)))
        .collect();
    let mut wrong = Vec::new();
    for package in members(&metadata) {
        let from = &layers[package.name.as_str()];
        for dependency in normal_dependencies(package) {
            let Some(to) = layers.get(dependency) else {
                continue;
            };
            if !allowed(from, &package.name, to, dependency) {
                wrong.push(format!("{} ({from}) -> {dependency} ({to})", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "against the dependency rule: {wrong:#?}");
}

#[test]
fn libraries_with_process_wide_state_have_one_owner() {
    let metadata = workspace();
    for (library, owner) in [
        ("ffmpeg-next", "reelsight-decode"),
        ("ort", "reelsight-ort"),
        ("rusqlite", "reelsight-store"),
    ] {
        let users: Vec<_> = members(&metadata)
            .into_iter()
            .filter(|p| normal_dependencies(p).contains(library))
            .map(|p| p.name.as_str())
            .collect();
        assert_eq!(users, [owner], "only {owner} may use {library}");
    }
}

#[test]
fn every_crate_has_a_readable_first_line_and_shared_lints() {
    let metadata = workspace();
    for package in members(&metadata) {
        assert!(
            package.description.is_some(),
            "{} has no description",
            package.name
        );
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("manifest");
        let own = package.name.as_str() == "reelsight-proto"; // Generated code: lints are set in its lib.rs.
        assert!(
            own || manifest.contains("[lints]\nworkspace = true"),
            "{} does not use the shared lints",
            package.name
        );
    }
}

#[test]
fn licences_are_on_the_list() {
    /// Permissive licences that go with Apache-2.0.
    const ALLOWED: [&str; 16] = [
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "Unlicense",
        "CC0-1.0",
        "Unicode-3.0",
        "MPL-2.0",
        "WTFPL",
        "BSL-1.0",
        "CDLA-Permissive-2.0",
        "MIT-0",
    ];
    let metadata = workspace();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let text = package.license.clone().unwrap_or_default().replace('/', " OR ");
        let plain = text.replace(['(', ')'], "");
        // `A OR B`: one side suffices; `A AND B`: all are needed.
        let fine = plain
            .split(" AND ")
            .all(|all| all.split(" OR ").any(|one| ALLOWED.contains(&one.trim())));
        if !fine {
            wrong.push(format!("{} {}: {text:?}", package.name, package.version));
        }
    }
    assert!(wrong.is_empty(), "licences to look at: {wrong:#?}");
}
