//! Every key of the configuration file: what it means, what it is where nobody sets it, and whether a reload changes it.

use clap::{Arg, CommandFactory};
use streamd::config::{Hosts, Live, Settings, TrustedProxies, bounds_of};
use toml::{Table, Value};

use crate::document::DocumentError;

/// Flags that are no settings.
const NO_SETTINGS: [&str; 3] = ["config", "check", "print_config"];

/// For what has no default, or one that is the host's.
const EXAMPLES: [(&str, &str); 5] = [
    ("root", "/srv/files"),
    ("workers", "4"),
    ("spool", "/var/lib/streamd"),
    ("token_file", "/etc/streamd/token"),
    ("congestion_control", "cubic"),
];

const HEAD: &str = "\
# Settings of streamd: each line that is commented out shows the default, or an example where it says so.
# `streamd --check` says what is wrong with this file, `streamd --print-config` what is in force; streamd.toml(5) and
# streamd(8) tell more. `systemctl reload streamd` puts changes in force; those marked (restart) need a restart.
#
# Files are served from root alone. To write anywhere but below /var/lib/streamd the service needs a drop-in:
# /usr/share/doc/streamd/examples/write-access.conf.
";

/// A key.
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) help: String,
    /// As it stands in the file.
    pub(crate) value: String,
    pub(crate) is_example: bool,
    pub(crate) needs_restart: bool,
    /// Values and what they mean, where they are names.
    pub(crate) choices: Vec<(String, String)>,
}

/// All keys, in the order of the flags.
pub(crate) fn all() -> Result<Vec<Setting>, DocumentError> {
    let defaults = Table::try_from(Settings::default())?;
    let command = streamd::config::Arguments::command();
    let arguments = command.get_arguments();
    let arguments = arguments.filter(|argument| !NO_SETTINGS.contains(&argument.get_id().as_str()));
    arguments.map(|argument| of(argument, &defaults)).collect()
}

/// The configuration file.
pub(crate) fn file(settings: &[Setting]) -> String {
    let blocks = settings.iter();
    let blocks =
        blocks.map(|setting| format!("\n# {}\n#{} = {}\n", setting.line(), setting.key, setting.value));
    HEAD.to_owned() + &blocks.collect::<String>()
}

impl Setting {
    /// All about it in one line.
    fn line(&self) -> String {
        let mut line = self.help.clone();
        if !self.choices.is_empty() {
            let values: Vec<String> = self.choices.iter().map(|(value, _)| format!("{value:?}")).collect();
            line = format!("{line}: {}", values.join(", "));
        }
        if self.needs_restart {
            line += " (restart)";
        }
        if self.is_example { line + "; for example" } else { line }
    }
}

fn of(argument: &Arg, defaults: &Table) -> Result<Setting, DocumentError> {
    let key = argument.get_id().to_string();
    let example = EXAMPLES
        .iter()
        .find(|(name, _)| *name == key)
        .map(|(_, example)| example.parse().unwrap_or_else(|_| Value::String((*example).to_owned())));
    let is_example = example.is_some();
    let value = example.or_else(|| defaults.get(&key).cloned());
    let value = value.ok_or_else(|| DocumentError::NoExample(key.clone()))?;
    let choices = choices(argument);
    Ok(Setting {
        help: argument.get_help().map(ToString::to_string).unwrap_or_default() + &bounds(&key),
        needs_restart: needs_restart(&key, &other_than(&value, is_example, &choices), defaults),
        value: written(argument, &value),
        is_example,
        choices,
        key,
    })
}

/// What a number may be.
fn bounds(key: &str) -> String {
    bounds_of(key).map(|bounds| format!(" [{bounds}]")).unwrap_or_default()
}

fn choices(argument: &Arg) -> Vec<(String, String)> {
    // A switch has true and false, which say nothing.
    let values = argument.get_possible_values().into_iter().filter(|value| value.get_help().is_some());
    let meaning = |help: Option<&clap::builder::StyledStr>| help.map(ToString::to_string).unwrap_or_default();
    values.map(|value| (value.get_name().to_owned(), meaning(value.get_help()))).collect()
}

