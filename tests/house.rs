//! The house stands as the design draws it: which crate may know which, and how much the verifier drags along.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom in what is shipped. What is missing here fails, so a new crate has to be placed.
const ARROWS: &[(&str, &[&str])] = &[
    ("chancery-identity", &[]),
    ("chancery-ca", &["chancery-identity"]),
    ("chancery-tlog", &["chancery-identity"]),
    ("chancery-api", &["chancery-identity"]),
    ("chancery-verifier", &["chancery-identity", "chancery-api", "chancery-tlog"]),
    ("chancery-agent", &["chancery-identity", "chancery-api", "chancery-verifier"]),
    ("chancery-testkit", &["chancery-identity", "chancery-ca", "chancery-tlog", "chancery-api", "chancery-verifier"]),
    (
        "chancery",
        &["chancery-identity", "chancery-ca", "chancery-tlog", "chancery-api", "chancery-verifier", "chancery-agent"],
    ),
    (
        "chancery-bench",
        &[
            "chancery",
            "chancery-identity",
            "chancery-ca",
            "chancery-tlog",
            "chancery-api",
            "chancery-verifier",
            "chancery-agent",
            "chancery-testkit",
        ],
    ),
];

/// Crates that hold cryptography, or bring some.
const CRYPTO: &[&str] =
    &["ring", "aws-lc-rs", "rcgen", "rustls", "rustls-webpki", "x509-parser", "x509-cert", "sha2", "p256"];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Each package's direct dependencies that are shipped, optional ones among them, and those of its tests.
fn dependencies() -> BTreeMap<String, (BTreeMap<String, bool>, BTreeSet<String>)> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let (mut shipped, mut tests) = (BTreeMap::new(), BTreeSet::new());
            for dependency in package["dependencies"].as_array().unwrap() {
                if dependency["kind"] == "dev" {
                    tests.insert(text(&dependency["name"]));
                } else {
                    shipped.insert(text(&dependency["name"]), dependency["optional"].as_bool().unwrap());
                }
            }
            (text(&package["name"]), (shipped, tests))
        })
        .collect()
}

#[test]
fn the_arrows_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (package, (shipped, tests)) in dependencies() {
        let allowed = allowed.get(package.as_str()).unwrap_or_else(|| panic!("{package} has no place in the house"));
        for dependency in shipped.keys().filter(|name| name.starts_with("chancery")) {
            assert!(allowed.contains(&dependency.as_str()), "{package} must not know {dependency}");
        }
        for dependency in tests.iter().filter(|name| name.starts_with("chancery")) {
            // A crate's tests may name the crate itself, to turn one of its features on.
            let known =
                allowed.contains(&dependency.as_str()) || [&package, "chancery-testkit"].contains(&&**dependency);
            assert!(known, "the tests of {package} must not know {dependency}");
        }
    }
}

#[test]
fn the_test_kit_is_shipped_with_nothing() {
    let tree = cargo(&["tree", "--package=chancery", "--edges=normal,build", "--prefix=none", "--format={p}"]);
    assert!(tree.contains("chancery-verifier"), "the tree was read");
    for line in tree.lines() {
        assert!(!line.starts_with("chancery-testkit"), "{line}");
        assert!(!line.starts_with("proptest"), "{line}");
    }
}

#[test]
fn the_pure_crates_name_no_cryptography() {
    let dependencies = dependencies();
    for package in ["chancery-identity", "chancery-tlog", "chancery-api"] {
        let (shipped, _) = &dependencies[package];
        for (dependency, optional) in shipped {
            // The client half of the wire types speaks TLS, behind its feature.
            let client = package == "chancery-api" && *optional;
            assert!(client || !CRYPTO.contains(&dependency.as_str()), "{package} names {dependency}");
        }
    }
}

#[test]
fn what_a_service_links_is_small() {
    let tree = cargo(&["tree", "--package=chancery-verifier", "--edges=normal", "--prefix=none", "--format={p}"]);
    let third_party: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !name.starts_with("chancery"))
        .collect();
    assert!(third_party.contains("rustls"), "the tree was read: {third_party:?}");
    assert!(third_party.len() <= 20, "{} third-party crates: {third_party:?}", third_party.len());
}

/// Nothing of ours writes `unsafe`, and every crate stands under the workspace's lints.
#[test]
fn every_crate_keeps_the_workspace_s_lints() {
    for (package, _) in ARROWS {
        let folder = package.strip_prefix("chancery-").unwrap_or(".");
        let path = format!("{}/{folder}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let manifest: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{path}");
    }
}
