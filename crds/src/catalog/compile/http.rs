//! Calls to REST APIs.

use std::collections::BTreeSet;

use serde_json_path::JsonPath;

use super::{Backends, Compiler};
use crate::catalog::address;
use crate::catalog::authored::{Body, Http, Method};
use crate::catalog::compiled::CompiledHttp;
use crate::catalog::problem::Path;
use crate::catalog::schema::shorten;
use crate::catalog::template::{FormTemplate, JsonTemplate, TextTemplate, UrlTemplate};
use crate::duration::Span;
use crate::quantity::Bytes;

/// Time for one call where neither tool nor backend says: that of a backend that says nothing.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// The arguments a call may use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arguments<'a> {
    /// Those of an input schema.
    Of(&'a BTreeSet<&'a str>),
    /// Those of a URI template.
    Variables(&'a BTreeSet<&'a str>),
    /// None: a resource is read without arguments.
    None,
    /// Nobody knows: what declares them is wrong itself.
    Unknown,
}

impl Compiler<'_> {
    pub(super) fn http(&mut self, http: &Http, arguments: Arguments<'_>, backends: &Backends, at: &Path) -> Option<CompiledHttp> {
        let problems = self.problems.len();
        let (base, mut timeout_ms) = match &http.backend {
            None => ("", DEFAULT_TIMEOUT_MS),
            Some(name) => {
                let Some((base, timeout)) = backends.bases.get(name) else {
                    self.invalid(
                        &at.field("backend"),
                        format!("{name} is not one of `catalog.backends`: add it there, or write an absolute `url`"),
                    );
                    return None;
                };
                (base.as_str(), *timeout)
            }
        };
        if http.backend.is_some() && !http.url.starts_with('/') {
            self.invalid(&at.field("url"), "must start with '/' when `backend` names the host");
        }
        let url = format!("{base}{}", http.url);
        self.url(&url, arguments, &at.field("url"));
        if let Some(span) = &http.timeout {
            timeout_ms = self.milliseconds(span, &at.field("timeout"));
        }
        if let Some(body) = &http.body {
            self.body(body, http.method, arguments, &at.field("body"));
        }
        if let Some(select) = &http.response.select
            && let Err(error) = JsonPath::parse(select)
        {
            self.invalid(
                &at.field("response.select"),
                format!("is not an RFC 9535 query at character {}: {}", error.position() + 1, error.message()),
            );
        }
        let max_size = Bytes::try_from(&http.response.max_size).unwrap_or_else(|error| {
            self.invalid(&at.field("response.maxSize"), error.to_string());
            Bytes::default()
        });
        let headers = self.headers(&http.headers, false, at);
        (self.problems.len() == problems).then(|| CompiledHttp {
            backend: http.backend.clone(),
            method: http.method,
            url,
            headers,
            body: http.body.clone(),
            select: http.response.select.clone(),
            text: http.response.text.clone(),
            max_size: max_size.0,
            timeout_ms,
        })
    }

    fn url(&mut self, url: &str, arguments: Arguments<'_>, at: &Path) {
        if let Some((host, _)) = origin_and_rest(url)
            && let Some(why) = address::forbidden_host(host)
        {
            self.invalid(at, format!("{host} is {why}"));
        }
        match UrlTemplate::parse(url) {
            Ok(template) => self.known(&template.variables(), arguments, at),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.invalid(at, shorten(&format!("{error}{cause}")));
            }
        }
    }

    fn body(&mut self, body: &Body, method: Method, arguments: Arguments<'_>, at: &Path) {
        if !matches!(method, Method::Post | Method::Put | Method::Patch) {
            self.invalid(at, "`body` may only be set with method POST, PUT or PATCH: set `method`, or remove `body`");
        }
        match (&body.json, &body.form, &body.text) {
            (Some(json), None, None) => self.known(&JsonTemplate::parse(json).variables(), arguments, at),
            (None, Some(form), None) => self.known(&FormTemplate::parse(form).variables(), arguments, at),
            (None, None, Some(text)) => self.known(&TextTemplate::parse(text).variables(), arguments, at),
            _ => self.invalid(at, "set exactly one of `json`, `form` and `text`"),
        }
    }

    /// Reports each variable that is not an argument.
    pub(super) fn known(&mut self, variables: &[&str], arguments: Arguments<'_>, at: &Path) {
        for variable in variables {
            match arguments {
                Arguments::Of(names) | Arguments::Variables(names) if names.contains(variable) => {}
                Arguments::Unknown => {}
                Arguments::Variables(_) => self.invalid(at, format!("{{{variable}}} is not in uriTemplate")),
                Arguments::Of(_) => self.invalid(at, format!("{{{variable}}} is not in inputSchema")),
                Arguments::None => {
                    self.invalid(
                        at,
                        format!("{{{variable}}}: a resource is read without arguments, so its url has no variables"),
                    );
                }
            }
        }
    }

    /// A span in milliseconds.
    pub(super) fn milliseconds(&mut self, span: &Span, at: &Path) -> u64 {
        match span.parse() {
            Ok(duration) => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            Err(error) => {
                self.invalid(at, error.to_string());
                0
            }
        }
    }
}

/// The host of an absolute http or https URL, and what follows the authority. None when it is not one, has user
/// information, or no literal host.
pub(super) fn origin_and_rest(url: &str) -> Option<(&str, &str)> {
    let after = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    if authority.contains(['@', '{', '}']) {
        return None;
    }
    let host_end = match authority.strip_prefix('[') {
        Some(inside) => inside.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let host_ok = host.starts_with('[')
        || (!host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')));
    (port_ok && host_ok).then_some((host, rest))
}
