//! Which object came from where, so that one given twice is refused by name.

use crate::error::CommandError;
use std::collections::BTreeMap;

/// Objects by kind, namespace and name, with the file of each.
#[derive(Default)]
pub(super) struct Seen {
    origins: BTreeMap<String, String>,
}

impl Seen {
    pub(super) fn note(&mut self, kind: &str, name: &str, origin: &str) -> Result<(), CommandError> {
        let key = format!("{kind} {name}");
        if let Some(first) = self.origins.get(&key) {
            return Err(CommandError::Input(format!(
                "{origin}: {key} was given before, in {first}; leave one of them out"
            )));
        }
        self.origins.insert(key, origin.to_owned());
        Ok(())
    }
}
