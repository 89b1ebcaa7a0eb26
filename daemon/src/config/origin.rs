//! Where the value of a setting came from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Value;

use super::setting::Setting;

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line of the key, from 1.
        line: usize,
    },
    /// A variable of this name.
    Variable(String),
    /// The command line, by this flag or place.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            // A name may have any character, and this stands in comments.
            Origin::File { path, line } => {
                write!(formatter, "{}:{line}", path.display().to_string().escape_debug())
            }
            Origin::Variable(name) | Origin::Flag(name) => formatter.write_str(name),
        }
    }
}

/// A setting that was found somewhere.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The setting.
    pub(super) setting: &'static Setting,
    /// Where it was found.
    pub(super) origin: Origin,
    /// Its value, or why it can't be read.
    pub(super) value: Result<Value, String>,
}
