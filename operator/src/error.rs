//! What can fail, named for the step that failed. "Not ready yet" is never an error: it is a condition.

use std::fmt;

use crate::leader::Loss;

/// The result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a pass could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings that tell where the API server is and who we are could not be read.
    #[error("no way to reach the API server: name a kubeconfig, or run in a pod with a ServiceAccount")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server refused, or could not be reached.
    #[error("could not {step} {object}")]
    Api {
        /// What was tried.
        step: Step,
        /// On what.
        object: Object,
        /// The API server's own words.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("could not {step} {object}: no answer from the API server in time")]
    Timeout {
        /// What was tried.
        step: Step,
        /// On what.
        object: Object,
    },
    /// Only who holds the lease may write.
    #[error("could not {step} {object}: the lease is not ours")]
    Fenced {
        /// What was tried.
        step: Step,
        /// On what.
        object: Object,
    },
    /// The lease is lost: another process leads, or may lead.
    #[error("lease {lease} is lost: another process goes on")]
    LeaseLost {
        /// `mcp-system/mcp-operator`
        lease: String,
        /// How.
        #[source]
        loss: Loss,
    },
    /// An object of this name exists, and it is not ours.
    #[error("{object} exists and does not belong to this McpCluster")]
    NameConflict {
        /// The object.
        object: Object,
    },
    /// Somebody changes a field of an object of ours again and again.
    #[error("{object} is changed by {} again and again", by.as_deref().unwrap_or("somebody"))]
    Contested {
        /// The object.
        object: Object,
        /// The field: `spec.selector`.
        field: String,
        /// Who, as `managedFields` names them.
        by: Option<String>,
    },
    /// An object of ours holds what we cannot read.
    #[error("{object} is malformed: {problem}")]
    Malformed {
        /// The object.
        object: Object,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A published object cannot be built.
    #[error("could not build {object}")]
    Build {
        /// The object.
        object: Object,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The admin port could not be opened.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system would not give random bytes.
    #[error("the system has no random bytes")]
    Random,
    /// A watch or a loop that must run for as long as the process ended.
    #[error("{0} ended")]
    Ended(&'static str),
}

/// A kind and a name, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// `Pod`
    pub kind: &'static str,
    /// `tools-3`
    pub name: String,
}

impl Object {
    /// An object of a typed kind.
    pub fn of<K: kube::Resource<DynamicType = ()>>(name: &str) -> Self {
        // The kinds of k8s-openapi and of ours are all string constants.
        let kind = match K::kind(&()) {
            std::borrow::Cow::Borrowed(kind) => kind,
            std::borrow::Cow::Owned(_) => "object",
        };
        Self { kind, name: name.to_owned() }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// GET
    Read,
    /// Server-side apply.
    Apply,
    /// POST
    Create,
    /// Merge patch of labels and annotations.
    Label,
    /// DELETE
    Delete,
    /// Patch of the status subresource.
    PatchStatus,
}

impl Step {
    /// In one word, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Apply => "apply",
            Self::Create => "create",
            Self::Label => "label",
            Self::Delete => "delete",
            Self::PatchStatus => "patch_status",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PatchStatus => "patch the status of",
            Self::Read | Self::Apply | Self::Create | Self::Label | Self::Delete => self.as_str(),
        })
    }
}

impl Error {
    /// One word for metrics and logs, from a closed list.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "Connect",
            Self::Api { step, .. } => match step {
                Step::Read => "ReadFailed",
                Step::Apply => "ApplyFailed",
                Step::Create => "CreateFailed",
                Step::Label => "LabelFailed",
                Step::Delete => "DeleteFailed",
                Step::PatchStatus => "PatchStatusFailed",
            },
            Self::Timeout { .. } => "Timeout",
            Self::Fenced { .. } => "Fenced",
            Self::LeaseLost { .. } => "LeaseLost",
            Self::NameConflict { .. } => "NameConflict",
            Self::Contested { .. } => "Contested",
            Self::Malformed { .. } => "Malformed",
            Self::Build { .. } => "BuildFailed",
            Self::Listen { .. } => "ListenFailed",
            Self::Random => "Random",
            Self::Ended(_) => "Ended",
        }
    }

    /// The HTTP status the API server answered with.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Connect(_)
            | Self::Timeout { .. }
            | Self::Fenced { .. }
            | Self::LeaseLost { .. }
            | Self::NameConflict { .. }
            | Self::Contested { .. }
            | Self::Malformed { .. }
            | Self::Build { .. }
            | Self::Listen { .. }
            | Self::Random
            | Self::Ended(_) => None,
        }
    }

    /// Whether the namespace goes away: nothing can be created in it, and nothing needs to be.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            Self::Api { source, .. } => namespace_terminates(source),
            _ => false,
        }
    }

    /// What a person reads in a condition, after the object's name: the API server's own sentence where there is one, ours
    /// otherwise.
    pub fn sentence(&self) -> String {
        match self {
            Self::Api { source, object, step } => match source.as_ref() {
                kube::Error::Api(status) => status.message.clone(),
                other => format!("could not {step} {object}: {other}"),
            },
            Self::NameConflict { .. } => {
                "it exists and does not belong to this McpCluster. Delete or rename it, or rename the McpCluster".to_owned()
            }
            Self::Contested { field, by, .. } => format!(
                "{} changes {field} again and again; it is put back, less and less often. Find out why, and stop one of the two",
                by.as_deref().unwrap_or("somebody")
            ),
            Self::Timeout { .. } => "no answer from the API server in time".to_owned(),
            Self::Malformed { problem, .. } => format!("it is malformed: {problem}"),
            other => crate::telemetry::chain(other),
        }
    }
}

/// Whether the API server refuses because the namespace goes away.
pub fn namespace_terminates(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[test]
    fn an_error_prints_one_level_and_keeps_its_cause() {
        let refused = Error::Api {
            step: Step::Create,
            object: Object::of::<Pod>("tools-3"),
            source: Box::new(kube::Error::LinesCodecMaxLineLengthExceeded),
        };
        assert_eq!(refused.to_string(), "could not create Pod tools-3");
        assert!(std::error::Error::source(&refused).is_some());
        assert_eq!((refused.reason(), refused.code()), ("CreateFailed", None));
    }

    #[test]
    fn a_condition_gets_the_api_servers_own_words() {
        let status = kube::core::Status::failure("exceeded quota: pods=1", "Forbidden").with_code(403);
        let refused = Error::Api {
            step: Step::Create,
            object: Object::of::<Pod>("tools-3"),
            source: Box::new(kube::Error::Api(Box::new(status))),
        };
        assert_eq!(refused.sentence(), "exceeded quota: pods=1");
        assert_eq!(refused.code(), Some(403));
    }
}
