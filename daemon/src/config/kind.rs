//! The kinds of values that settings have: how they are read, their range, and how they are written and explained.

use std::time::Duration;

use clap::builder::PossibleValue;
use toml::Value;

use super::bytes;
use super::lifetime::Lifetime;
use super::listen_address::{AddressError, ListenAddress};

/// The greatest number of TOML, for a range without a bound.
pub(super) const ANY: u64 = i64::MAX.unsigned_abs();

/// A range of values, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least value.
    pub min: u64,
    /// The greatest value; that of `i64`, which TOML has, for no bound.
    pub max: u64,
}

/// Makes the range from `min` to `max`.
pub(super) const fn range(min: u64, max: u64) -> Range {
    Range { min, max }
}

/// The kind of a value, with its unit where it is a number.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// True or false.
    Switch,
    /// A number of things.
    Count(Range),
    /// A number of bytes.
    Bytes(Range),
    /// A time in milliseconds.
    Milliseconds(Range),
    /// A time that is always written with its unit; the range is in seconds.
    Span(Range),
    /// One of some names.
    Choice(fn() -> Vec<PossibleValue>),
    /// An address and port to listen on, or the path of a Unix socket.
    Address,
    /// A directory, with an example.
    Directory(&'static str),
    /// A file that holds a secret. The secret comes from nowhere else: no flag, no variable and no line of a
    /// configuration file holds it, since all of these are shown.
    SecretFile(&'static str),
    /// A name that something else gives its meaning, with an example.
    Name(&'static str),
    /// A list of entries.
    List {
        /// The word for an entry, in capitals.
        entry: &'static str,
        /// An example of an entry.
        example: &'static str,
        /// Checks an entry; the error is its fault.
        check: fn(&str) -> Result<(), String>,
    },
    /// Text of a form that a function knows.
    Text {
        /// What it is, in capitals.
        what: &'static str,
        /// One that can be read.
        example: &'static str,
        /// Says what is wrong with one.
        check: fn(&str) -> Result<(), String>,
    },
    /// Names with a text each (`{ name = "text" }`). They stand in the file alone.
    Map {
        /// One that can be read, as the file has it.
        example: &'static str,
        /// Says what is wrong with a name and its text.
        check: fn(&str, &str) -> Result<(), String>,
    },
    /// A table (`[name]`), whose settings the setting names. It stands in the file alone.
    Table,
    /// Tables of one form (`[[name]]`), whose settings the setting names. They stand in the file alone.
    Tables,
}

impl Kind {
    /// Reads a value of the file. The error says what was expected, with an example.
    pub(super) fn read(&self, value: &Value) -> Result<Value, String> {
        let is_read = match (self, value) {
            (Kind::Switch, Value::Boolean(_)) | (Kind::List { .. }, Value::Array(_)) => true,
            (Kind::Map { .. }, Value::Table(table)) => table.values().all(Value::is_str),
            (Kind::Count(_) | Kind::Bytes(_) | Kind::Milliseconds(_), Value::Integer(number)) => *number >= 0,
            (
                Kind::Bytes(_)
                | Kind::Milliseconds(_)
                | Kind::Span(_)
                | Kind::Choice(_)
                | Kind::Address
                | Kind::Directory(_)
                | Kind::SecretFile(_)
                | Kind::Name(_)
                | Kind::Text { .. },
                Value::String(text),
            ) => return self.parse(text),
            _ => false,
        };
        let entries = value.as_array().map_or(&[][..], Vec::as_slice);
        if is_read && entries.iter().all(Value::is_str) { Ok(value.clone()) } else { Err(self.expected()) }
    }

    /// Reads a word of the command line or of a variable.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self {
            Kind::Switch => text.parse().ok().map(Value::Boolean),
            Kind::Count(_) => number(text).and_then(integer),
            Kind::Bytes(_) => bytes::parse(text).ok().and_then(integer),
            Kind::Milliseconds(_) => milliseconds(text).and_then(integer),
            Kind::Span(_) => Lifetime::parse(text).ok().map(|span| Value::String(span.to_string())),
            Kind::Choice(choices) => {
                let is_one = choices().iter().any(|choice| choice.get_name() == text);
                is_one.then(|| text.into())
            }
            Kind::Address => match text.parse::<ListenAddress>() {
                Ok(address) => Some(address.to_string().into()),
                Err(AddressError::Unreadable) => None,
                Err(AddressError::Path(reason)) => return Err(reason),
            },
            Kind::Directory(_) | Kind::SecretFile(_) | Kind::Name(_) | Kind::Text { .. } => {
                (!text.is_empty()).then(|| text.into())
            }
            Kind::List { .. } => Some(text.split(',').map(Value::from).collect::<Vec<_>>().into()),
            Kind::Map { .. } | Kind::Table | Kind::Tables => None,
        };
        value.ok_or_else(|| self.expected())
    }

    /// Returns all faults of a value that could be read.
    pub(super) fn check(&self, value: &Value) -> Vec<String> {
        match self {
            Kind::Count(range) | Kind::Bytes(range) | Kind::Milliseconds(range) | Kind::Span(range) => {
                let number = self.number(value);
                let outside = number.filter(|number| !(range.min..=range.max).contains(number));
                let reason =
                    |number| format!("{} is outside {}", self.spell(number), self.range_text(*range));
                outside.map(reason).into_iter().collect()
            }
            Kind::List { check, .. } => {
                let entries = value.as_array().map_or(&[][..], Vec::as_slice);
                entries.iter().filter_map(|entry| check(entry.as_str()?).err()).collect()
            }
            Kind::Text { check, .. } => {
                value.as_str().and_then(|text| check(text).err()).into_iter().collect()
            }
            Kind::Map { check, .. } => {
                let entries = value.as_table().into_iter().flatten();
                entries.filter_map(|(name, text)| check(name, text.as_str()?).err()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the text, with an example, that stands behind a value that can't be read.
    pub(super) fn expected(&self) -> String {
        match self {
            Kind::Switch => "expected true or false".to_owned(),
            Kind::Count(_) => "expected a whole number, as 64".to_owned(),
            Kind::Bytes(_) => "expected a number of bytes, as 169, 64MiB or 1GB".to_owned(),
            Kind::Milliseconds(_) => "expected milliseconds or a time, as 10000, 500ms, 10s or 5m".to_owned(),
            Kind::Span(_) => "expected a time with its unit, as 90s, 24h or 7days".to_owned(),
            Kind::Choice(choices) => {
                let names: Vec<String> =
                    choices().iter().map(|choice| choice.get_name().to_owned()).collect();
                format!("expected one of {}", names.join(", "))
            }
            Kind::Address => {
                "expected ADDR:PORT or unix:PATH, as 0.0.0.0:8080, [::]:8080 or unix:/run/streamd/data.sock"
                    .to_owned()
            }
            Kind::Directory(example) => format!("expected a directory, as {example}"),
            Kind::SecretFile(example) => format!("expected a file, as {example}"),
            Kind::Name(example) => format!("expected a name, as {example}"),
            Kind::List { entry, example, .. } => format!("expected a list of {entry}, as [{example:?}]"),
            Kind::Text { what, example, .. } => format!("expected {what}, as {example}"),
            Kind::Map { example, .. } => format!("expected a table of names with a text each, as {example}"),
            Kind::Table => "expected a table, as [name] or { key = value }".to_owned(),
            Kind::Tables => "expected tables in double brackets, as [[name]]".to_owned(),
        }
    }

    /// Returns the range of a number, as help says it: `1 to 1024`; None for other kinds.
    pub fn range(&self) -> Option<String> {
        match self {
            Kind::Count(range) | Kind::Bytes(range) | Kind::Milliseconds(range) | Kind::Span(range) => {
                Some(self.range_text(*range))
            }
            _ => None,
        }
    }

    /// Returns the word that stands for the value on a command line; None for a switch, which needs none.
    pub fn value_name(&self) -> Option<String> {
        let name = match self {
            Kind::Switch | Kind::Map { .. } | Kind::Table | Kind::Tables => return None,
            Kind::Count(_) => "N",
            Kind::Bytes(_) => "BYTES",
            Kind::Milliseconds(_) => "MS",
            Kind::Span(_) => "SPAN",
            Kind::Address => "ADDR:PORT",
            Kind::Directory(_) => "DIR",
            Kind::SecretFile(_) => "FILE",
            Kind::Name(_) => "NAME",
            Kind::List { entry, .. } => entry,
            Kind::Text { what, .. } => what,
            Kind::Choice(choices) => {
                let names: Vec<String> =
                    choices().iter().map(|choice| choice.get_name().to_owned()).collect();
                return Some(names.join("|"));
            }
        };
        Some(name.to_owned())
    }

    /// Returns the names of a choice, with the meaning of each.
    pub fn choices(&self) -> Vec<PossibleValue> {
        if let Kind::Choice(choices) = self { choices() } else { Vec::new() }
    }

    /// Returns an example of a value that has no default.
    pub fn example(&self) -> Option<Value> {
        match self {
            Kind::Directory(example) | Kind::SecretFile(example) | Kind::Name(example) => {
                Some((*example).into())
            }
            Kind::Text { example, .. } => Some((*example).into()),
            Kind::List { example, .. } => Some(vec![*example].into()),
            Kind::Map { example, .. } => {
                let table: toml::Table = format!("value = {example}").parse().ok()?;
                table.get("value").cloned()
            }
            Kind::Count(_) => Some(4.into()),
            Kind::Address => Some("[::]:8080".into()),
            Kind::Choice(choices) => choices().first().map(|choice| choice.get_name().into()),
            Kind::Switch => Some(true.into()),
            _ => None,
        }
    }

    /// Returns the value as people write it into the file: bytes with a suffix where that is exact.
    pub fn written(&self, value: &Value) -> Value {
        match (self, self.number(value)) {
            (Kind::Bytes(_), Some(count)) => {
                let text = bytes::spell(count);
                if number(&text).is_some() { value.clone() } else { text.into() }
            }
            _ => value.clone(),
        }
    }

    fn number(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::String(text) => Lifetime::parse(text).ok().map(|span| span.0.as_secs()),
            _ => None,
        }
    }

    fn range_text(&self, range: Range) -> String {
        let (min, max) = (self.spell(range.min), self.spell(range.max));
        match (self, range.max) {
            (_, ANY) => format!("{min} or more"),
            (Kind::Milliseconds(_), _) => format!("{min} to {max} ms"),
            (_, max) if (max + 1).is_power_of_two() && max > u64::from(u32::MAX) => {
                format!("{min} to {max} (2^{} - 1)", (max + 1).trailing_zeros())
            }
            (_, max) if is_power_of_ten(max + 1) && max > u64::from(u32::MAX) => {
                format!("{min} to {max} (10^{} - 1)", (max + 1).ilog10())
            }
            _ => format!("{min} to {max}"),
        }
    }

    fn spell(&self, value: u64) -> String {
        match self {
            Kind::Bytes(_) => bytes::spell(value),
            Kind::Span(_) => Lifetime(Duration::from_secs(value)).to_string(),
            _ => value.to_string(),
        }
    }
}

fn integer(number: u64) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Integer)
}

/// Parses digits alone: the standard library's reader takes a plus as well.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Parses milliseconds: a number alone, or anything else with its unit.
fn milliseconds(text: &str) -> Option<u64> {
    if let Some(number) = number(text) {
        return Some(number);
    }
    let time = humantime::parse_duration(text).ok()?;
    let is_whole = time.subsec_nanos() % 1_000_000 == 0;
    u64::try_from(time.as_millis()).ok().filter(|_| is_whole)
}

fn is_power_of_ten(number: u64) -> bool {
    10_u64.checked_pow(number.ilog10()) == Some(number)
}
