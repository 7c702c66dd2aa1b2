//! An image for containers as one file (an OCI image layout in a tar), made without a container engine.
//!
//! Owns what is in it: the program, certificate authorities, the other names of the program as links, and a user without
//! rights. Equal content gives equal bytes: entries are in order, dated by the sources, and owned by root.

use super::sum;
use serde_json::{Value, json};

const BLOCK: usize = 512;
const NOBODY: &str = "65534:65534";

pub(super) struct Content<'a> {
    pub(super) program: &'a [u8],
    pub(super) authorities: &'a [u8],
    /// What the program is called besides.
    pub(super) names: Vec<&'a str>,
}

enum Entry<'a> {
    Folder(u32),
    File(u32, &'a [u8]),
    Link(&'a str),
}

/// The whole archive.
pub(super) fn archive(content: &Content<'_>, architecture: &str, moment: u64) -> Result<Vec<u8>, String> {
    let mut layer = Tar::new(moment);
    for folder in ["etc", "etc/ssl", "etc/ssl/certs"] {
        layer.add(folder, &Entry::Folder(0o755))?;
    }
    layer.add("etc/ssl/certs/ca-certificates.crt", &Entry::File(0o644, content.authorities))?;
    layer.add("tideline", &Entry::File(0o755, content.program))?;
    for name in &content.names {
        layer.add(name, &Entry::Link("tideline"))?;
    }
    layer.add("tmp", &Entry::Folder(0o1777))?;
    let layer = layer.end();
    let labels = json!({
        "org.opencontainers.image.title": "Tideline",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
    });
    let config = text(&json!({
        "architecture": architecture, "os": "linux",
        "config": {
            "User": NOBODY, "WorkingDir": "/", "Entrypoint": ["/tideline"], "Labels": labels,
            "Env": ["PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sum(&layer))] },
    }));
    let described = |kind: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{}", sum(bytes)), "size": bytes.len(),
        })
    };
    let manifest = text(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config), "layers": [described("layer.v1.tar", &layer)],
    }));
    let mut listed = described("manifest.v1+json", &manifest);
    listed["platform"] = json!({ "architecture": architecture, "os": "linux" });
    listed["annotations"] = json!({ "org.opencontainers.image.ref.name": env!("CARGO_PKG_VERSION") });
    let index = text(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed],
    }));
    let mut whole = Tar::new(moment);
    for folder in ["blobs", "blobs/sha256"] {
        whole.add(folder, &Entry::Folder(0o755))?;
    }
    let mut blobs = [&config, &manifest, &layer].map(|bytes| (sum(bytes), bytes));
    blobs.sort();
    for (name, bytes) in blobs {
        whole.add(&format!("blobs/sha256/{name}"), &Entry::File(0o644, bytes))?;
    }
    whole.add("index.json", &Entry::File(0o644, &index))?;
    whole.add("oci-layout", &Entry::File(0o644, &text(&json!({ "imageLayoutVersion": "1.0.0" }))))?;
    Ok(whole.end())
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// A tar in the form of POSIX (ustar).
struct Tar {
    bytes: Vec<u8>,
    moment: u64,
}

impl Tar {
    fn new(moment: u64) -> Self {
        Self { bytes: Vec::new(), moment }
    }

    fn add(&mut self, path: &str, entry: &Entry<'_>) -> Result<(), String> {
        let (kind, mode, content, link) = match entry {
            Entry::Folder(mode) => (b'5', *mode, &[][..], ""),
            Entry::File(mode, content) => (b'0', *mode, *content, ""),
            Entry::Link(to) => (b'2', 0o777, &[][..], *to),
        };
        let path = if kind == b'5' { format!("{path}/") } else { path.to_owned() };
        if path.len() > 100 || link.len() > 100 || content.len() as u64 >= 8 << 30 {
            return Err(format!("{path} does not go into a tar: its name or it itself is too long"));
        }
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, &format!("{:011o}", self.moment));
        // The sum of the header counts its own place as blanks.
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let total: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{total:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn equal_content_gives_equal_bytes_that_tar_unpacks() {
        let content =
            Content { program: b"#!program", authorities: b"pem", names: vec!["cluster-autoscaler"] };
        let bytes = archive(&content, "arm64", 1_700_000_000).unwrap();
        assert_eq!(bytes, archive(&content, "arm64", 1_700_000_000).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let unpack = |bytes: &[u8], to: &str| {
            let file = folder.path().join("tar");
            std::fs::write(&file, bytes).unwrap();
            std::fs::create_dir_all(folder.path().join(to)).unwrap();
            let status =
                Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(folder.path().join(to)).status();
            assert!(status.unwrap().success());
        };
        unpack(&bytes, "layout");
        let read = |digest: &str| {
            let name = digest.strip_prefix("sha256:").unwrap();
            let blob = std::fs::read(folder.path().join("layout/blobs/sha256").join(name)).unwrap();
            assert_eq!(sum(&blob), name);
            blob
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&std::fs::read(folder.path().join("layout/index.json")).unwrap());
        let manifest = json(&read(index["manifests"][0]["digest"].as_str().unwrap()));
        let config = json(&read(manifest["config"]["digest"].as_str().unwrap()));
        assert_eq!((&config["architecture"], &config["config"]["User"]), (&json!("arm64"), &json!(NOBODY)));
        unpack(&read(manifest["layers"][0]["digest"].as_str().unwrap()), "root");
        let root = folder.path().join("root");
        assert_eq!(std::fs::read(root.join("cluster-autoscaler")).unwrap(), b"#!program");
        assert_eq!(std::fs::read_link(root.join("cluster-autoscaler")).unwrap().to_str(), Some("tideline"));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&root.join("tideline").metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o755);
    }
}
