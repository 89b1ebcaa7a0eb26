//! A document, and the reasons for which there is none.

use std::path::PathBuf;

/// A file below `packaging/generated`.
#[derive(Debug)]
pub struct Document {
    /// Its path there.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// Why the documents can't be written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A setting without a default has no example either.
    #[error("{0} has no default to show, and its kind no example")]
    NoExample(&'static str),
    /// A page can't be rendered.
    #[error("a man page can't be rendered: {0}")]
    Page(#[from] std::io::Error),
    /// A rendered page isn't UTF-8.
    #[error("a document isn't UTF-8: {0}")]
    Text(#[from] std::string::FromUtf8Error),
}
