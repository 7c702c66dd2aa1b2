//! `tideline manifests`: prints what an installation applies, made from the table of rights.
//!
//! The committed copies (`deploy/rbac.yaml`, the chart's roles) are written by this command; a test keeps them equal.

use super::{print, write};
use crate::error::CommandError;
use installation::{Feature, Manifests, Scope, chart_roles, monitoring, rbac};
use std::path::PathBuf;

/// Prints the manifests of an installation, ready for `kubectl apply -f -`; the kinds come from `tideline crds`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Namespace to run in
    #[arg(long, default_value = "kube-system")]
    namespace: String,
    /// Image to run
    #[arg(long, default_value = concat!("tideline:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// What is used, and so which rights are needed; may be repeated [default: everything]
    #[arg(long = "feature", value_name = "FEATURE")]
    features: Vec<Feature>,
    /// An installation that only looks: rights to read, and --dry-run for the controller
    #[arg(long)]
    dry_run: bool,
    /// Write the generated files of deploy/ into this folder instead
    #[arg(long, value_name = "FOLDER", hide = true)]
    dir: Option<PathBuf>,
    /// Flags of the controller, after `--`
    #[arg(last = true)]
    flags: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let scope = Scope::of(&arguments.features, arguments.dry_run);
    if let Some(folder) = &arguments.dir {
        let head = "# What the controller may do: what it uses and nothing else. Written by `cargo xtask generate` from the\n\
                    # table of rights; the end-to-end tests run with these and fail on any request that is refused.\n";
        write(&folder.join("rbac.yaml"), &(head.to_owned() + &rbac("kube-system", &scope)))?;
        write(&folder.join("chart/templates/roles.yaml"), &chart_roles())?;
        for (file, text) in [
            ("monitoring/rules.yaml", monitoring::rules()),
            ("monitoring/dashboard.json", monitoring::dashboard()),
            ("chart/files/rules.yaml", monitoring::rules()),
            ("chart/files/dashboard.json", monitoring::dashboard()),
            (
                "chart/files/prometheus-metrics-config.yaml",
                metrics::prometheus::DEFAULT_CONFIGURATION.to_owned(),
            ),
        ] {
            write(&folder.join(file), &text)?;
        }
        for crd in api::crds() {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let text = serde_saphyr::to_string(&crd).map_err(|error| CommandError::Encode {
                what: format!("CRD {name}"),
                why: error.to_string(),
            })?;
            write(&folder.join(format!("chart/crds/{name}.yaml")), &text)?;
        }
        return Ok(());
    }
    let manifests = Manifests {
        namespace: arguments.namespace.clone(),
        image: arguments.image.clone(),
        scope,
        arguments: arguments.flags.clone(),
    };
    print(&manifests.text())
}
