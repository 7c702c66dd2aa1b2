//! The list of parts (SBOM) of a program, in the form of `CycloneDX`, from what cargo resolved.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Everything that is compiled into the program for a target with these features, with versions, licences and sums.
pub(super) fn list(root: &Path, target: &str, features: &str) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform", target]);
    command.args(["--manifest-path", "crates/tideline/Cargo.toml"]);
    if !features.is_empty() {
        command.args(["--features", features]);
    }
    let output = command.current_dir(root).output().map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let lock =
        std::fs::read_to_string(root.join("Cargo.lock")).map_err(|error| format!("Cargo.lock: {error}"))?;
    let text = serde_json::to_string_pretty(&document(&metadata, &sums(&lock))?);
    text.map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Checksums of Cargo.lock, by name and version.
fn sums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
            line.strip_suffix('"').map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(sum)) = (field("name"), field("version"), field("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    sums
}

fn document(metadata: &Value, sums: &BTreeMap<(String, String), String>) -> Result<Value, String> {
    let of = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, &Value> =
        metadata["packages"].as_array().into_iter().flatten().map(|one| (of(one, "id"), one)).collect();
    let nodes: BTreeMap<String, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| (of(node, "id"), node))
        .collect();
    let root = packages.iter().find(|(_, one)| one["name"] == "tideline").map(|(id, _)| id.clone());
    let root = root.ok_or("cargo metadata names no package tideline")?;
    // What is built for tests only is not in the program; build scripts are not, and what they bring may be.
    let mut reached = BTreeSet::from([root.clone()]);
    let mut open = vec![root.clone()];
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(id) = open.pop() {
        let dependencies = nodes.get(&id).and_then(|node| node["deps"].as_array()).into_iter().flatten();
        for dependency in dependencies {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.clone().count() > 0 && kinds.clone().all(|kind| kind["kind"] == "dev") {
                continue;
            }
            let next = of(dependency, "pkg");
            edges.entry(id.clone()).or_default().insert(next.clone());
            if reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let reference = |id: &String| {
        packages
            .get(id)
            .map_or_else(String::new, |one| format!("pkg:cargo/{}@{}", of(one, "name"), of(one, "version")))
    };
    let component = |id: &String| {
        let one = packages.get(id)?;
        let (name, version) = (of(one, "name"), of(one, "version"));
        let mut part = json!({
            "type": "library", "bom-ref": reference(id), "purl": reference(id), "name": name, "version": version,
        });
        if let Some(licence) = one["license"].as_str() {
            part["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        if let Some(sum) = sums.get(&(name, version)) {
            part["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        Some(part)
    };
    let mut components: Vec<Value> = reached.iter().filter(|id| **id != root).filter_map(component).collect();
    components.sort_by_key(|part| of(part, "bom-ref"));
    let mut dependencies: Vec<Value> = reached
        .iter()
        .map(|id| {
            let mut on: Vec<String> = edges.get(id).into_iter().flatten().map(reference).collect();
            on.sort();
            json!({ "ref": reference(id), "dependsOn": on })
        })
        .collect();
    dependencies.sort_by_key(|entry| of(entry, "ref"));
    let mut program = component(&root).unwrap_or_default();
    program["type"] = json!("application");
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": { "component": program },
        "components": components, "dependencies": dependencies,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_what_is_compiled_in_and_nothing_of_tests() {
        let root = crate::run::workspace_root();
        let text = list(&root, "x86_64-unknown-linux-gnu", "").unwrap();
        assert_eq!(text, list(&root, "x86_64-unknown-linux-gnu", "").unwrap());
        let document: Value = serde_json::from_str(&text).unwrap();
        let parts = document["components"].as_array().unwrap();
        let named = |name: &str| parts.iter().find(|part| part["name"] == name);
        assert_eq!(document["metadata"]["component"]["name"], "tideline");
        let tokio = named("tokio").unwrap();
        assert_eq!(tokio["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(tokio["licenses"][0]["expression"], "MIT");
        assert!(named("model").is_some() && named("doubles").is_none() && named("proptest").is_none());
        assert!(named("aws-sdk-ec2").is_none());
    }
}
