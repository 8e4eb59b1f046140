//! Source text → the paths it names, with the line of each: `use` declarations unfolded, inline paths, both resolved
//! through `crate::`, `self::`, `super::` and the file's own imports. Comments, literals and `#[cfg(test)]` items are left out.

use std::collections::BTreeMap;

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// `kube::Api`, or `crate::scale::decide`; a glob ends with `*`.
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Word(String),
    PathSeparator,
    Other(char),
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    line: usize,
}

impl Token {
    fn is(&self, other: char) -> bool {
        self.kind == Kind::Other(other)
    }

    fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::PathSeparator | Kind::Other(_) => None,
        }
    }
}

/// Every path that `source`, the module `module` (`["crate", "scale"]`), names.
pub(crate) fn named(source: &str, module: &[String]) -> Vec<Named> {
    let tokens = without_tests(&tokens(source));
    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].word() == Some("use") {
            let mut leaves = Vec::new();
            at = unfold(&tokens, at + 1, &[], &mut leaves);
            for Leaf { path, alias, line } in leaves {
                let path = absolute(&path, module, &BTreeMap::new());
                if let Some(alias) = alias {
                    imports.insert(alias, path.clone());
                }
                named.push((path, line));
            }
        } else if tokens[at].word().is_some() && !(at > 0 && tokens[at - 1].kind == Kind::PathSeparator) {
            let line = tokens[at].line;
            let mut path = Vec::new();
            while let Some(word) = tokens.get(at).and_then(Token::word) {
                path.push(word.to_owned());
                at += 1;
                if tokens.get(at).is_some_and(|token| token.kind == Kind::PathSeparator) {
                    at += 1;
                } else {
                    break;
                }
            }
            if path.len() > 1 {
                named.push((path, line));
            }
        } else {
            at += 1;
        }
    }
    let mut named: Vec<_> =
        named.into_iter().map(|(path, line)| Named { path: absolute(&path, module, &imports).join("::"), line }).collect();
    named.sort();
    named.dedup();
    named
}

struct Leaf {
    path: Vec<String>,
    /// The name it has in the file; none for a glob.
    alias: Option<String>,
    line: usize,
}

/// Unfolds the tree of a `use` declaration that begins at `at`; returns where it ends.
fn unfold(tokens: &[Token], mut at: usize, before: &[String], leaves: &mut Vec<Leaf>) -> usize {
    let mut path = before.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Word(word) if word == "as" => {
                let alias = tokens.get(at + 1).and_then(Token::word).map(str::to_owned);
                leaves.push(Leaf { path, alias, line });
                return at + 2;
            }
            Kind::Word(word) => path.push(word.clone()),
            Kind::PathSeparator => {}
            Kind::Other('*') => {
                path.push("*".to_owned());
                leaves.push(Leaf { path, alias: None, line });
                return at + 1;
            }
            Kind::Other('{') => {
                at += 1;
                while tokens.get(at).is_some_and(|token| !token.is('}')) {
                    at = unfold(tokens, at, &path, leaves);
                    if tokens.get(at).is_some_and(|token| token.is(',')) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Kind::Other(_) => break,
        }
        at += 1;
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if path.len() > before.len() || !before.is_empty() {
        leaves.push(Leaf { alias: path.last().cloned(), path, line });
    }
    at
}

fn absolute(path: &[String], module: &[String], imports: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut base: Vec<String> = Vec::new();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("self") => {
            base = module.to_vec();
            rest = &path[1..];
        }
        Some("super") => {
            base = module.to_vec();
            while rest.first().is_some_and(|word| word == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        Some(first) => {
            if let Some(import) = imports.get(first) {
                base.clone_from(import);
                rest = &path[1..];
            }
        }
        None => {}
    }
    base.extend(rest.iter().cloned());
    base
}

/// Leaves out every item under `#[cfg(test)]`, or under a `cfg` that names `test`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = tokens[at].is('#') && tokens.get(at + 1).is_some_and(|token| token.is('['));
        if !attribute {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = close(tokens, at + 1, '[', ']');
        let words: Vec<_> = tokens[at..end].iter().filter_map(Token::word).collect();
        let is_test = words.first() == Some(&"test")
            || (words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not"));
        at = end;
        if !is_test {
            continue;
        }
        while tokens.get(at).is_some_and(|token| token.is('#')) {
            at = close(tokens, at + 1, '[', ']');
        }
        while let Some(token) = tokens.get(at) {
            if token.is('{') {
                at = close(tokens, at, '{', '}');
                break;
            }
            at += 1;
            if token.is(';') {
                break;
            }
        }
    }
    kept
}

/// Behind the bracket that closes the one at `at`.
fn close(tokens: &[Token], mut at: usize, open: char, shut: char) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if token.is(open) {
            depth += 1;
        } else if token.is(shut) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                break;
            }
        }
    }
    at
}

