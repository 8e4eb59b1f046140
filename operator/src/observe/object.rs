//! What is kept of an object we own, other than a pod: what a pass reads of its metadata. There are thousands of them, and most of
//! their metadata is the same text again and again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;

use super::fields;
use super::shelf::Shelved;
use crate::names;

/// An object that was seen with our labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownObject {
    namespace: Box<str>,
    name: Box<str>,
    uid: Option<Box<str>>,
    version: Option<Box<str>>,
    /// The value of the label that says which cluster's it is.
    cluster: Option<Arc<str>>,
    managed_by: Option<Arc<str>>,
    controller: Option<Controller>,
    rendered: Option<Box<str>>,
    /// With [`OWN_UID`] for the controller's.
    fields: Option<Arc<str>>,
    ends: bool,
}

/// Whose object it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Controller {
    /// The kind of its resource.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}

/// Stands for the uid of the controller in a text that objects of other controllers have in common but for it. In JSON such a
/// character is written otherwise.
const OWN_UID: &str = "\u{1}";

/// Texts that many objects have in common: the fields that are ours differ by kind, hardly by object.
#[derive(Debug, Default)]
struct Texts(Mutex<Option<HashSet<Arc<str>>>>);

static TEXTS: Texts = Texts(Mutex::new(None));

impl Texts {
    /// The text, which all that ask for it share.
    fn shared(&self, text: &str) -> Arc<str> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = texts.get_or_insert_default();
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        // A new one is rare, but for the names of clusters: those that nobody holds any more go when the set has to grow.
        if texts.len() == texts.capacity() {
            texts.retain(|text| Arc::strong_count(text) > 1);
        }
        let text: Arc<str> = text.into();
        texts.insert(text.clone());
        text
    }
}

impl From<&ObjectMeta> for KnownObject {
    fn from(metadata: &ObjectMeta) -> Self {
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(|value| TEXTS.shared(value));
        let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).map(|value| Box::from(value.as_str()));
        let controller = controller(metadata.owner_references.as_deref().unwrap_or_default());
        let uid = controller.as_ref().map_or("", |controller| &*controller.uid);
        let common = |text: String| if uid.is_empty() { text } else { text.replace(uid, OWN_UID) };
        let fields = fields::ours(metadata).map(|text| TEXTS.shared(&common(text)));
        Self {
            namespace: boxed(&metadata.namespace).unwrap_or_default(),
            name: boxed(&metadata.name).unwrap_or_default(),
            uid: boxed(&metadata.uid),
            version: boxed(&metadata.resource_version),
            cluster: label(names::LABEL_CLUSTER),
            managed_by: label(names::LABEL_MANAGED_BY),
            controller,
            rendered: annotation(names::ANNOTATION_RENDERED_HASH),
            fields,
            ends: metadata.deletion_timestamp.is_some(),
        }
    }
}

impl<K> From<PartialObjectMeta<K>> for KnownObject {
    fn from(object: PartialObjectMeta<K>) -> Self {
        Self::from(&object.metadata)
    }
}

fn controller(owners: &[OwnerReference]) -> Option<Controller> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Controller { kind: TEXTS.shared(&owner.kind), name: TEXTS.shared(&owner.name), uid: TEXTS.shared(&owner.uid) })
}

impl Shelved for KnownObject {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl KnownObject {
    /// The cluster whose object it is by its label.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Who manages it, by its label.
    pub fn managed_by(&self) -> Option<&str> {
        self.managed_by.as_deref()
    }

    /// Its controller, whoever that is.
    pub fn controller(&self) -> Option<&Controller> {
        self.controller.as_ref()
    }

    /// The hash of what was rendered when it was applied last.
    pub fn rendered(&self) -> Option<&str> {
        self.rendered.as_deref()
    }

    /// The fields that are ours: `FieldsV1` as JSON.
    pub fn fields(&self) -> Option<String> {
        let uid = self.controller.as_ref().map_or("", |controller| &*controller.uid);
        self.fields.as_ref().map(|text| text.replace(OWN_UID, uid))
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    fn fields(uid: &str) -> serde_json::Value {
        let owner = format!(r#"k:{{"uid":"{uid}"}}"#);
        json!({"f:metadata": {"f:ownerReferences": {owner: {}}}, "f:spec": {"f:type": {}}})
    }

    fn object(name: &str, uid: &str) -> KnownObject {
        let object: PartialObjectMeta<Service> = serde_json::from_value(json!({"metadata": {
            "name": name, "namespace": "agents", "uid": format!("u-{name}"), "resourceVersion": "7",
            "labels": {names::LABEL_CLUSTER: "tools", names::LABEL_MANAGED_BY: names::MANAGED_BY},
            "annotations": {names::ANNOTATION_RENDERED_HASH: "hash"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "o"},
                {"apiVersion": "v1", "kind": "McpCluster", "name": "tools", "uid": uid, "controller": true},
            ],
            "managedFields": [
                {"manager": "other", "operation": "Apply", "fieldsV1": {"f:a": {}}},
                {"manager": names::FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields(uid)},
            ],
        }}))
        .unwrap();
        object.into()
    }

    #[test]
    fn what_a_pass_reads_is_kept() {
        let known = object("tools", "c-1");
        assert_eq!(
            (known.namespace(), known.name(), known.uid(), known.version()),
            ("agents", "tools", Some("u-tools"), Some("7"))
        );
        assert_eq!((known.cluster(), known.managed_by()), (Some("tools"), Some(names::MANAGED_BY)));
        let controller = known.controller().unwrap();
        assert_eq!((&*controller.kind, &*controller.name, &*controller.uid), ("McpCluster", "tools", "c-1"));
        assert_eq!((known.rendered(), known.fields()), (Some("hash"), Some(fields("c-1").to_string())));
        assert!(!known.is_terminating());
    }

    #[test]
    fn what_objects_have_in_common_is_there_once() {
        let (one, other) = (object("tools", "c-1"), object("tools-shards", "c-1"));
        assert!(Arc::ptr_eq(&one.controller.as_ref().unwrap().uid, &other.controller.unwrap().uid));
        let of_another = object("more", "c-2");
        assert!(Arc::ptr_eq(one.fields.as_ref().unwrap(), of_another.fields.as_ref().unwrap()), "but for the uid");
        assert_eq!(of_another.fields(), Some(fields("c-2").to_string()));
    }

    #[test]
    fn texts_of_objects_that_are_gone_go_too() {
        let texts = Texts::default();
        let kept = texts.shared("kept");
        for number in 0..10_000 {
            texts.shared(&number.to_string());
        }
        let count = texts.0.lock().unwrap().as_ref().unwrap().len();
        assert!(count < 100, "{count}");
        assert!(Arc::ptr_eq(&kept, &texts.shared("kept")));
    }
}
