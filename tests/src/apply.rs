//! YAML → objects on the cluster, by server-side apply and with strict validation, as `kubectl apply --server-side` does.

use kube::api::{Api, DynamicObject, Patch, PatchParams, TypeMeta};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, Error};
use serde::Deserialize as _;
use serde_json::Value;

use crate::failure::{Failure, Outcome, While as _};

const FIELD_MANAGER: &str = "mcp-tests";

/// Whether anything is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    ForReal,
    /// It is only checked.
    DryRun,
}

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
pub async fn apply(client: &Client, namespace: &str, document: &Value, mode: Mode) -> Result<(), Error> {
    let mut object: DynamicObject = serde_json::from_value(document.clone()).map_err(Error::SerdeError)?;
    let types = object.types.clone().unwrap_or(TypeMeta { api_version: String::new(), kind: String::new() });
    let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
    let (resource, capabilities) = pinned_kind(client, &GroupVersionKind::gvk(group, version, &types.kind)).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Namespaced => {
            object.metadata.namespace = Some(namespace.to_owned());
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let mut how = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
    how.dry_run = mode == Mode::DryRun;
    let name = object.metadata.name.clone().unwrap_or_default();
    api.patch(&name, &how, &Patch::Apply(&object)).await?;
    Ok(())
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
