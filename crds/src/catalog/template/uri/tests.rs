use std::collections::BTreeMap;

use iri_string::spec::UriSpec;
use iri_string::template::UriTemplateStr;
use iri_string::template::simple_context::SimpleContext;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn matched(template: &str, uri: &str) -> Option<Value> {
    UriTemplate::parse(template).unwrap().matches(uri).map(Value::Object)
}

fn refused(template: &str) -> String {
    UriTemplate::parse(template).expect_err(template).to_string()
}

#[test]
fn a_uri_gives_back_its_values_decoded() {
    for (template, uri, values) in [
        ("tickets://{queue}/{id}", "tickets://ops/T-1", json!({"queue": "ops", "id": "T-1"})),
        ("test://template/{id}/data", "test://template/123/data", json!({"id": "123"})),
        ("tickets://{queue}/{id}", "tickets://a%2Fb/%C3%BC%20%25", json!({"queue": "a/b", "id": "ü %"})),
        ("docs://{page}.md", "docs://a.md.md", json!({"page": "a.md"})),
        ("docs://v{major}/{page}", "docs://v12/x", json!({"major": "12", "page": "x"})),
        ("at://{a}:{b},{c}", "at://x:y,z", json!({"a": "x", "b": "y", "c": "z"})),
        ("urn:isbn:{n}", "urn:isbn:0451450523", json!({"n": "0451450523"})),
        ("db://rows?table={table}&key={key}", "db://rows?table=t&key=%26", json!({"table": "t", "key": "&"})),
        ("file:///{+path}", "file:///a/b%20c?d#e", json!({"path": "a/b c?d#e"})),
        ("file:///{drive}/{+path}", "file:///c/a/b", json!({"drive": "c", "path": "a/b"})),
    ] {
        assert_eq!(matched(template, uri), Some(values), "{template} {uri}");
    }
}

#[test]
fn reserved_characters_that_end_nothing_may_come_unencoded() {
    assert_eq!(matched("t://{a}/{b}", "t://x:y@z/ü"), Some(json!({"a": "x:y@z", "b": "ü"})));
    assert_eq!(matched("t://{a}:{b}", "t://x:y:z"), None, "here it ends a value");
}

#[test]
fn what_was_not_made_of_the_template_does_not_match() {
    for (template, uris) in [
        (
            "tickets://{queue}/{id}",
            &[
                "",
                "tickets://",
                "tickets://ops",
                "tickets://ops/",
                "tickets:///T",
                "tickets://ops/T/x",
                "tickets://ops/T?x",
                "other://ops/T",
                "Tickets://ops/T",
            ][..],
        ),
        ("docs://{page}.md", &["docs://.md", "docs://a.txt", "docs://a.md/b"][..]),
        ("t://{a}/data", &["t://1/date", "t://1/data/", "t://1/dat%61"][..]),
        ("t://{a}", &["t://%", "t://%4", "t://%zz", "t://%ff", "t://a#b"][..]),
        ("file:///{+path}", &["file:///", "file://a"][..]),
    ] {
        for uri in uris {
            assert_eq!(matched(template, uri), None, "{template} {uri}");
        }
    }
}

#[test]
fn templates_that_match_in_two_ways_are_refused() {
    for (template, why) in [
        ("t://{a}{b}", "nothing tells where {a} ends and {b} begins"),
        ("t://{a}-{b}", "nothing tells where {a} ends"),
        ("t://{a}%2F{b}", "nothing tells where {a} ends"),
        ("t://{a}{+b}", "nothing tells where {a} ends"),
        ("t://{a}/{a}", "{a} is there twice"),
        ("t://{+a}/b", "nothing can follow it"),
        ("t://{+a}/{b}", "nothing can follow it"),
        ("t://a", "has no variables"),
        ("{scheme}://a", "must begin with a literal scheme"),
        ("{a}", "must begin with a literal scheme"),
        ("tickets/{id}", "must begin with a literal scheme"),
        ("", "must begin with a literal scheme"),
        ("t://{a", "has a '{' without its '}'"),
        ("t://a}{b}", "has a '}' without its '{'"),
    ] {
        assert!(refused(template).contains(why), "{template}: {}", refused(template));
    }
    for expression in
        ["{?q}", "{/a}", "{#a}", "{&a}", "{;a}", "{.a}", "{a,b}", "{a*}", "{a:3}", "{}", "{+}", "{a b}", "{1}", "{a-b}"]
    {
        assert!(refused(&format!("t://{expression}")).contains("URIs cannot be matched"), "{expression}");
    }
}

