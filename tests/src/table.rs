//! A table as kubectl prints it: columns begin where their titles begin, so that empty cells stay empty.

use crate::failure::{Failure, Outcome};

/// A printed table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads what kubectl printed.
    ///
    /// # Errors
    /// When there is not even a header.
    pub fn parse(text: &str) -> Outcome<Self> {
        let mut lines = text.lines();
        let header = lines.next().ok_or_else(|| Failure::new("kubectl printed nothing"))?;
        // Titles may hold one space ("LAST SCALE"); columns are at least three apart.
        let mut starts = Vec::new();
        let (mut spaces, bytes) = (2, header.as_bytes());
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == b' ' {
                spaces += 1;
            } else {
                if spaces >= 2 {
                    starts.push(at);
                }
                spaces = 0;
            }
        }
        let cells = |line: &str| -> Vec<String> {
            let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
            let cut = |(start, end): (usize, usize)| line.get(start..end.min(line.len())).unwrap_or("").trim().to_owned();
            starts.iter().copied().zip(ends).map(cut).collect()
        };
        Ok(Self { titles: cells(header), rows: lines.map(cells).collect() })
    }

    /// The titles.
    pub fn titles(&self) -> Vec<&str> {
        self.titles.iter().map(String::as_str).collect()
    }

    /// The cell of the only row.
    ///
    /// # Errors
    /// When there is no such column, or not exactly one row.
    pub fn cell(&self, title: &str) -> Outcome<&str> {
        let column = self.titles.iter().position(|found| found == title);
        match (column, self.rows.as_slice()) {
            (Some(column), [row]) => Ok(&row[column]),
            (_, _) => Err(Failure::new(format!("no cell {title} of one row in {self:?}"))),
        }
    }

    /// A cell that holds a number.
    ///
    /// # Errors
    /// When it does not.
    pub fn number(&self, title: &str) -> Outcome<i64> {
        let cell = self.cell(title)?;
        cell.parse().map_err(|_| Failure::new(format!("column {title} holds {cell:?}, no number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
NAME      READY   SHARDS   MEMORY%   REASON            LAST SCALE    URL
fresh     False   0                  ImagePullFailed
";

    #[test]
    fn empty_cells_stay_empty_and_titles_may_hold_a_space() {
        let table = Table::parse(PRINTED).unwrap();
        assert_eq!(table.titles(), ["NAME", "READY", "SHARDS", "MEMORY%", "REASON", "LAST SCALE", "URL"]);
        assert_eq!(table.cell("MEMORY%").unwrap(), "");
        assert_eq!(table.cell("REASON").unwrap(), "ImagePullFailed");
        assert_eq!(table.cell("URL").unwrap(), "");
        assert_eq!(table.number("SHARDS").unwrap(), 0);
        assert!(table.number("READY").is_err());
        assert!(table.cell("AGE").is_err());
    }
}
