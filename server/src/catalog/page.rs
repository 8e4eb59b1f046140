//! Lists in pages (MCP 2026-07-28, server/utilities/pagination), serialised when the catalog is loaded.
//!
//! A list is in the order of its entries' keys (names or URIs), and a cursor holds the key it goes on behind. So any shard ends
//! any list, whatever has become of the catalog: an entry that was there all the time is listed once.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;

/// The most entries of a page.
const MAX_ENTRIES: usize = 250;
/// The most bytes of a page, unless one entry alone has more: what a client has to hold at once.
const MAX_BYTES: usize = 512 << 10;

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// A JSON array.
    pub items: Cow<'a, RawValue>,
    /// Names the next page; none on the last.
    pub next_cursor: Option<&'a str>,
}

/// A cursor that nobody was given for this list. `-32602` in all eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is none of this list: start again without one")]
pub struct UnknownCursor;

/// Which list: a cursor of one is none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
}

/// An entry of a list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its name or URI, by which the list is ordered.
    pub(super) key: String,
    /// Its JSON.
    pub(super) json: String,
}

/// All pages of a list; there is always one.
#[derive(Debug)]
pub(super) struct Pages {
    list: List,
    pages: Vec<Serialised>,
}

#[derive(Debug)]
struct Serialised {
    /// Names the page behind this one; none when this is the last.
    next: Option<String>,
    items: Box<RawValue>,
    /// Key of each entry, and where in `items` it begins.
    entries: Vec<(Box<str>, usize)>,
}

// === impl Pages ===

impl Pages {
    /// Pages of these entries, which are in the order of their keys.
    pub(super) fn build(list: List, entries: &[Entry]) -> Result<Self, String> {
        let mut pages = Vec::new();
        let mut rest = entries;
        loop {
            let (page, tail) = rest.split_at(page_len(rest));
            let next = page.last().filter(|_| !tail.is_empty()).map(|last| list.cursor(&last.key));
            pages.push(Serialised::of(page, next)?);
            rest = tail;
            if rest.is_empty() {
                return Ok(Self { list, pages });
            }
        }
    }

    /// No entry.
    pub(super) fn none(list: List) -> Self {
        Self { list, pages: Vec::new() }
    }

    /// The first page, or the one that a cursor names: the entries behind its key.
    pub(super) fn page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        let key = cursor.map(|cursor| self.list.key(cursor)).transpose()?;
        let (page, first) = key.map_or((0, 0), |key| self.behind(&key));
        let Some(page) = self.pages.get(page) else { return Ok(Page { items: nothing()?, next_cursor: None }) };
        Ok(Page { items: page.from(first)?, next_cursor: page.next.as_deref() })
    }

    /// Page of the first entry behind a key, and its place on it; past the last page when there is none.
    fn behind(&self, key: &str) -> (usize, usize) {
        let is_before = |last: Option<&(Box<str>, usize)>| last.is_some_and(|(last, _)| **last <= *key);
        let page = self.pages.partition_point(|page| is_before(page.entries.last()));
        let first = self.pages.get(page).map_or(0, |page| page.entries.partition_point(|(entry, _)| **entry <= *key));
        (page, first)
    }
}

// === impl Serialised ===

impl Serialised {
    fn of(page: &[Entry], next: Option<String>) -> Result<Self, String> {
        let mut json = String::from("[");
        let mut entries = Vec::with_capacity(page.len());
        for entry in page {
            if !entries.is_empty() {
                json.push(',');
            }
            entries.push((entry.key.as_str().into(), json.len()));
            json.push_str(&entry.json);
        }
        json.push(']');
        Ok(Self { next, items: RawValue::from_string(json).map_err(|error| error.to_string())?, entries })
    }

    /// Its entries from one on. As they lie there, unless a cursor of another edition of the catalog begins in their midst.
    fn from(&self, first: usize) -> Result<Cow<'_, RawValue>, UnknownCursor> {
        match self.entries.get(first) {
            Some((_, start)) if first > 0 => {
                let rest = self.items.get().get(*start..).unwrap_or("]");
                RawValue::from_string(format!("[{rest}")).map(Cow::Owned).map_err(|_| UnknownCursor)
            }
            Some(_) => Ok(Cow::Borrowed(&self.items)),
            None if self.entries.is_empty() => Ok(Cow::Borrowed(&self.items)),
            None => nothing(),
        }
    }
}

fn nothing<'a>() -> Result<Cow<'a, RawValue>, UnknownCursor> {
    RawValue::from_string("[]".to_owned()).map(Cow::Owned).map_err(|_| UnknownCursor)
}

// === impl List ===

