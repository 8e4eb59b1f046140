use serde_json::json;

use super::*;

fn expand(template: &str, arguments: &Value) -> Result<String, ExpandError> {
    UrlTemplate::parse(template).unwrap().expand(arguments.as_object().unwrap())
}

fn refused(template: &str) -> String {
    UrlTemplate::parse(template).unwrap_err().to_string()
}

#[test]
fn values_are_encoded_by_construction() {
    for (template, arguments, url) in [
        (
            "https://wttr.in/{city}?format=j1",
            json!({"city": "São Paulo/x?y#z&a=b%2F"}),
            "https://wttr.in/S%C3%A3o%20Paulo%2Fx%3Fy%23z%26a%3Db%252F?format=j1",
        ),
        ("http://h/a{?q,n,gone}", json!({"q": "a&b=c", "n": 1}), "http://h/a?q=a%26b%3Dc&n=1"),
        ("http://h/a?fixed=1{&q}", json!({"q": "\r\nHost: x"}), "http://h/a?fixed=1&q=%0D%0AHost%3A%20x"),
        ("http://h:81/v{major}.{minor}", json!({"major": 1, "minor": 2}), "http://h:81/v1.2"),
        ("http://h{/x}", json!({}), "http://h"),
        ("http://[::1]:8080{/x}{?y}", json!({"x": "a", "y": true}), "http://[::1]:8080/a?y=true"),
        ("https://h/a?q={q}&r={r}", json!({"q": "1&r=2"}), "https://h/a?q=1%26r%3D2&r="),
    ] {
        assert_eq!(expand(template, &arguments).as_deref(), Ok(url), "{template}");
    }
}

#[test]
fn lists_explode_and_objects_do_not() {
    let arguments = json!({"l": ["a", 1, null, "c d"], "o": {"admin": true}, "e": [], "z": null});
    for (template, url) in [
        ("http://h/{?l}", "http://h/?l=a,1,c%20d"),
        ("http://h/{?l*}", "http://h/?l=a&l=1&l=c%20d"),
        ("http://h{/l*}", "http://h/a/1/c%20d"),
        ("http://h/{?o*}", "http://h/?o=%7B%22admin%22%3Atrue%7D"),
        ("http://h/{?e,z}", "http://h/"),
    ] {
        assert_eq!(expand(template, &arguments).as_deref(), Ok(url), "{template}");
    }
}

#[test]
fn a_value_cannot_climb_out_of_its_path() {
    for value in [json!(".."), json!("."), json!("../admin"), json!("a/../../b"), json!("..\\x"), json!([".."])] {
        let refused = expand("http://h/items/{id}/x", &json!({ "id": value }));
        assert!(matches!(refused, Err(ExpandError::DotSegment { .. })), "{value}: {refused:?}");
    }
    assert!(expand("http://h/.{x}/y", &json!({"x": "."})).is_err(), "made of a literal and a value");
    assert!(expand("http://h/%2E{x}/y", &json!({"x": "."})).is_err(), "made of an encoded literal and a value");
    assert!(expand("http://h{/x*}", &json!({"x": ["a", ".."]})).is_err());
    for value in ["...", "a..b", "v1.2", "%2e%2e", "./a"] {
        assert!(expand("http://h/items/{id}", &json!({ "id": value })).is_ok(), "{value}");
    }
    assert!(expand("http://h/items{?path}", &json!({"path": "../x"})).is_ok(), "a query is no path");
}

#[test]
fn a_path_segment_cannot_disappear() {
    for arguments in [json!({}), json!({"id": ""}), json!({"id": null}), json!({"id": []}), json!({"id": [""]})] {
        let refused = expand("http://h/items/{id}", &arguments);
        assert_eq!(refused, Err(ExpandError::EmptySegment { names: "id".to_owned() }), "{arguments}");
    }
    assert_eq!(expand("http://h/v{x}/y", &json!({})).as_deref(), Ok("http://h/v/y"));
    assert_eq!(expand("http://h/items{/id}", &json!({})).as_deref(), Ok("http://h/items"));
    assert!(expand("http://h/items{/id}", &json!({"id": ""})).is_err());
    assert!(expand("http://h/items{/id*}", &json!({"id": ["a", ""]})).is_err());
}

#[test]
fn a_url_has_a_longest_length() {
    assert!(expand("http://h/{?q}", &json!({"q": "x".repeat(MAX_URL_BYTES - 12)})).is_ok());
    assert!(matches!(expand("http://h/{?q}", &json!({"q": "x".repeat(MAX_URL_BYTES)})), Err(ExpandError::TooLong { .. })));
}

#[test]
fn the_host_is_literal() {
    for template in [
        "/relative",
        "ftp://h/",
        "https://{host}/",
        "https://h{x}/",
        "https://h{&x}",
        "https:///x",
        "https://:80/",
        "https://h:99999/",
        "https://h%2ex/",
        "https://h\\@evil/",
        "https://api.example.com.{x}",
        "HTTPS://h/",
        "",
    ] {
        assert!(refused(template).contains("literal host"), "{template}: {}", refused(template));
        assert!(refused(template).contains(&format!("{template:?}")));
    }
    assert_eq!(UrlTemplate::parse("https://h:8443/x").unwrap().origin(), "https://h:8443");
    assert!(refused("https://user:pass@h/").contains("authorization"));
}

#[test]
fn what_could_rewrite_a_url_is_refused() {
    for (template, why) in [
        ("https://h/{+x}", "rewrite"),
        ("https://h/{#x}", "rewrite"),
        ("https://h/a{.x}", "not supported"),
        ("https://h/a{;x}", "not supported"),
        ("https://h/{x:3}", "not a name"),
        ("https://h/{dry-run}", "not a name"),
        ("https://h/{}", "not a name"),
        ("https://h/{x,}", "not a name"),
        ("https://h/a{&x}", "use '{?name}'"),
        ("https://h/a?b=1{?x}", "use '{&name}'"),
        ("https://h/a{?x}{&y}", "write one"),
        ("https://h/a{?x}{?y}", "write one"),
        ("https://h/a{?x}&y=1", "put it before"),
        ("https://h/a{?x}{y}", "put it before"),
        ("https://h/a?b{/x}", "path segments"),
        ("https://h/a#b", "fragment"),
        ("https://h/a/../b", "'..'"),
        ("https://h/%2e%2e/b", "'..'"),
        ("https://h/..", "'..'"),
        ("https://h/{x", "malformed"),
        ("https://h/x}", "malformed"),
        ("https://h/a b", "malformed"),
        ("https://h/%zz", "malformed"),
    ] {
        assert!(refused(template).contains(why), "{template}: {}", refused(template));
    }
}

#[test]
fn variables_come_once_and_in_order() {
    assert_eq!(UrlTemplate::parse("https://h/{b}/{a,c}{?b,d*}").unwrap().variables(), ["b", "a", "c", "d"]);
}
