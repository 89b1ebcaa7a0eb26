//! The origins of settings' values.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Value;

use super::setting::Setting;

/// The origin of a setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The value is the default.
    Default,
    /// The value stands in the configuration file.
    File {
        /// The path of the file.
        path: Arc<Path>,
        /// The line of the key, from 1.
        line: usize,
    },
    /// The value is that of a variable of this name.
    Variable(String),
    /// The value stands on the command line, by this flag or place.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            // The path is escaped, since it may have any character and stands in a comment.
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
    /// The place where it was found.
    pub(super) origin: Origin,
    /// The value, or why it can't be read.
    pub(super) value: Result<Value, String>,
}
