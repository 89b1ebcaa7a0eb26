//! Which share decides about a path and what is in force there, told by `--check`, so that nobody has to compare
//! prefixes and patterns, or to follow links.

mod line;
mod listeners;
mod path;
mod table;

pub use listeners::listeners;
pub use path::of_path;
pub use table::shares;
