//! The API server's audit log, on the local cluster: who wrote what.

use serde_json::Value;
use tokio::process::Command;

use crate::failure::{Failure, Outcome, While as _};
use crate::run::Run;
use crate::target::{Target, output};

/// A request that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// `system:serviceaccount:NAMESPACE:NAME` for a pod.
    pub user: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// `pods/status`
    pub resource: String,
    /// Of the object.
    pub namespace: String,
    /// Of the object; empty when the server draws it.
    pub name: String,
    /// When the request came, RFC 3339 with microseconds.
    pub time: String,
}

/// Every write in a namespace by a user whose name holds `user`, oldest first.
///
/// # Errors
/// When this is not the local cluster, or the log cannot be read.
pub async fn writes(run: &Run, namespace: &str, user: &str) -> Outcome<Vec<Write>> {
    let Target::Local { program } = &run.target else {
        return Err(Failure::new("only the local cluster shows its audit log"));
    };
    let log = output(Command::new(program).args(["logs", "audit"])).await.doing("reading the audit log")?;
    let mut writes: Vec<_> = log.lines().filter_map(parse).collect();
    writes.retain(|write| write.namespace == namespace && write.user.contains(user));
    Ok(writes)
}

/// The write of a line, once for each request: of its last stage.
fn parse(line: &str) -> Option<Write> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verb = text(&event["verb"]);
    let changes = matches!(verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
    if !changes || event["stage"] != "ResponseComplete" {
        return None;
    }
    let object = &event["objectRef"];
    let mut resource = text(&object["resource"]);
    if let Some(part) = object["subresource"].as_str() {
        resource = format!("{resource}/{part}");
    }
    Some(Write {
        user: text(&event["user"]["username"]),
        verb,
        resource,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        time: text(&event["requestReceivedTimestamp"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_counted_once_and_a_read_never() {
        let line = |verb: &str, stage: &str| {
            format!(
                r#"{{"verb":"{verb}","stage":"{stage}","user":{{"username":"system:serviceaccount:s:operator"}},
                "requestReceivedTimestamp":"2026-11-23T17:00:00.000001Z",
                "objectRef":{{"resource":"pods","subresource":"status","namespace":"n","name":"p"}}}}"#
            )
        };
        let write = parse(&line("patch", "ResponseComplete")).unwrap();
        assert_eq!((write.resource.as_str(), write.namespace.as_str(), write.name.as_str()), ("pods/status", "n", "p"));
        assert_eq!(parse(&line("patch", "RequestReceived")), None);
        assert_eq!(parse(&line("list", "ResponseComplete")), None);
    }
}
