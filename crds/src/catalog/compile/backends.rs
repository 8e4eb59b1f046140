//! `catalog.backends`, credentials and headers.

use std::collections::{BTreeMap, BTreeSet};

use super::Compiler;
use crate::catalog::authored::{Authorization, Backend, Header};
use crate::catalog::compiled::{CompiledAuthorization, CompiledBackend, CompiledHeader, CredentialFile, HeaderValue};
use crate::catalog::problem::Path;
use crate::catalog::{address, schema};

/// Header fields that the shard sets, or that steer a connection and not a request.
const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
];

/// The backends of a catalog: what shards get, and what tools need to refer to them.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// By name.
    pub(super) compiled: BTreeMap<String, CompiledBackend>,
    /// Base URL without a slash at its end, and time for one call, by name; also of backends that are wrong, so that
    /// each tool does not repeat it.
    pub(super) bases: BTreeMap<String, (String, u64)>,
}

impl Compiler<'_> {
    pub(super) fn backends(&mut self, authored: &[Backend]) -> Backends {
        let mut backends = Backends::default();
        for (index, backend) in authored.iter().enumerate() {
            let at = Path::of("backends").named(index, &backend.name);
            if backends.bases.contains_key(&backend.name) {
                self.duplicate(&at, "backend", &backend.name);
                continue;
            }
            self.base_url(&backend.url, &at.field("url"));
            let timeout_ms = self.milliseconds(&backend.timeout, &at.field("timeout"));
            let max_in_flight_requests = u32::try_from(backend.max_in_flight_requests).ok().filter(|n| *n > 0);
            if max_in_flight_requests.is_none() {
                self.invalid(&at.field("maxInFlightRequests"), "must be at least 1");
            }
            let compiled = CompiledBackend {
                name: backend.name.clone(),
                authorization: backend
                    .authorization
                    .as_ref()
                    .and_then(|authorization| self.authorization(authorization, &at.field("authorization"))),
                headers: self.headers(&backend.headers, backend.authorization.is_some(), &at),
                max_in_flight_requests: max_in_flight_requests.unwrap_or(1),
            };
            let base = backend.url.trim_end_matches('/').to_owned();
            backends.bases.insert(backend.name.clone(), (base, timeout_ms));
            backends.compiled.insert(backend.name.clone(), compiled);
        }
        backends
    }

    /// Checks what is particular to the URL of a backend; that it is a URL is checked with each path appended to it, and
    /// here once for all.
    fn base_url(&mut self, url: &str, at: &Path) {
        match super::http::origin_and_rest(url) {
            None => self.invalid(at, "must be an absolute http or https URL, for example 'https://api.example.com/v2'"),
            Some((host, rest)) => {
                if let Some(why) = address::forbidden_host(host) {
                    self.invalid(at, format!("{host} is {why}"));
                }
                if rest.contains(['?', '#']) {
                    self.invalid(at, "must not have a query or a fragment: the URL of each tool is appended to it");
                }
                if rest.contains(['{', '}']) {
                    self.invalid(at, "must not have variables: write them in the `url` of a tool");
                }
            }
        }
    }

    fn authorization(&mut self, authorization: &Authorization, at: &Path) -> Option<CompiledAuthorization> {
        match (&authorization.bearer, &authorization.basic) {
            (Some(bearer), None) => {
                let reference = &bearer.secret_key_ref;
                Some(CompiledAuthorization::Bearer(self.credential(&reference.name, &reference.key)))
            }
            (None, Some(basic)) => Some(CompiledAuthorization::Basic {
                username: self.credential(&basic.secret_name, "username"),
                password: self.credential(&basic.secret_name, "password"),
            }),
            (None, None) | (Some(_), Some(_)) => {
                self.invalid(at, "set exactly one of `bearer` and `basic`");
                None
            }
        }
    }

    fn credential(&mut self, secret: &str, key: &str) -> CredentialFile {
        let file = CredentialFile::of(secret, key);
        self.credentials.insert(file.clone());
        file
    }

    /// Headers of a backend or a call; `at` is the object that has `headers`.
    pub(super) fn headers(&mut self, headers: &[Header], has_authorization: bool, at: &Path) -> Vec<CompiledHeader> {
        let mut compiled = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, header) in headers.iter().enumerate() {
            let at = at.field("headers").named(index, &header.name);
            let name = header.name.to_ascii_lowercase();
            if !schema::is_token(&name) {
                self.invalid(&at.field("name"), "is not the name of a header (RFC 9110: letters, digits and '-')");
            } else if RESERVED_HEADERS.contains(&name.as_str()) {
                self.invalid(&at.field("name"), format!("{name} is set by the shard"));
            } else if name == "authorization" && has_authorization {
                self.invalid(&at.field("name"), "`authorization` of the backend sets this header: remove one of them");
            } else if !seen.insert(name.clone()) {
                self.duplicate(&at, "header", &name);
            }
            let value = match (&header.value, &header.value_from) {
                (Some(value), None) => {
                    if !is_field_value(value) {
                        self.invalid(&at.field("value"), "must be visible ASCII characters, with spaces between them at most");
                    }
                    HeaderValue::Literal(value.clone())
                }
                (None, Some(_)) if self.scope.source.is_some() => {
                    self.invalid(
                        &at.field("valueFrom"),
                        "a source must not name a Secret: put the header into a backend of `spec.catalog.backends`",
                    );
                    continue;
                }
                (None, Some(from)) => {
                    HeaderValue::Credential(self.credential(&from.secret_key_ref.name, &from.secret_key_ref.key))
                }
                (None, None) | (Some(_), Some(_)) => {
                    self.invalid(
                        &at,
                        "set exactly one of `value` and `valueFrom`; a credential belongs in `valueFrom.secretKeyRef`",
                    );
                    continue;
                }
            };
            compiled.push(CompiledHeader { name, value });
        }
        compiled
    }
}

/// RFC 9110, 5.5, without obsolete text.
fn is_field_value(value: &str) -> bool {
    value.bytes().all(|b| matches!(b, b' ' | b'\t' | 0x21..=0x7e)) && value.trim() == value
}
