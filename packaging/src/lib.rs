//! What a package of streamd has besides its programs, written out of the programs' own command lines and settings:
//! man pages, completions, and a configuration file that shows every key with its default.
//!
//! The results are kept in `packaging/generated`; `cargo run -p streamd-packaging --example generate` writes them, and
//! a test holds them to what it would write.

mod command;
mod completion;
mod document;
mod manual;
mod setting;

pub use document::{Document, DocumentError};

use std::path::PathBuf;

/// All of them. The same bytes on every host and on every day.
pub fn documents() -> Result<Vec<Document>, DocumentError> {
    let settings = setting::all()?;
    let mut documents = vec![
        Document { path: "streamd.toml".into(), text: setting::file(&settings) },
        Document { path: "man/streamd.8".into(), text: manual::daemon(&settings)? },
        Document { path: "man/streamd.toml.5".into(), text: manual::settings(&settings) },
    ];
    documents.extend(manual::bench()?);
    documents.extend(completion::all(&settings)?);
    Ok(documents)
}

/// Where they are kept.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("generated")
}
