//! The types that settings have, as values of TOML.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use toml::Value;

use super::choices::{
    DriverChoice, Durability, EngineChoice, EtagChoice, LogFormat, LogLevel, PlaneChoice,
    ProxyProtocolChoice, SandboxChoice, SinkChoice, SymlinkChoice,
};
use super::lifetime::Lifetime;

/// A type that a setting may have.
pub(super) trait Typed: Sized {
    /// Converts a value that a kind has read; None where it isn't of this type.
    fn from_value(value: &Value) -> Option<Self>;

    /// Converts to a value; None where there is none.
    fn to_value(&self) -> Option<Value>;
}

/// Returns the names of a choice, with the meaning of each.
pub(super) fn choices<T: ValueEnum>() -> Vec<PossibleValue> {
    T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
}

impl Typed for bool {
    fn from_value(value: &Value) -> Option<bool> {
        value.as_bool()
    }

    fn to_value(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Typed for $number {
            fn from_value(value: &Value) -> Option<$number> {
                value.as_integer().and_then(|number| number.try_into().ok())
            }

            /// A number beyond those of TOML, which no setting has, is shown as the greatest of them.
            fn to_value(&self) -> Option<Value> {
                Some(Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        }
    )*};
}

numbers!(u64, usize);

impl Typed for Option<PathBuf> {
    fn from_value(value: &Value) -> Option<Option<PathBuf>> {
        value.as_str().map(|path| Some(path.into()))
    }

    fn to_value(&self) -> Option<Value> {
        self.as_ref().map(|path| path.display().to_string().into())
    }
}

impl Typed for Option<String> {
    fn from_value(value: &Value) -> Option<Option<String>> {
        value.as_str().map(|text| Some(text.to_owned()))
    }

    fn to_value(&self) -> Option<Value> {
        self.clone().map(Value::String)
    }
}

impl Typed for Vec<String> {
    fn from_value(value: &Value) -> Option<Vec<String>> {
        value.as_array()?.iter().map(|entry| entry.as_str().map(str::to_owned)).collect()
    }

    fn to_value(&self) -> Option<Value> {
        Some(self.iter().map(|entry| Value::from(entry.as_str())).collect::<Vec<_>>().into())
    }
}

impl Typed for Lifetime {
    fn from_value(value: &Value) -> Option<Lifetime> {
        Lifetime::parse(value.as_str()?).ok()
    }

    fn to_value(&self) -> Option<Value> {
        Some(self.to_string().into())
    }
}

macro_rules! choice_types {
    ($($choice:ty),* $(,)?) => {$(
        impl Typed for $choice {
            fn from_value(value: &Value) -> Option<$choice> {
                <$choice>::from_str(value.as_str()?, false).ok()
            }

            fn to_value(&self) -> Option<Value> {
                self.to_possible_value().map(|choice| choice.get_name().into())
            }
        }
    )*};
}

choice_types!(
    DriverChoice,
    Durability,
    EngineChoice,
    EtagChoice,
    LogFormat,
    LogLevel,
    PlaneChoice,
    ProxyProtocolChoice,
    SandboxChoice,
    SinkChoice,
    SymlinkChoice,
);
