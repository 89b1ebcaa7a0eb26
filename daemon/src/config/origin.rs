//! The origins of settings' values.

use std::collections::BTreeMap;
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

/// The origins of all values that aren't the default.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Those of the settings themselves, by their keys.
    pub(super) own: BTreeMap<&'static str, Origin>,
    /// Those of the keys of each `[[share]]`, in the order of the file.
    pub(super) shares: Vec<TableOrigins>,
}

/// The origins of one table of several, and of its keys.
#[derive(Clone, Debug)]
pub(super) struct TableOrigins {
    pub(super) table: Origin,
    pub(super) keys: BTreeMap<&'static str, Origin>,
}

impl Origins {
    /// Returns the origin of a setting's value; None where it is the default.
    pub fn of(&self, key: &str) -> Option<&Origin> {
        self.own.get(key)
    }

    /// Returns the origin of a key of the share at this place of the list; that of its table where it hasn't the key.
    pub(super) fn of_share(&self, place: usize, key: &str) -> Option<&Origin> {
        let share = self.shares.get(place)?;
        Some(share.keys.get(key).unwrap_or(&share.table))
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