/// Words, `::` and single characters; comments, strings, characters and numbers are dropped.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(n, c)| text.get(at + n) == Some(&c));
    while at < text.len() {
        let begin = at;
        let c = text[at];
        if starts(at, "//") {
            while at < text.len() && text[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            while at < text.len() {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    at += 1;
                }
            }
        } else if let Some(behind) = raw_string(&text, at) {
            at = behind;
        } else if c == '"' || starts(at, "b\"") || starts(at, "c\"") {
            at += if c == '"' { 1 } else { 2 };
            while at < text.len() && text[at] != '"' {
                at += if text[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            at = character_or_lifetime(&text, at);
        } else if c.is_alphabetic() || c == '_' {
            while at < text.len() && (text[at].is_alphanumeric() || text[at] == '_') {
                at += 1;
            }
            tokens.push(Token { kind: Kind::Word(text[begin..at].iter().collect()), line });
        } else if c.is_ascii_digit() {
            while at < text.len() && (text[at].is_alphanumeric() || text[at] == '_') {
                at += 1;
            }
        } else if starts(at, "::") {
            tokens.push(Token { kind: Kind::PathSeparator, line });
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token { kind: Kind::Other(c), line });
            }
            at += 1;
        }
        let end = at.min(text.len());
        line += text[begin..end].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// Behind the raw string that begins at `at`, if one does.
fn raw_string(text: &[char], at: usize) -> Option<usize> {
    let mut next = at + usize::from(text[at] == 'b');
    if text.get(next) != Some(&'r') {
        return None;
    }
    next += 1;
    let hashes = text[next.min(text.len())..].iter().take_while(|&&c| c == '#').count();
    next += hashes;
    if text.get(next) != Some(&'"') {
        return None;
    }
    next += 1;
    while next < text.len() {
        let closing = text[next] == '"' && (1..=hashes).all(|n| text.get(next + n) == Some(&'#'));
        if closing {
            return Some(next + 1 + hashes);
        }
        next += 1;
    }
    Some(next)
}

/// Behind the character literal, or the lifetime's quote, at `at`.
fn character_or_lifetime(text: &[char], at: usize) -> usize {
    if text.get(at + 1) == Some(&'\\') {
        let mut next = at + 3;
        while next < text.len() && text[next] != '\'' {
            next += 1;
        }
        return next + 1;
    }
    if text.get(at + 2) == Some(&'\'') { at + 3 } else { at + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        named(source, &["crate".to_owned(), "scale".to_owned()]).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn a_tree_is_unfolded() {
        let found = paths("use kube::{Client, api::{Api, ListParams as L}, runtime::*};");
        assert_eq!(found, ["kube::Client", "kube::api::Api", "kube::api::ListParams", "kube::runtime::*"]);
    }

    #[test]
    fn relative_paths_are_resolved() {
        assert_eq!(
            paths("use super::rollout::plan; fn f() { self::inner::g(); }"),
            ["crate::rollout::plan", "crate::scale::inner::g"]
        );
    }

    #[test]
    fn a_path_through_an_import_is_resolved() {
        let found = paths("use std::time;\nuse kube::api as k;\nfn f() -> k::Api { time::Instant::now() }");
        assert!(found.contains(&"kube::api::Api".to_owned()), "{found:?}");
        assert!(found.contains(&"std::time::Instant::now".to_owned()), "{found:?}");
    }

    #[test]
    fn comments_literals_and_tests_name_nothing() {
        let source = r#"
            //! tokio::spawn
            /* hyper::body /* nested */ */
            const A: &str = "std::env::var"; const B: &str = r"rand::rng"; const C: char = '"';
            fn f<'a>(x: &'a str) {}
            #[cfg(test)]
            mod tests { use tokio::time; fn g() { std::env::args(); } }
            #[cfg(test)]
            mod more_tests;
            use kube::Client;
        "#;
        assert_eq!(paths(source), ["kube::Client"]);
    }

    #[test]
    fn a_raw_string_ends_at_its_own_hashes() {
        let raw = ["r#", "\"a::b \" c::d\"#"].concat();
        assert_eq!(paths(&format!("const A: &str = {raw}; use e::f;")), ["e::f"]);
    }

    #[test]
    fn lines_are_counted() {
        let found = named("\n/* a\nb */\nuse a::b;\n\"x\ny\";\nfn f() { c::d(); }", &[]);
        assert_eq!(found, [Named { path: "a::b".into(), line: 4 }, Named { path: "c::d".into(), line: 7 }]);
    }
}
