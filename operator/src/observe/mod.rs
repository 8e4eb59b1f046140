//! Watches and scrapes: what the API server and the shards say, kept ready for the next pass.

pub mod fields;
mod nodes;
mod rounds;
mod scrape;
mod shelf;
mod watches;

pub use nodes::is_leaving;
pub use scrape::{Scraper, Target};
pub use shelf::Shelf;
pub use watches::{Child, Stores, Wake, watch};
