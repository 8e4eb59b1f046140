use serde_json::json;

use super::*;

fn one(text: &str) -> Node {
    let mut documents = read(text).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

fn refusal(text: &str) -> YamlError {
    read(text).expect_err(text)
}

/// Each pair was seen on the way through kubectl 1.35.
#[test]
fn scalars_mean_what_they_mean_to_kubectl() {
    for (text, value) in [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("'yes'", json!("yes")),
        ("0644", json!(420)),
        ("0x10", json!(16)),
        ("1_000", json!(1000)),
        ("1.0", json!(1)),
        ("0.5", json!(0.5)),
        ("-3", json!(-3)),
        ("1e3", json!(1000)),
        ("512Mi", json!("512Mi")),
        ("10.0.0.1", json!("10.0.0.1")),
        ("2026-07-28", json!("2026-07-28")),
        ("y", json!(true)),
        ("0o17", json!(15)),
        ("08", json!(8)),
        ("0b11", json!(3)),
        ("-0x10", json!(-16)),
        ("1:30", json!("1:30")),
        ("1.2.3", json!("1.2.3")),
        ("5.", json!(5)),
        ("18446744073709551615", json!(u64::MAX)),
        ("!!str 12", json!("12")),
        ("'~'", json!("~")),
    ] {
        let text = format!("a: {text}");
        assert_eq!(one(&text).to_json(), json!({ "a": value }), "{text}");
    }
    assert_eq!(one("a: ~\nb:").to_json(), json!({"a": null, "b": null}));
    assert_eq!(one("1: a\ntrue: b").to_json(), json!({"1": "a", "true": "b"}));
}

#[test]
fn positions_are_those_of_keys_and_items() {
    let node = one("spec:\n  tools:\n  - name: a\n    http: {url: x}\n  - name: b\n");
    let at = |path: Path| {
        let Position { line, column } = node.position(&path);
        (line, column)
    };
    let tools = Path::of("spec").field("tools");
    assert_eq!(at(tools.clone()), (2, 3));
    assert_eq!(at(tools.index(1).field("name")), (5, 5));
    assert_eq!(at(tools.named(0, "b").field("name")), (5, 5), "a name outweighs an index");
    assert_eq!(at(tools.index(0).field("http.url")), (4, 12));
    assert_eq!(at(tools.index(0).field("http.method")), (4, 5), "what is not written is where it would be");
}

#[test]
fn documents_are_apart_and_empty_ones_are_nothing() {
    assert_eq!(read("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap().len(), 2);
    assert_eq!(read("").unwrap(), []);
}

#[test]
fn aliases_and_merges_are_read() {
    let node = one("base: &b {x: 1, w: 2}\nmore:\n  <<: *b\n  w: 3\nagain: *b\nboth: {<<: [*b, {x: 9, z: 4}]}\n");
    assert_eq!(
        node.to_json(),
        json!({"base": {"x": 1, "w": 2}, "more": {"w": 3, "x": 1}, "again": {"x": 1, "w": 2}, "both": {"x": 1, "w": 2, "z": 4}})
    );
}

#[test]
fn an_alias_bomb_ends_at_the_bound() {
    let levels = (1..12).map(|level| format!("a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(", ")));
    let text = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned()).chain(levels).collect::<Vec<_>>().join("\n");
    assert!(refusal(&text).message.contains("aliases included"));
}

#[test]
fn depth_is_bounded() {
    let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refusal(&text).message.contains("deeper") || refusal(&text).message.contains("recursion"));
    let text = (0..200).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n");
    assert!(refusal(&text).message.contains("deeper"));
}

#[test]
fn what_json_does_not_have_is_refused_with_its_place() {
    let error = refusal("a: 1\nb: .inf\n");
    assert_eq!((error.at.line, error.at.column), (2, 4));
    assert!(refusal("a: !secret x").message.contains("tag"));
    assert!(refusal("? [a]\n: 1\n").message.contains("key"));
    assert!(refusal("a: *nothing").message.contains("anchor"));
    let twice = refusal("a: 1\nb: 2\na: 3\n");
    assert_eq!((twice.at.line, twice.message.as_str()), (3, "the key \"a\" is there twice"));
    assert!(refusal("a: [1\nb: 2").at.line >= 1);
}

#[test]
fn a_text_that_is_too_large_is_refused() {
    assert!(refusal(&" ".repeat(MAX_BYTES + 1)).message.contains("bytes"));
}
