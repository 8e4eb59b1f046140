//! Watches and scrapes: what the API server and the shards say, kept ready for the next pass.

pub mod fields;
mod known;
mod nodes;
mod object;
mod rounds;
mod scrape;
mod shelf;
mod watches;

pub use known::KnownPod;
pub use nodes::is_leaving;
pub use object::{Controller, KnownObject};
pub use scrape::{Scraper, Target};
pub use shelf::{Shelf, Shelved};
pub use watches::{Child, Stores, Wake, watch};