impl List {
    fn letter(self) -> char {
        match self {
            Self::Tools => 't',
            Self::Resources => 'r',
            Self::ResourceTemplates => 'u',
            Self::Prompts => 'p',
        }
    }

    /// Names what is behind a key.
    fn cursor(self, key: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}>{key}", self.letter()))
    }

    /// The key that a cursor goes on behind.
    fn key(self, cursor: &str) -> Result<String, UnknownCursor> {
        let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let key = text.as_deref().and_then(|text| text.strip_prefix(self.letter())?.strip_prefix('>'));
        key.map(str::to_owned).ok_or(UnknownCursor)
    }
}

fn page_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.json.len() + 1;
        bytes <= MAX_BYTES
    };
    let fitting = entries.iter().take(MAX_ENTRIES).take_while(fits).count();
    fitting.max(entries.len().min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(keys: impl IntoIterator<Item = usize>) -> Vec<Entry> {
        keys.into_iter().map(|n| Entry { key: format!("{n:05}"), json: n.to_string() }).collect()
    }

    fn pages(list: List, items: usize) -> Pages {
        Pages::build(list, &entries(0..items)).unwrap()
    }

    fn numbers(page: &Page<'_>) -> Vec<usize> {
        serde_json::from_str(page.items.get()).unwrap()
    }

    /// All of a list, each page from the next of these in turn.
    fn walk(editions: &[&Pages]) -> Vec<usize> {
        let mut all = Vec::new();
        let mut cursor = None;
        for pages in editions.iter().cycle() {
            let page = pages.page(cursor.as_deref()).unwrap();
            all.extend(numbers(&page));
            let Some(next) = page.next_cursor else { break };
            cursor = Some(next.to_owned());
        }
        all
    }

    #[test]
    fn every_entry_is_on_one_page() {
        for items in [0, 1, MAX_ENTRIES, MAX_ENTRIES + 1, 3 * MAX_ENTRIES] {
            let pages = pages(List::Tools, items);
            assert_eq!(walk(&[&pages]), (0..items).collect::<Vec<_>>());
            assert_eq!(pages.pages.len(), items.div_ceil(MAX_ENTRIES).max(1));
        }
    }

    #[test]
    fn large_entries_make_small_pages() {
        let entry = |key: &str, bytes: usize| Entry { key: key.to_owned(), json: format!("\"{}\"", "x".repeat(bytes)) };
        let (large, huge) = (MAX_BYTES / 2, MAX_BYTES * 2);
        let pages =
            Pages::build(List::Tools, &[entry("a", large), entry("b", large), entry("c", huge), entry("d", large)]).unwrap();
        assert_eq!(pages.pages.len(), 4, "each is on a page of its own, none is lost");
    }

    #[test]
    fn what_is_there_all_the_time_is_listed_once_however_the_catalog_changes_meanwhile() {
        let old = pages(List::Tools, 900);
        let odd = Pages::build(List::Tools, &entries((0..1_800).filter(|n| n % 2 == 1))).unwrap();
        for editions in [[&old, &odd], [&odd, &old]] {
            let listed = walk(&editions);
            let staying = |n: &usize| *n < 900 && n % 2 == 1;
            let stayed: Vec<_> = listed.iter().copied().filter(staying).collect();
            assert_eq!(stayed, (0..900).filter(staying).collect::<Vec<_>>());
            assert!(listed.is_sorted_by(|one, other| one < other), "none twice: {listed:?}");
        }
    }

    #[test]
    fn behind_the_last_entry_of_a_catalog_that_shrank_is_nothing() {
        let cursor = pages(List::Tools, MAX_ENTRIES + 1).pages[0].next.clone();
        for left in [0, 1, MAX_ENTRIES] {
            let less = pages(List::Tools, left);
            let page = less.page(cursor.as_deref()).unwrap();
            assert_eq!((numbers(&page), page.next_cursor), (vec![], None), "{left} left");
        }
    }

    #[test]
    fn a_cursor_of_another_list_or_a_made_up_one_is_unknown() {
        let tools = pages(List::Tools, MAX_ENTRIES + 1);
        let cursor = tools.page(None).unwrap().next_cursor.unwrap();
        assert_eq!(numbers(&tools.page(Some(cursor)).unwrap()), [MAX_ENTRIES]);
        assert_eq!(pages(List::Prompts, MAX_ENTRIES + 1).page(Some(cursor)).err(), Some(UnknownCursor));
        for made_up in ["", "2", "%%%", "made-up"] {
            assert_eq!(tools.page(Some(made_up)).err(), Some(UnknownCursor), "{made_up}");
        }
    }
}
