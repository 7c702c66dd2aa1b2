//! `tideline crds`: prints every CustomResourceDefinition that Tideline serves.
//!
//! The committed copies in `deploy/crds` are written by this command; a test keeps them equal.

use super::{print, write};
use crate::error::CommandError;
use std::path::PathBuf;

/// Prints every CustomResourceDefinition that Tideline serves, ready for `kubectl apply -f -`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write one file for each CRD into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let mut all = String::new();
    for crd in api::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let text = serde_saphyr::to_string(&crd)
            .map_err(|error| CommandError::Encode { what: format!("CRD {name}"), why: error.to_string() })?;
        if let Some(folder) = &arguments.dir {
            let path = folder.join(format!("{name}.yaml"));
            write(
                &path,
                &format!("# Written by `cargo xtask generate` from the code; do not edit.\n{text}"),
            )?;
        } else {
            all.push_str("---\n");
            all.push_str(&text);
        }
    }
    print(&all)
}