#[test]
fn the_most_literal_template_is_asked_first() {
    let mut templates = ["t://{+all}", "t://{a}/{b}", "t://a/{b}", "t://{a}/b", "t://{a}", "t://a/b/{+rest}"]
        .map(|text| (UriTemplate::parse(text).unwrap().rank(), text));
    templates.sort();
    let order = templates.map(|(_, text)| text);
    assert_eq!(order, ["t://a/{b}", "t://{a}/b", "t://{a}/{b}", "t://{a}", "t://a/b/{+rest}", "t://{+all}"]);
    let rank = |text| UriTemplate::parse(text).unwrap().rank();
    assert_eq!(rank("t://{a}/{b}"), rank("t://{b}/{c}"), "they match the same");
    assert_ne!(rank("t://{a}"), rank("t://{+a}"));
}

#[test]
fn matching_takes_time_in_proportion_to_the_uri() {
    // What makes backtracking matchers take for ever: many places where a value could end.
    let cells: Vec<_> = (0..50).map(|n| format!("{{v{n}}}a/")).collect();
    let template = UriTemplate::parse(&format!("t://{}x", cells.concat())).unwrap();
    assert_eq!(template.matches(&format!("t://{}", "aa/".repeat(400_000))), None);
    assert_eq!(template.matches(&format!("t://{}", "a".repeat(1_000_000))), None);
}

/// Templates of one to four variables with literals between them.
fn template() -> impl Strategy<Value = (String, Vec<String>)> {
    let literal = "[a-z0-9._~-]{0,3}";
    let delimiter = "[/:,;=&?@!]";
    (literal, prop::collection::vec((literal, literal, delimiter), 1..5), literal, any::<bool>()).prop_map(
        |(head, cells, tail, literal_tail)| {
            let mut text = format!("s://{head}");
            let mut names = Vec::new();
            let last = cells.len() - 1;
            for (n, (before, after, delimiter)) in cells.into_iter().enumerate() {
                text.extend([&before, "{v", &n.to_string(), "}", &after]);
                if n < last || literal_tail {
                    text.push_str(&delimiter);
                }
                names.push(format!("v{n}"));
            }
            if literal_tail {
                text.push_str(&tail);
            }
            (text, names)
        },
    )
}

proptest! {
    #[test]
    fn expanding_then_matching_gives_the_values_back(
        (text, names) in template(),
        values in prop::collection::vec("(?s).{1,12}", 4),
    ) {
        let template = UriTemplate::parse(&text).unwrap();
        let values: BTreeMap<_, _> = names.iter().cloned().zip(values).collect();
        let mut context = SimpleContext::new();
        for (name, value) in &values {
            context.insert(name.clone(), value.clone());
        }
        let uri = UriTemplateStr::new(&text).unwrap().expand::<UriSpec, _>(&context).unwrap().to_string();
        let expected: Map<_, _> = values.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        prop_assert_eq!(template.matches(&uri), Some(expected), "{} {}", text, uri);
    }

    #[test]
    fn no_uri_and_no_template_makes_it_fall_over(text in ".{0,40}", uri in ".{0,40}") {
        if let Ok(template) = UriTemplate::parse(&text) {
            let _ = (template.matches(&uri), template.rank());
        }
    }
}
