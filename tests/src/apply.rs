//! YAML → objects on the cluster, strictly validated; and what the API server refuses.

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, TypeMeta};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, Error, Resource as _};
use serde::Deserialize as _;
use serde_json::Value;

use crate::failure::{Failure, Outcome, While as _};

const FIELD_MANAGER: &str = "mcp-tests";

/// The documents of a YAML stream; empty ones are left out.
///
/// # Errors
/// When it is not YAML.
pub fn documents(yaml: &str) -> Outcome<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).doing("reading YAML")?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// Applies one object in `namespace`, whatever namespace it names itself.
///
/// # Errors
/// What the API server says, unchanged: tests compare it.
pub async fn apply(client: &Client, namespace: &str, document: &Value) -> Result<(), Error> {
    let (object, resource, scope) = typed(client, namespace, document).await?;
    let api: Api<DynamicObject> = match scope {
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let how = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
    api.patch(&object.metadata.name.clone().unwrap_or_default(), &how, &Patch::Apply(&object)).await?;
    Ok(())
}

/// A change that is only asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new object.
    Create,
    /// The whole of an object that exists.
    Replace,
}

/// Asks whether an object would be accepted in `namespace`, strictly validated as `kubectl` does it, and stores nothing.
/// Server-side apply would say some things differently: it merges before it validates.
///
/// # Errors
/// What the API server says, unchanged: tests compare it.
pub async fn ask(client: &Client, namespace: &str, change: Change, document: &Value) -> Result<(), Error> {
    let (object, resource, _) = typed(client, namespace, document).await?;
    let path = DynamicObject::url_path(&resource, Some(namespace));
    let name = object.metadata.name.clone().unwrap_or_default();
    let (method, path) = match change {
        Change::Create => (Method::POST, path),
        Change::Replace => (Method::PUT, format!("{path}/{name}")),
    };
    let request = Request::builder().method(method).uri(format!("{path}?dryRun=All&fieldValidation=Strict"));
    let body = serde_json::to_vec(&object).map_err(Error::SerdeError)?;
    let request = request.header(CONTENT_TYPE, "application/json").body(body).map_err(Error::HttpError)?;
    client.request::<Value>(request).await.map(|_| ())
}

/// An object, put into `namespace` when its kind lives in one, with what the cluster calls its kind.
async fn typed(client: &Client, namespace: &str, document: &Value) -> Result<(DynamicObject, ApiResource, Scope), Error> {
    let mut object: DynamicObject = serde_json::from_value(document.clone()).map_err(Error::SerdeError)?;
    let types = object.types.clone().unwrap_or(TypeMeta { api_version: String::new(), kind: String::new() });
    let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
    let (resource, capabilities) = pinned_kind(client, &GroupVersionKind::gvk(group, version, &types.kind)).await?;
    if capabilities.scope == Scope::Namespaced {
        object.metadata.namespace = Some(namespace.to_owned());
    }
    Ok((object, resource, capabilities.scope))
}

/// What the API server said, for an error that is its answer.
pub fn refusal(error: &Error) -> Option<&str> {
    match error {
        Error::Api(status) => Some(&status.message),
        _ => None,
    }
}

/// Turns an answer that should have been a refusal into one, or fails.
///
/// # Errors
/// When the object was accepted, or no answer came.
pub fn expect_refusal(answer: Result<(), Error>) -> Outcome<String> {
    match answer {
        Ok(()) => Err(Failure::new("the API server accepted it")),
        Err(error) => match refusal(&error) {
            Some(message) => Ok(message.to_owned()),
            None => Err(error.into()),
        },
    }
}

/// What a manifest under `crds/tests` expects the API server to say: the rest of its first line after `# expect:`.
///
/// # Errors
/// When the first line is another.
pub fn expectation(manifest: &str) -> Outcome<&str> {
    let first = manifest.lines().next().unwrap_or_default();
    first
        .strip_prefix("# expect:")
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Failure::new(format!("its first line is not `# expect: MESSAGE` but {first:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_documents_is_read_and_empty_ones_are_left_out() {
        let read = documents("---\na: 1\n---\n# only a comment\n---\nb: 2\n").unwrap();
        assert_eq!(read, [serde_json::json!({"a": 1}), serde_json::json!({"b": 2})]);
    }

    #[test]
    fn an_expectation_is_the_rest_of_the_first_line() {
        assert_eq!(expectation("# expect: must be at most 75\na: 1").unwrap(), "must be at most 75");
        assert!(expectation("a: 1").is_err());
        assert!(expectation("# expect:\na: 1").is_err());
    }
}
