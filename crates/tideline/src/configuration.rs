//! The configuration file of a running controller: read at start, and again whenever its text changes.
//!
//! Owns the watching. What the text means is `controller::config_file`'s; that flags go before it is the command's.
//! A text that cannot be used changes nothing: the last good one holds, and the log says why.

use crate::error::CommandError;
use controller::Config;
use model::Policies;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// How often the file is looked at: a mounted ConfigMap takes a minute to arrive anyway.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A file and its text as it was last read.
pub(crate) struct Watched {
    path: PathBuf,
    name: String,
    text: String,
}

impl Watched {
    pub(crate) fn read(path: &Path) -> Result<Self, CommandError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), name: path.display().to_string(), text })
    }

    /// The file's name and text.
    pub(crate) fn text(&self) -> (&str, &str) {
        (&self.name, &self.text)
    }

    /// Reads the file again whenever it changes, and tells the policies in it, until nobody listens.
    pub(crate) async fn follow(
        mut self,
        running: Config,
        told: watch::Sender<Policies>,
        configured: impl Fn((&str, &str)) -> Result<Config, CommandError>,
    ) {
        let mut unreadable = false;
        while !told.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
            let text = match tokio::fs::read_to_string(&self.path).await {
                Ok(text) => text,
                Err(error) => {
                    if !unreadable {
                        tracing::error!(file = %self.name, %error, "the configuration cannot be read; the last one holds");
                    }
                    unreadable = true;
                    continue;
                }
            };
            unreadable = false;
            if text == self.text {
                continue;
            }
            self.text = text;
            match configured(self.text()) {
                Ok(wanted) => self.tell(&running, wanted, &told),
                Err(error) => {
                    tracing::error!(file = %self.name, %error, "the new configuration is not taken; the last one holds");
                }
            }
        }
    }

    fn tell(&self, running: &Config, wanted: Config, told: &watch::Sender<Policies>) {
        let fields = controller::config_file::needs_restart(running, &wanted);
        if !fields.is_empty() {
            tracing::warn!(
                file = %self.name,
                fields = fields.join(", "),
                "these settings changed and hold only after a restart"
            );
        }
        tracing::info!(file = %self.name, "the configuration was read again");
        told.send_replace(wanted.policies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::config_file;

    fn document(max_nodes_total: &str) -> String {
        format!(
            "apiVersion: {}\nkind: {}\npolicies: {{maxNodesTotal: {max_nodes_total}}}\n",
            config_file::API_VERSION,
            config_file::KIND
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_text_is_told_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tideline.yaml");
        std::fs::write(&path, document("1")).unwrap();
        let read = |(name, text): (&str, &str)| Ok(config_file::read(name, text)?);
        let file = Watched::read(&path).unwrap();
        let running = read(file.text()).unwrap();
        let (told, mut heard) = watch::channel(running.policies.clone());
        let following = tokio::spawn(file.follow(running, told, read));

        for text in ["nonsense: [".to_owned(), document("-4")] {
            std::fs::write(&path, text).unwrap();
            assert!(tokio::time::timeout(LOOK_EVERY * 5, heard.changed()).await.is_err());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(tokio::time::timeout(LOOK_EVERY * 5, heard.changed()).await.is_err());
        std::fs::write(&path, document("9")).unwrap();
        tokio::time::timeout(LOOK_EVERY * 5, heard.changed()).await.unwrap().unwrap();
        assert_eq!(heard.borrow().max_nodes_total, 9);
        drop(heard);
        following.await.unwrap();
    }
}
