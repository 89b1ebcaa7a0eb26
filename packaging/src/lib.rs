//! The documents of a package, written out of the programs' own command lines and settings: man pages,
//! completions, and a configuration file that shows every key with its default; and README's table of them.
//!
//! The results are kept in `packaging/generated`; `cargo run -p streamd-packaging --example generate` writes them,
//! and a test holds them to what it would write.

mod command;
mod completion;
mod document;
mod manual;
mod readme;
mod setting;

use std::path::PathBuf;

use streamd::config::{Declared, Settings};

pub use document::{Document, DocumentError};
pub use readme::{ReadmeError, with_options};

/// Writes all documents, with the same bytes on every host and on every day.
pub fn documents() -> Result<Vec<Document>, DocumentError> {
    let settings = Settings::declared();
    let mut documents = vec![
        Document { path: "streamd.toml".into(), text: setting::file(&settings)? },
        Document { path: "man/streamd.8".into(), text: manual::daemon()? },
        Document { path: "man/streamd.toml.5".into(), text: manual::settings(&settings)? },
    ];
    documents.extend(manual::bench()?);
    documents.extend(completion::all()?);
    Ok(documents)
}

/// Returns the directory that they are kept in.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("generated")
}

/// Returns the page that has the table of options.
pub fn readme() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}
