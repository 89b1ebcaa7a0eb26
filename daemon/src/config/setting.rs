//! The form in which settings are declared, each once: everything that uses a setting takes it from there.

use toml::Value;

use super::kind::Kind;

/// The declaration of one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key in the file. The flag has `-` for `_`, the variable is in capitals behind `STREAMD_`.
    pub key: &'static str,
    /// The description, and after an empty line further sentences.
    pub text: &'static str,
    /// The reason for the default.
    pub reason: &'static str,
    /// The kind of its values, with unit and range.
    pub kind: Kind,
    /// The thing that has one value for itself.
    pub scope: Scope,
    /// Whether a running daemon takes a change.
    pub change: Change,
    /// A few words for `-h`, if the setting is shown there.
    pub brief: Option<&'static str>,
    /// The argument without a flag that is short for the setting.
    pub place: Option<&'static str>,
    /// The default in words, where the value doesn't tell it or is the host's.
    pub default_words: Option<&'static str>,
    /// The section of the documents that tells more.
    pub see: Option<&'static str>,
    /// The name in the release before, which is accepted with a warning.
    pub former_key: Option<&'static str>,
    /// The settings that a table, or each of several, has.
    pub members: Option<fn() -> Vec<&'static Setting>>,
}

/// The thing that has a value of a setting for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole daemon.
    Node,
    /// Each share.
    Share,
    /// Each address of a client.
    Address,
    /// Each connection, or the bytes that are sent and received on it.
    Connection,
    /// Each request for a file, and each file.
    File,
    /// Each upload.
    Upload,
    /// Each name that uploads get.
    Name,
    /// Each frame.
    Frame,
    /// Each stream.
    Stream,
    /// Each mount below the root.
    Mount,
}

/// The moment from which a change is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A reload (SIGHUP) puts it in force.
    Reload,
    /// The next start puts it in force.
    Restart,
}

/// A setting as a field of the structure that holds its value.
#[derive(Clone, Copy)]
pub struct Field<S: 'static> {
    /// The declaration of the setting.
    pub setting: Setting,
    /// Stores a value that the setting's kind has read; false where it is of another type.
    pub put: fn(&mut S, &Value) -> bool,
    /// Returns the value; None where there is none.
    pub get: fn(&S) -> Option<Value>,
    /// Copies the first structure's value into the second.
    pub copy: fn(&S, &mut S),
}

/// A structure whose fields are declared settings.
pub trait Declared: Default + 'static {
    /// All fields, in the order in which people should read them.
    const FIELDS: &'static [Field<Self>];

    /// Returns the declarations of all fields.
    fn declared() -> Vec<&'static Setting> {
        Self::FIELDS.iter().map(|field| &field.setting).collect()
    }

    /// Returns the values as a table, without those that are None.
    fn table(&self) -> toml::Table {
        let values = Self::FIELDS.iter();
        values.filter_map(|field| Some((field.setting.key.to_owned(), (field.get)(self)?))).collect()
    }

    /// Returns the default of a setting as people write it on a command line; None where there is none.
    fn default_text(setting: &Setting) -> Option<String> {
        if let Some(words) = setting.default_words {
            return Some(words.to_owned());
        }
        let field = Self::FIELDS.iter().find(|field| field.setting.key == setting.key)?;
        Some(match setting.kind.written(&(field.get)(&Self::default())?) {
            Value::String(text) => text,
            Value::Array(list) if list.is_empty() => "none".to_owned(),
            other => other.to_string(),
        })
    }
}

impl Setting {
    /// The parts that a declaration may leave out.
    pub(super) const UNSAID: Setting = Setting {
        key: "",
        text: "",
        reason: "",
        kind: Kind::Switch,
        scope: Scope::Node,
        change: Change::Restart,
        brief: None,
        place: None,
        default_words: None,
        see: None,
        former_key: None,
        members: None,
    };

    /// Returns the description, a sentence without its full stop.
    pub fn help(&self) -> String {
        let first = self.text.split("\n\n").next().unwrap_or_default();
        one_line(first).trim_end_matches('.').to_owned()
    }

    /// Returns the further sentences of the description.
    pub fn more(&self) -> Option<String> {
        self.text.split_once("\n\n").map(|(_, more)| one_line(more))
    }

    /// Returns the name of the variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// Returns the flag, without the dashes ahead.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Whether the setting can be given in the file alone.
    pub fn is_of_the_file_alone(&self) -> bool {
        matches!(self.kind, Kind::Map { .. } | Kind::Table | Kind::Tables)
    }
}

/// The key of a field, whose name may be a word of Rust (`r#match`).
pub(super) const fn key_of(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Returns the variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("STREAMD_{}", key.to_uppercase())
}

/// Returns the flag of a key, without the dashes ahead.
pub(super) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// Returns the warning about a former name of `name`, or the fault where both are given.
pub(super) fn renamed(name: &str, is_doubled: bool) -> String {
    if is_doubled {
        return format!("is the former name of {name}, which is set as well: take one of them out");
    }
    format!("is called {name} now, and this release is the last that takes the former name")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Declares a structure of settings. Each field has, in this order: its description (as its documentation), name,
/// type, default, the reason for it, kind, scope, when a change is in force, and in braces the other parts of
/// [`Setting`].
macro_rules! settings {
    (
        $(#[$outer:meta])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $text:literal])+
                $field:ident: $type:ty = $default:expr, $reason:literal,
                $kind:expr, $scope:ident, $change:ident $({ $($said:ident: $what:expr),* $(,)? })?;
            )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq)]
        $visibility struct $name {
            $($(#[doc = $text])+ pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::config::setting::Declared for $name {
            const FIELDS: &'static [$crate::config::setting::Field<Self>] = &[$(
                $crate::config::setting::Field {
                    setting: $crate::config::setting::Setting {
                        key: $crate::config::setting::key_of(stringify!($field)),
                        text: concat!($($text, "\n"),+),
                        reason: $reason,
                        kind: $kind,
                        scope: $crate::config::setting::Scope::$scope,
                        change: $crate::config::setting::Change::$change,
                        $($($said: Some($what),)*)?
                        ..$crate::config::setting::Setting::UNSAID
                    },
                    put: |all, value| {
                        let value = $crate::config::value::Typed::from_value(value);
                        value.map(|value| all.$field = value).is_some()
                    },
                    get: |all| $crate::config::value::Typed::to_value(&all.$field),
                    copy: |from, to| to.$field.clone_from(&from.$field),
                },
            )*];
        }
    };
}

pub(super) use settings;
