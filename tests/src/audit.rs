//! The API server's audit log, on the local cluster: who asked for what.
//!
//! It grows by hundreds of megabytes in a run, so it is read where it lies and only once: a [`Reader`] goes on where it
//! stopped, and holds one line at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;

use crate::failure::{Failure, Outcome, While as _};
use crate::run::Run;
use crate::target::{Target, output};

/// `local-cluster` keeps it beside the kubeconfig.
const FILE: &str = "audit.log";
/// Which pod a token was made for.
const POD: &str = "authentication.kubernetes.io/pod-name";
/// What RBAC decided.
const DECISION: &str = "authorization.k8s.io/decision";

/// A request that was answered, or a watch that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `system:serviceaccount:NAMESPACE:NAME` for a pod.
    pub user: String,
    /// The pod whose token was shown; empty for others.
    pub pod: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// API group of the object; empty for core.
    pub group: String,
    /// `pods/status`; the path, when it is not about an object.
    pub resource: String,
    /// Of the object; empty when all namespaces are meant, or none.
    pub namespace: String,
    /// Of the object; empty when the server draws it, and for lists.
    pub name: String,
    /// When the request came, RFC 3339 with microseconds.
    pub time: String,
    /// HTTP status of the answer.
    pub code: u16,
    /// Whether authorization refused it; what admission refuses is another matter.
    pub forbidden: bool,
}

impl Request {
    /// Whether it asked for a change.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// `group/resource verb`: what a role must grant for it.
    pub fn permission(&self) -> String {
        self.needs(&self.verb)
    }

    /// All that a role must grant for it: an apply that made its object needed the right to create, too.
    pub fn permissions(&self) -> Vec<String> {
        let made = self.verb == "patch" && self.code == 201;
        let mut needed = vec![self.permission()];
        needed.extend(made.then(|| self.needs("create")));
        needed
    }

    fn needs(&self, verb: &str) -> String {
        format!("{}/{} {verb}", self.group, self.resource)
    }
}

