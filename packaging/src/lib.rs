//! What a package of streamd has besides its programs, written out of the programs' own command lines and settings:
//! man pages, completions, and a configuration file that shows every key with its default.
//!
//! The results are kept in `packaging/generated`; `cargo run -p streamd-packaging --example generate` writes them, and
//! a test holds them to what it would write.

mod command;
mod completion;
mod manual;
mod setting;

use std::path::PathBuf;

/// A file below `packaging/generated`.
#[derive(Debug)]
pub struct Document {
    /// Its name there.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// Why the documents can't be written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The settings can't be shown as TOML.
    #[error("the default settings can't be written as TOML: {0}")]
    Settings(#[from] toml::ser::Error),
    /// A setting without a default has no example in `setting.rs`.
    #[error("{0} has no default to show: give it an example in packaging/src/setting.rs")]
    NoExample(String),
    /// A page can't be rendered.
    #[error("a man page can't be rendered: {0}")]
    Page(#[from] std::io::Error),
    /// What was rendered isn't UTF-8.
    #[error("a document isn't UTF-8: {0}")]
    Text(#[from] std::string::FromUtf8Error),
}

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
