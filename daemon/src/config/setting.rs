//! The form in which settings are declared, each once: everything that knows of a setting takes it from there.

use toml::Value;

use super::kind::Kind;

/// All that is to be known of one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key of the file. The flag has `-` for `_`, the variable is in capitals behind `STREAMD_`.
    pub key: &'static str,
    /// What it is, and after an empty line what else is to be said, in plain sentences.
    pub text: &'static str,
    /// Why the default is what it is.
    pub reason: &'static str,
    /// What its values are, with unit and range.
    pub kind: Kind,
    /// Who has one value for himself.
    pub scope: Scope,
    /// Whether a running daemon takes a change.
    pub change: Change,
    /// A few words for `-h`, where it is one of the settings shown there.
    pub brief: Option<&'static str>,
    /// The argument without a flag that is short for it.
    pub place: Option<&'static str>,
    /// What the default is, in words, where the value doesn't say it or is the host's.
    pub default_words: Option<&'static str>,
    /// Where the documents tell more.
    pub see: Option<&'static str>,
    /// The name that it had in the release before, which is taken for it with a warning.
    pub former_key: Option<&'static str>,
    /// Of tables the settings of each.
    pub members: Option<fn() -> Vec<&'static Setting>>,
}

/// Who has the value of a setting for himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole daemon.
    Node,
    /// Each address of a client.
    Address,
    /// Each connection, or what is sent and received on it.
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

/// When a change is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With a reload (SIGHUP).
    Reload,
    /// With the next start.
    Restart,
}

/// A setting as a field of the structure that holds its value.
#[derive(Clone, Copy)]
pub struct Field<S: 'static> {
    /// What is to be known of it.
    pub setting: Setting,
    /// Takes a value that the setting's kind has read; false where it is of another type.
    pub put: fn(&mut S, &Value) -> bool,
    /// The value; None where there is none.
    pub get: fn(&S) -> Option<Value>,
    /// Puts the first structure's value into the second.
    pub copy: fn(&S, &mut S),
}

/// A structure whose fields are declared settings.
pub trait Declared: Default + 'static {
    /// All of them, in the order in which people should read them.
    const FIELDS: &'static [Field<Self>];

    /// What is to be known of all of them.
    fn declared() -> Vec<&'static Setting> {
        Self::FIELDS.iter().map(|field| &field.setting).collect()
    }

    /// The values as a table: without those that there are none of.
    fn table(&self) -> toml::Table {
        let values = Self::FIELDS.iter();
        values.filter_map(|field| Some((field.setting.key.to_owned(), (field.get)(self)?))).collect()
    }

    /// The default of one of them as people write it on a command line; None where there is none.
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
    /// What a declaration needn't say.
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

    /// What it is, in a sentence without its full stop.
    pub fn help(&self) -> String {
        let first = self.text.split("\n\n").next().unwrap_or_default();
        one_line(first).trim_end_matches('.').to_owned()
    }

    /// What else is to be said of it, in sentences.
    pub fn more(&self) -> Option<String> {
        self.text.split_once("\n\n").map(|(_, more)| one_line(more))
    }

    /// Its variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// Its flag, without the dashes ahead.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Whether it stands in the file alone.
    pub fn is_of_the_file_alone(&self) -> bool {
        self.members.is_some()
    }
}

/// The variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("STREAMD_{}", key.to_uppercase())
}

/// The flag of a key, without the dashes ahead.
pub(super) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// What is said of a former name of `name`; both of them together are one too many.
pub(super) fn renamed(name: &str, is_doubled: bool) -> String {
    if is_doubled {
        return format!("is the former name of {name}, which is set as well: take one of them out");
    }
    format!("is called {name} now, and this release is the last that takes the former name")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Declares a structure of settings. Each field has, in this order: what it is (as its documentation), name, type,
/// default, the reason for it, kind, scope, when a change is in force, and in braces what else [`Setting`] has.
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
                        key: stringify!($field),
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