/// Reads on from where it stopped.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Reader {
    /// Begins with what is asked from now on.
    ///
    /// # Errors
    /// When this is not the local cluster, or the log cannot be read.
    pub async fn from_now(run: &Run) -> Outcome<Self> {
        Self::from_the_end_of(path(&run.target).await?)
    }

    /// Begins with what was asked since the run began.
    ///
    /// # Errors
    /// As [`Reader::from_now`].
    pub async fn from_the_start_of(run: &Run) -> Outcome<Self> {
        let mut reader = Self::open(path(&run.target).await?)?;
        let size = reader.file.get_ref().metadata().doing("reading the audit log")?.len();
        // A file that is shorter now is another one: the log was rotated.
        reader.file.seek(SeekFrom::Start(run.audit_began.min(size))).doing("reading the audit log")?;
        Ok(reader)
    }

    /// Begins with what is written to this log from now on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_the_end_of(path: PathBuf) -> Outcome<Self> {
        let mut reader = Self::open(path)?;
        reader.file.seek(SeekFrom::End(0)).doing("reading the audit log")?;
        Ok(reader)
    }

    fn open(path: PathBuf) -> Outcome<Self> {
        let file = BufReader::with_capacity(1 << 20, File::open(&path).doing(&path.display().to_string())?);
        Ok(Self { path, file, line: Vec::new() })
    }

    /// Passes every new request by a user to `each`; a user is meant by the end of its name.
    ///
    /// # Errors
    /// When the log cannot be read, or holds something else than requests.
    pub fn each(&mut self, user: &str, each: impl FnMut(Request)) -> Outcome {
        self.each_of(&[user], each)
    }

    /// The same of several users.
    ///
    /// # Errors
    /// As [`Reader::each`].
    pub fn each_of(&mut self, users: &[&str], mut each: impl FnMut(Request)) -> Outcome {
        // Most lines are of others: those are not parsed.
        let needles: Vec<_> = users.iter().map(|user| format!("{user}\"")).collect();
        while self.next_line()? {
            let line = std::mem::take(&mut self.line);
            if needles.iter().any(|needle| contains(&line, needle.as_bytes()))
                && let Some(request) = parse(&line)?
                && users.iter().any(|user| request.user.ends_with(user))
            {
                each(request);
            }
            self.line = line;
        }
        Ok(())
    }

    /// The new writes of a user in a namespace but those that renew a lease, oldest first.
    ///
    /// # Errors
    /// As [`Reader::each`].
    pub fn writes(&mut self, user: &str, namespace: &str) -> Outcome<Vec<Request>> {
        let mut writes = Vec::new();
        self.each(user, |request| {
            if request.is_write() && request.resource != "leases" && request.namespace == namespace {
                writes.push(request);
            }
        })?;
        Ok(writes)
    }

    /// Reads the next whole line; false when there is none yet.
    fn next_line(&mut self) -> Outcome<bool> {
        loop {
            self.line.clear();
            let read = self.file.read_until(b'\n', &mut self.line).doing("reading the audit log")?;
            if self.line.ends_with(b"\n") {
                return Ok(true);
            }
            // The rest of this line is still to be written.
            let back = i64::try_from(read).unwrap_or_default();
            self.file.seek_relative(-back).doing("reading the audit log")?;
            if read > 0 || !self.was_rotated()? {
                return Ok(false);
            }
            *self = Self::open(self.path.clone())?;
        }
    }

    fn was_rotated(&self) -> Outcome<bool> {
        match self.path.metadata() {
            Ok(there) => Ok(there.ino() != self.file.get_ref().metadata().doing("reading the audit log")?.ino()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// How long the log is now: where a run begins. Zero where there is none.
pub async fn length(target: &Target) -> u64 {
    match path(target).await {
        Ok(path) => path.metadata().map_or(0, |metadata| metadata.len()),
        Err(_) => 0,
    }
}

async fn path(target: &Target) -> Outcome<PathBuf> {
    let Target::Local { program } = target else {
        return Err(Failure::new("only the local cluster shows its audit log"));
    };
    let kubeconfig = output(Command::new(program).arg("kubeconfig")).await.doing("asking local-cluster for its kubeconfig")?;
    Ok(Path::new(kubeconfig.trim()).with_file_name(FILE))
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    // A name is rare in a line, its first letter is not: compare from the last.
    let Some(last) = part.last() else { return true };
    line.iter().enumerate().any(|(at, byte)| byte == last && line[..=at].ends_with(part))
}

/// The request of a line, of its last stage; a watch is written when it ends.
fn parse(line: &[u8]) -> Outcome<Option<Request>> {
    let event: Event<'_> = serde_json::from_slice(line).doing("a line of the audit log")?;
    if event.stage != "ResponseComplete" && event.stage != "Panic" {
        return Ok(None);
    }
    let object = event.object.unwrap_or_default();
    let resource = match (object.resource.as_ref(), object.subresource.as_ref()) {
        ("", _) => event.uri.split('?').next().unwrap_or_default().to_owned(),
        (resource, "") => resource.to_owned(),
        (resource, part) => format!("{resource}/{part}"),
    };
    Ok(Some(Request {
        user: event.user.username.into_owned(),
        pod: event.user.extra.get(POD).and_then(|names| names.first()).cloned().unwrap_or_default(),
        verb: event.verb.into_owned(),
        group: object.group.into_owned(),
        resource,
        namespace: object.namespace.into_owned(),
        name: object.name.into_owned(),
        time: event.time.into_owned(),
        code: event.answer.map_or(0, |answer| answer.code),
        forbidden: event.annotations.get(DECISION).is_some_and(|decision| decision == "forbid"),
    }))
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    verb: Cow<'a, str>,
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(borrow)]
    user: User<'a>,
    #[serde(borrow, rename = "requestURI", default)]
    uri: Cow<'a, str>,
    #[serde(borrow, rename = "objectRef")]
    object: Option<Reference<'a>>,
    #[serde(borrow, rename = "requestReceivedTimestamp", default)]
    time: Cow<'a, str>,
    #[serde(rename = "responseStatus")]
    answer: Option<Answer>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference<'a> {
    #[serde(borrow, rename = "apiGroup")]
    group: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    subresource: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    code: u16,
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(verb: &str, stage: &str, user: &str) -> String {
        format!(
            r#"{{"verb":"{verb}","stage":"{stage}","requestURI":"/api/v1/x","user":{{"username":"system:serviceaccount:{user}"}},"requestReceivedTimestamp":"2026-11-23T17:00:00.000001Z","objectRef":{{"resource":"pods","subresource":"status","namespace":"n","name":"p","apiVersion":"v1"}},"responseStatus":{{"code":403}},"annotations":{{"authorization.k8s.io/decision":"forbid"}}}}"#
        )
    }

    fn parsed(text: &str) -> Option<Request> {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_request_is_read_once_at_its_end() {
        let request = parsed(&line("patch", "ResponseComplete", "s:operator")).unwrap();
        assert_eq!((request.namespace.as_str(), request.name.as_str(), request.code), ("n", "p", 403));
        assert_eq!(request.permission(), "/pods/status patch");
        assert!(request.is_write() && request.forbidden);
        assert_eq!(parsed(&line("patch", "RequestReceived", "s:operator")), None);
        assert!(!parsed(&line("list", "ResponseComplete", "s:operator")).unwrap().is_write());
    }

    #[test]
    fn an_apply_that_made_its_object_used_the_right_to_create() {
        let mut request = parsed(&line("patch", "ResponseComplete", "s:operator")).unwrap();
        assert_eq!(request.permissions(), ["/pods/status patch"]);
        request.code = 201;
        assert_eq!(request.permissions(), ["/pods/status patch", "/pods/status create"]);
    }

    #[test]
    fn a_request_that_is_not_about_an_object_is_named_by_its_path() {
        let text = r#"{"verb":"get","stage":"ResponseComplete","requestURI":"/apis?x=1","user":{"username":"u"}}"#;
        assert_eq!(parsed(text).unwrap().resource, "/apis");
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped_also_within_a_line_and_after_a_rotation() {
        let folder = std::env::temp_dir().join(format!("mcp-tests-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(FILE);
        let mut log = File::create(&path).unwrap();
        let mut reader = Reader::open(path.clone()).unwrap();
        let mut seen = || {
            let mut users = Vec::new();
            reader.each(":operator", |request| users.push(request.user)).unwrap();
            users.len()
        };
        assert_eq!(seen(), 0);
        let whole = line("get", "ResponseComplete", "s:operator");
        write!(log, "{whole}\n{}\n{}", line("get", "ResponseComplete", "s:other"), &whole[..40]).unwrap();
        assert_eq!(seen(), 1);
        writeln!(log, "{}", &whole[40..]).unwrap();
        assert_eq!((seen(), seen()), (1, 0));
        std::fs::rename(&path, folder.join("old")).unwrap();
        writeln!(File::create(&path).unwrap(), "{whole}").unwrap();
        assert_eq!(seen(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