/// As people write it: byte counts with a suffix where that is exact.
fn written(argument: &Arg, value: &Value) -> String {
    let is_bytes = argument.get_value_names().is_some_and(|names| names.iter().any(|name| name == "BYTES"));
    let bytes = value.as_integer().and_then(|count| u64::try_from(count).ok()).filter(|_| is_bytes);
    bytes.map_or_else(
        || value.to_string(),
        |count| with_suffix(count).map_or(count.to_string(), |text| format!("{text:?}")),
    )
}

fn with_suffix(bytes: u64) -> Option<String> {
    let suffixes = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, bits): &(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= *bits;
    suffixes.into_iter().find(fits).map(|(suffix, bits)| format!("{}{suffix}", bytes >> bits))
}

/// Asks the daemon's own reload what it does with a change of this key.
fn needs_restart(key: &str, changed: &Value, defaults: &Table) -> bool {
    let mut table = defaults.clone();
    table.insert(key.to_owned(), changed.clone());
    let live = |table: Table| {
        let settings: Settings = table.try_into().ok()?;
        let hosts = Hosts::new(settings.data_listen, Vec::new());
        let proxies = TrustedProxies::default();
        Some(Live { settings, token: None, hosts, proxies, targets: Vec::new(), generation: 0 })
    };
    let (Some(old), Some(new)) = (live(defaults.clone()), live(table)) else { return true };
    old.reload(new).1.iter().any(|named| named == key)
}

/// A value of the same kind that isn't the default.
fn other_than(value: &Value, is_example: bool, choices: &[(String, String)]) -> Value {
    match value {
        Value::Boolean(is_on) => Value::Boolean(!is_on),
        Value::Integer(number) => Value::Integer(number + 1),
        Value::Array(_) => Value::Array(vec!["127.0.0.1:1".into()]),
        Value::String(_) if is_example => value.clone(),
        Value::String(text) if text.parse::<std::net::SocketAddr>().is_ok() => "127.0.0.1:1".into(),
        Value::String(text) => {
            let other = choices.iter().map(|(name, _)| name).find(|name| *name != text);
            // What has no choices is a span of time.
            other.map_or("29days", String::as_str).into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use streamd::config::Settings;
    use toml::Table;

    use super::{EXAMPLES, all, file};

    fn uncommented() -> Table {
        let text = file(&all().unwrap());
        let lines =
            text.lines().filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
        lines.collect::<Vec<_>>().join("\n").parse().unwrap()
    }

    /// What the daemon itself says that it knows.
    fn known() -> BTreeSet<String> {
        let error = toml::from_str::<Settings>("no_such_key = 1").unwrap_err();
        let names: BTreeSet<String> =
            error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert!(names.contains("root") && names.contains("congestion_control"), "{}", error.message());
        names
    }

    #[test]
    fn the_file_is_only_comments() {
        let text = file(&all().unwrap());
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    }

    #[test]
    fn every_key_is_in_it_and_no_other() {
        assert_eq!(uncommented().keys().cloned().collect::<BTreeSet<_>>(), known());
    }

    #[test]
    fn what_it_shows_is_the_default() {
        let mut table = uncommented();
        let with_examples: Settings = table.clone().try_into().unwrap();
        assert_eq!((with_examples.workers, with_examples.root), (4, Some("/srv/files".into())));
        for (key, _) in EXAMPLES {
            table.remove(key);
        }
        assert_eq!(table.try_into::<Settings>().unwrap(), Settings::default());
    }

    #[test]
    fn what_needs_a_restart_is_marked() {
        let marked =
            |key: &str| all().unwrap().into_iter().any(|setting| setting.key == key && setting.needs_restart);
        for key in ["root", "data_listen", "workers", "uploads", "engine", "congestion_control"] {
            assert!(marked(key), "{key}");
        }
        for key in ["uploads_max", "partial_ttl", "targets_allowed", "log_level", "access_log", "token_file"]
        {
            assert!(!marked(key), "{key}");
        }
    }
}
