//! The file of `--cloud-config` for an external program, as Cluster Autoscaler reads it.

use super::connection::{Certificates, Server};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Time that one call may take where the file does not say; Cluster Autoscaler's.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the program is and how long a call of it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub server: Server,
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    address: String,
    #[serde(default)]
    key: Option<PathBuf>,
    #[serde(default)]
    cert: Option<PathBuf>,
    #[serde(default)]
    cacert: Option<PathBuf>,
    #[serde(default)]
    grpc_timeout: Option<String>,
}

impl Configuration {
    /// Reads YAML; the error names the field and the fix.
    pub fn read(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text)
            .map_err(|error| format!("{error}; known are address, key, cert, cacert and grpc_timeout"))?;
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let tls = match (given(file.cert), given(file.key), given(file.cacert)) {
            (None, None, None) => None,
            (Some(cert), Some(key), Some(authority)) => {
                Some(Certificates { authority, identity: Some((cert, key)) })
            }
            // Encrypted, with the server known and us not.
            (None, None, Some(authority)) => Some(Certificates { authority, identity: None }),
            _ => return Err("cert, key and cacert belong together; give all three, or none".to_owned()),
        };
        let timeout = match file.grpc_timeout.as_deref() {
            None => TIMEOUT,
            Some(text) => {
                let read = intake::go_duration(text).map_err(|error| format!("grpc_timeout: {error}"))?;
                Duration::try_from(read)
                    .ok()
                    .filter(|timeout| !timeout.is_zero())
                    .ok_or_else(|| format!("grpc_timeout: {text} is no time to wait; write 5s"))?
            }
        };
        Ok(Self { server: Server { address: file.address, tls, connect_timeout: timeout }, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_wrong_ones_say_what_is_wrong() {
        let whole = "address: \"provider:8086\"\nkey: /k\ncert: /c\ncacert: /a\ngrpc_timeout: 1500ms\n";
        let read = Configuration::read(whole).unwrap();
        assert_eq!(read.timeout, Duration::from_millis(1500));
        let tls = read.server.tls.unwrap();
        assert_eq!(tls.identity, Some(("/c".into(), "/k".into())));
        let plain = Configuration::read("address: provider:8086").unwrap();
        assert_eq!((plain.server.tls, plain.timeout), (None, TIMEOUT));
        for (text, part) in [
            ("key: /k", "address"),
            ("address: a:1\nkey: /k", "belong together"),
            ("address: a:1\nport: 2", "known are address"),
            ("address: a:1\ngrpc_timeout: 5", "grpc_timeout"),
            ("address: a:1\ngrpc_timeout: -5s", "write 5s"),
        ] {
            let why = Configuration::read(text).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
