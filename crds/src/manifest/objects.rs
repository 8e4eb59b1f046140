//! ConfigMaps and Secrets beside the resource.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::catalog::{ConfigMapData, Path};
use crate::yaml::{Node, NodeValue, Position};

/// Reads a ConfigMap.
pub(super) fn config_map(
    document: &Node,
    config_maps: &mut BTreeMap<String, ConfigMapData>,
    report: &mut impl FnMut(Position, &Path, String),
) {
    let data = ConfigMapData { text: texts(document, "data", report), binary: binary(document, "binaryData", report) };
    if let Some(name) = name(document, report) {
        config_maps.insert(name, data);
    }
}

/// Reads a Secret; `stringData` goes over `data`, as the API server writes it.
pub(super) fn secret(
    document: &Node,
    secrets: &mut BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    report: &mut impl FnMut(Position, &Path, String),
) {
    let mut keys = binary(document, "data", report);
    keys.extend(texts(document, "stringData", report).into_iter().map(|(key, text)| (key, text.into_bytes())));
    if let Some(name) = name(document, report) {
        secrets.insert(name, keys);
    }
}

fn name(document: &Node, report: &mut impl FnMut(Position, &Path, String)) -> Option<String> {
    let name = document.get("metadata").and_then(|metadata| metadata.text("name"));
    if name.is_none() {
        report(document.at, &Path::of("metadata").field("name"), "must be set".to_owned());
    }
    name.map(str::to_owned)
}

fn texts(document: &Node, field: &str, report: &mut impl FnMut(Position, &Path, String)) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let Some(node) = document.get(field).filter(|node| node.value != NodeValue::Null) else { return texts };
    let NodeValue::Map(members) = &node.value else {
        report(node.at, &Path::of(field), "must be a map of strings".to_owned());
        return texts;
    };
    for (key, member) in members {
        match &member.value {
            NodeValue::Text(text) => {
                texts.insert(key.clone(), text.clone());
            }
            _ => report(member.at, &Path::of(field).key(key), "must be a string: put it in quotes".to_owned()),
        }
    }
    texts
}

fn binary(document: &Node, field: &str, report: &mut impl FnMut(Position, &Path, String)) -> BTreeMap<String, Vec<u8>> {
    let mut values = BTreeMap::new();
    for (key, text) in texts(document, field, report) {
        let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        match STANDARD.decode(compact) {
            Ok(bytes) => {
                values.insert(key, bytes);
            }
            Err(error) => {
                let path = Path::of(field).key(&key);
                report(document.position(&path), &path, format!("is not Base64: {error}"));
            }
        }
    }
    values
}
