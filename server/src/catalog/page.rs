//! Lists in pages (MCP 2026-07-28, server/utilities/pagination), serialised when the catalog is loaded.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;

/// The most entries of a page.
const MAX_ENTRIES: usize = 250;
/// The most bytes of a page, unless one entry alone has more: what a client has to hold at once.
const MAX_BYTES: usize = 512 << 10;

/// One page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// A JSON array.
    pub items: &'a RawValue,
    /// Names the next page; none on the last.
    pub next_cursor: Option<&'a str>,
}

/// A cursor that names no page: made up, or from another generation of the catalog. `-32602` in all eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is invalid or from before the last change of the catalog: start again without one")]
pub struct UnknownCursor;

/// Which list: a cursor of one is none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
}

/// All pages of a list; there is always one.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: Vec<Serialised>,
}

#[derive(Debug)]
struct Serialised {
    /// Empty for the first.
    cursor: String,
    items: Box<RawValue>,
}

impl Pages {
    /// Pages of these entries, each a JSON text. The cursor of a page is opaque: list, generation, and number.
    pub(super) fn build(list: List, generation: &str, items: Vec<Result<String, String>>) -> Result<Self, String> {
        let items = items.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut pages = Vec::new();
        let mut rest = items.as_slice();
        loop {
            let (page, tail) = rest.split_at(page_len(rest));
            let items = RawValue::from_string(format!("[{}]", page.join(","))).map_err(|error| error.to_string())?;
            pages.push(Serialised { cursor: cursor(list, generation, pages.len()), items });
            rest = tail;
            if rest.is_empty() {
                return Ok(Self { pages });
            }
        }
    }

    pub(super) fn page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        let index = match cursor {
            None => 0,
            Some(cursor) => self.pages.iter().skip(1).position(|page| page.cursor == cursor).ok_or(UnknownCursor)? + 1,
        };
        let page = self.pages.get(index).ok_or(UnknownCursor)?;
        Ok(Page { items: &page.items, next_cursor: self.pages.get(index + 1).map(|next| next.cursor.as_str()) })
    }
}

fn page_len(items: &[String]) -> usize {
    let mut bytes = 0;
    let fits = |item: &&String| {
        bytes += item.len() + 1;
        bytes <= MAX_BYTES
    };
    let fitting = items.iter().take(MAX_ENTRIES).take_while(fits).count();
    fitting.max(items.len().min(1))
}

fn cursor(list: List, generation: &str, page: usize) -> String {
    let list = match list {
        List::Tools => 't',
        List::Resources => 'r',
        List::ResourceTemplates => 'u',
        List::Prompts => 'p',
    };
    let generation: String = generation.chars().take(16).collect();
    URL_SAFE_NO_PAD.encode(format!("{list}{generation}.{page}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(list: List, generation: &str, items: usize) -> Pages {
        Pages::build(list, generation, (0..items).map(|n| Ok(n.to_string())).collect()).unwrap()
    }

    fn walk(pages: &Pages) -> Vec<usize> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let page = pages.page(cursor).unwrap();
            all.extend(serde_json::from_str::<Vec<usize>>(page.items.get()).unwrap());
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return all,
            }
        }
    }

    #[test]
    fn every_entry_is_on_one_page() {
        for items in [0, 1, MAX_ENTRIES, MAX_ENTRIES + 1, 3 * MAX_ENTRIES] {
            let pages = pages(List::Tools, "abc", items);
            assert_eq!(walk(&pages), (0..items).collect::<Vec<_>>());
            assert_eq!(pages.pages.len(), items.div_ceil(MAX_ENTRIES).max(1));
        }
    }

    #[test]
    fn large_entries_make_small_pages() {
        let large = || Ok(format!("\"{}\"", "x".repeat(MAX_BYTES / 2)));
        let huge = || Ok(format!("\"{}\"", "x".repeat(MAX_BYTES * 2)));
        let pages = Pages::build(List::Tools, "abc", vec![large(), large(), huge(), large()]).unwrap();
        assert_eq!(pages.pages.len(), 4, "each is on a page of its own, none is lost");
    }

    #[test]
    fn a_cursor_of_another_list_or_generation_is_unknown() {
        let tools = pages(List::Tools, "abc", MAX_ENTRIES + 1);
        let cursor = tools.page(None).unwrap().next_cursor.unwrap();
        assert!(tools.page(Some(cursor)).is_ok());
        assert_eq!(pages(List::Prompts, "abc", MAX_ENTRIES + 1).page(Some(cursor)).err(), Some(UnknownCursor));
        assert_eq!(pages(List::Tools, "abd", MAX_ENTRIES + 1).page(Some(cursor)).err(), Some(UnknownCursor));
        assert!(pages(List::Tools, "abc", MAX_ENTRIES + 2).page(Some(cursor)).is_ok(), "any shard of the generation");
        for made_up in ["", "2", "%%%"] {
            assert_eq!(tools.page(Some(made_up)).err(), Some(UnknownCursor), "{made_up}");
        }
    }
}
