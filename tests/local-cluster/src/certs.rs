//! Keys and certificates: one authority for the cluster, one for the front proxy, and the key that
//! signs service account tokens.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::{At, Error, Result};
use crate::plan::{API_SERVICE, CONTROL, DOMAIN, NodeName};
use crate::state::State;

/// Who a certificate is for: a user name and groups for a client, names for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The common name: the user, to the API server.
    pub name: String,
    /// The organization: the group, to the API server.
    pub group: Option<&'static str>,
    /// What a server is called; empty for a client.
    pub dns: Vec<String>,
    pub addresses: Vec<Ipv4Addr>,
}

impl Subject {
    /// A client of the API server.
    pub(crate) fn user(name: impl Into<String>, group: Option<&'static str>) -> Self {
        Self { name: name.into(), group, dns: Vec::new(), addresses: Vec::new() }
    }

    /// The API server, by all the names that clients in and out of the cluster have for it.
    pub(crate) fn api_server() -> Self {
        let service = "kubernetes.default.svc";
        Self {
            name: "kube-apiserver".into(),
            group: None,
            dns: vec![
                "localhost".into(),
                "kubernetes".into(),
                "kubernetes.default".into(),
                service.into(),
                format!("{service}.{DOMAIN}"),
            ],
            addresses: vec![CONTROL, API_SERVICE, Ipv4Addr::LOCALHOST],
        }
    }

    /// A node as a client: the user name and group that the Node authorizer knows nodes by.
    pub(crate) fn node(node: NodeName) -> Self {
        Self::user(format!("system:node:{node}"), Some("system:nodes"))
    }

    /// A kubelet as a server.
    pub(crate) fn kubelet_server(node: NodeName) -> Self {
        Self { dns: vec![node.to_string()], addresses: vec![node.address()], ..Self::node(node) }
    }

    fn is_server(&self) -> bool {
        !self.addresses.is_empty()
    }

    fn params(&self) -> CertificateParams {
        let mut params = base_params(&self.name);
        if let Some(group) = self.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![if self.is_server() { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        let dns = self.dns.iter().map(|name| SanType::DnsName(name.as_str().try_into().expect("our DNS names are ASCII")));
        let addresses = self.addresses.iter().map(|ip| SanType::IpAddress(IpAddr::V4(*ip)));
        params.subject_alt_names = dns.chain(addresses).collect();
        params.use_authority_key_identifier_extension = true;
        params
    }
}

/// Valid whatever the machine's clock says: the certificates end with the state folder.
fn base_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    params
}

/// A certificate with its key, both as PEM.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority: it signs.
pub(crate) struct Authority {
    name: &'static str,
    certificate: String,
    key: KeyPair,
}

impl Authority {
    /// The cluster's authority. Every part trusts it.
    pub(crate) const CLUSTER: &str = "local-cluster-ca";
    /// The front proxy's: what it signs may speak to extension servers for others.
    pub(crate) const FRONT_PROXY: &str = "local-cluster-front-proxy-ca";

    fn params(name: &str) -> CertificateParams {
        let mut params = base_params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    pub(crate) fn new(name: &'static str) -> Result<Self> {
        let fail = |source| Error::Certificate { subject: name.into(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let certificate = Self::params(name).self_signed(&key).map_err(fail)?.pem();
        Ok(Self { name, certificate, key })
    }

    /// The authority that `new` made and `save` wrote.
    pub(crate) fn load(state: &State, name: &'static str) -> Result<Self> {
        let read = |path: PathBuf| std::fs::read_to_string(&path).at("reading", path);
        let certificate = read(certificate_path(state, name))?;
        let key = KeyPair::from_pem(&read(key_path(state, name))?)
            .map_err(|source| Error::Certificate { subject: name.into(), source })?;
        Ok(Self { name, certificate, key })
    }

    pub(crate) fn sign(&self, subject: &Subject) -> Result<Pair> {
        let fail = |source| Error::Certificate { subject: subject.name.clone(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let issuer = Issuer::new(Self::params(self.name), &self.key);
        let certificate = subject.params().signed_by(&key, &issuer).map_err(fail)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }

    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let pair = Pair { certificate: self.certificate.clone(), key: self.key.serialize_pem() };
        save(state, self.name, &pair)
    }
}

/// Writes a certificate and its key under a name.
pub(crate) fn save(state: &State, name: &str, pair: &Pair) -> Result<()> {
    state.write(&certificate_path(state, name), &pair.certificate)?;
    state.write(&key_path(state, name), &pair.key)
}

pub(crate) fn certificate_path(state: &State, name: &str) -> PathBuf {
    state.pki().join(format!("{name}.crt"))
}

pub(crate) fn key_path(state: &State, name: &str) -> PathBuf {
    state.pki().join(format!("{name}.key"))
}

/// The name of the service account key's files.
pub(crate) const SERVICE_ACCOUNT: &str = "service-account";

/// Makes the key that signs service account tokens, as a private (`.key`) and a public (`.pub`) file.
pub(crate) fn make_service_account_key(state: &State) -> Result<()> {
    let key = KeyPair::generate().map_err(|source| Error::Certificate { subject: SERVICE_ACCOUNT.into(), source })?;
    state.write(&key_path(state, SERVICE_ACCOUNT), &key.serialize_pem())?;
    state.write(&service_account_public(state), &key.public_key_pem())
}

pub(crate) fn service_account_public(state: &State) -> PathBuf {
    Path::new(&state.pki()).join(format!("{SERVICE_ACCOUNT}.pub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_known_by_its_address_and_by_its_service() {
        let params = Subject::api_server().params();
        let has = |san: &SanType| params.subject_alt_names.contains(san);
        assert!(has(&SanType::IpAddress(IpAddr::V4(CONTROL))));
        assert!(has(&SanType::IpAddress(IpAddr::V4(API_SERVICE))));
        assert!(has(&SanType::DnsName("kubernetes.default.svc".try_into().unwrap())));
        assert_eq!(params.extended_key_usages, [ExtendedKeyUsagePurpose::ServerAuth]);
    }

    #[test]
    fn a_node_has_the_name_and_group_of_the_node_authorizer() {
        let node = Subject::node("node-2".parse().unwrap());
        assert_eq!((node.name.as_str(), node.group), ("system:node:node-2", Some("system:nodes")));
        assert_eq!(node.params().extended_key_usages, [ExtendedKeyUsagePurpose::ClientAuth]);
    }

    #[test]
    fn a_kubelet_serves_under_its_address_because_node_names_do_not_resolve() {
        let node: NodeName = "node-2".parse().unwrap();
        let sans = Subject::kubelet_server(node).params().subject_alt_names;
        assert!(sans.contains(&SanType::IpAddress(IpAddr::V4(node.address()))));
    }

    #[test]
    fn an_authority_signs_the_same_way_after_it_was_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path().join("state")).unwrap();
        let authority = Authority::new(Authority::CLUSTER).unwrap();
        authority.save(&state).unwrap();
        let loaded = Authority::load(&state, Authority::CLUSTER).unwrap();
        assert_eq!(loaded.certificate(), authority.certificate());
        assert_eq!(loaded.key.serialize_der(), authority.key.serialize_der());
        let pair = loaded.sign(&Subject::user("x", None)).unwrap();
        assert!(pair.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(pair.key.starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}
