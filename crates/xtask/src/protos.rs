//! Rust code out of protocol definitions, without protoc: `cargo xtask protos`.
//!
//! Owns the list of definitions and where their code stands. The code is committed, so that a build needs none of
//! this; a test keeps it up to date. What is served or called with it is the crates' business.

use std::fs;
use std::path::Path;

/// A definition, its folder of imports, and the file that its code goes to.
struct Definition {
    folder: &'static str,
    proto: &'static str,
    /// The package, after which prost names its output.
    package: &'static str,
    generated: &'static str,
}

const DEFINITIONS: &[Definition] = &[
    Definition {
        folder: "crates/metrics/proto",
        proto: "provider.proto",
        package: "io.kapacitystack.metric",
        generated: "crates/metrics/src/grpc/generated.rs",
    },
    Definition {
        folder: "crates/clouds/proto",
        proto: "externalgrpc.proto",
        package: "clusterautoscaler.cloudprovider.v1.externalgrpc",
        generated: "crates/clouds/src/external/protocol/generated.rs",
    },
    Definition {
        folder: "crates/clouds/proto",
        proto: "expander.proto",
        package: "grpcplugin",
        generated: "crates/clouds/src/expander/protocol/generated.rs",
    },
    Definition {
        folder: "crates/clouds/proto",
        proto: "node.proto",
        package: "k8s.io.api.core.v1",
        generated: "crates/clouds/src/protobuf/generated.rs",
    },
];

/// Writes the code of every definition.
pub(crate) fn generate(root: &Path) -> Result<(), String> {
    for definition in DEFINITIONS {
        let path = root.join(definition.generated);
        fs::write(&path, code(root, definition)?)
            .map_err(|error| format!("could not write {}: {error}", path.display()))?;
        println!("wrote {}", definition.generated);
    }
    Ok(())
}

fn code(root: &Path, definition: &Definition) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", definition.proto);
    let set = protox::compile([definition.proto], [root.join(definition.folder)])
        .map_err(|error| failed(&error))?;
    let scratch = tempfile::tempdir().map_err(|error| failed(&error))?;
    tonic_prost_build::configure()
        .out_dir(scratch.path())
        .compile_fds(set)
        .map_err(|error| failed(&error))?;
    let output = scratch.path().join(format!("{}.rs", definition.package));
    let text = fs::read_to_string(&output).map_err(|error| failed(&error))?;
    Ok(format!(
        "//! Made by `cargo xtask protos` out of `{}/{}`: change that, not this.\n\n{text}",
        definition.folder, definition.proto
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_code_is_up_to_date() {
        let root = crate::run::workspace_root();
        for definition in DEFINITIONS {
            let kept = fs::read_to_string(root.join(definition.generated)).unwrap();
            let fresh = code(&root, definition).unwrap();
            assert!(kept == fresh, "{}: run `cargo xtask protos`", definition.generated);
        }
    }
}
