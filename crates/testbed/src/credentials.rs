//! The keys, certificates and tokens one control plane is started with.
//!
//! All of it is made anew for each control plane and lives in its directory. Leaves credentials
//! for users and service accounts, which the running API server is asked for, to `access`.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::binaries::hex;
use crate::error::Error;
use crate::workspace::Workspace;

pub(crate) const ADMIN: &str = "tideline-testbed-admin";
pub(crate) const SCHEDULER: &str = "system:kube-scheduler";
pub(crate) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub(crate) const FRONT_PROXY: &str = "front-proxy-client";

/// Files in the directory of the control plane.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) authority: PathBuf,
    pub(crate) server_certificate: PathBuf,
    pub(crate) server_key: PathBuf,
    /// What the API server shows to API servers it passes requests on to.
    pub(crate) proxy_certificate: PathBuf,
    pub(crate) proxy_key: PathBuf,
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public: PathBuf,
    pub(crate) tokens: PathBuf,
    secret: String,
}

impl Credentials {
    pub(crate) fn create(workspace: &Workspace) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "tideline-testbed-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = workspace.write("ca.crt", &params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);

        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned).to_vec();
        let (server_certificate, server_key) =
            issue(workspace, &issuer, "kube-apiserver", names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let (proxy_certificate, proxy_key) =
            issue(workspace, &issuer, FRONT_PROXY, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;

        let service_account = KeyPair::generate()?;
        let service_account_public =
            workspace.write("service-account.pub", &service_account.public_key_pem())?;
        // Tokens are derived from a key that is random and secret already.
        let secret = service_account.serialize_pem();
        let service_account_key = workspace.write("service-account.key", &secret)?;
        let line =
            |user: &str, groups: &str| format!("{},{user},{user},\"{groups}\"\n", token(&secret, user));
        let tokens = workspace.write(
            "tokens.csv",
            &[line(ADMIN, "system:masters"), line(SCHEDULER, ""), line(CONTROLLER_MANAGER, "")].concat(),
        )?;
        Ok(Self {
            authority,
            server_certificate,
            server_key,
            proxy_certificate,
            proxy_key,
            service_account_key,
            service_account_public,
            tokens,
            secret,
        })
    }

    /// The user entry of a kubeconfig for one of the users in the token file.
    pub(crate) fn user(&self, name: &str) -> Value {
        json!({ "token": token(&self.secret, name) })
    }
}

fn token(secret: &str, user: &str) -> String {
    hex(&Sha256::new().chain_update(secret).chain_update(user).finalize())
}

fn issue(
    workspace: &Workspace,
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    subject_alternative_names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(PathBuf, PathBuf), Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(subject_alternative_names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((
        workspace.write(&format!("{name}.crt"), &certificate.pem())?,
        workspace.write(&format!("{name}.key"), &key.serialize_pem())?,
    ))
}

/// A kubeconfig with one cluster and one user. JSON, which is YAML too.
pub(crate) fn kubeconfig(server: &str, authority: &Path, user: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "testbed",
            "cluster": { "server": server, "certificate-authority": authority }
        }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "user" } }],
        "current-context": "testbed"
    })
    .to_string()
}
