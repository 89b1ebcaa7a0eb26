//! The variables of settings, and others that look like them.

use std::ffi::OsString;

use super::faults::Fault;
use super::nearest::nearest;
use super::origin::{Found, Origin};
use super::setting::{Setting, renamed, variable};

const PREFIX: &str = "STREAMD_";

/// The variables that the scripts of this repository take, besides those of their tests.
const OF_SCRIPTS: [&str; 2] = ["STREAMD_BIN", "STREAMD_DEB"];
const OF_TESTS: &str = "STREAMD_TEST_";

/// The content of the variables.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// The configuration file that `STREAMD_CONFIG` names.
    pub(super) config: Option<OsString>,
    /// The settings that were found.
    pub(super) found: Vec<Found>,
    /// Warnings of unknown and of former names.
    pub(super) warnings: Vec<Fault>,
}

/// Reads the variables of `settings`.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    settings: &[&'static Setting],
) -> Variables {
    let mut read = Variables::default();
    let mut variables: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort();
    let is_set = |name: &str| variables.iter().any(|(set, _)| set == name);
    for (name, value) in &variables {
        if name == "STREAMD_CONFIG" {
            read.config = Some(value.clone());
            continue;
        }
        let current = settings.iter().find(|setting| setting.variable() == *name);
        let former = || settings.iter().find(|setting| former(setting).as_ref() == Some(name));
        let Some(setting) = current.or_else(former) else {
            if !is_anothers(name, value) {
                read.warnings.push(unknown(name, settings));
            }
            continue;
        };
        if current.is_none() {
            let text = renamed(&setting.variable(), is_set(&setting.variable()));
            read.warnings.push(Fault::new(name, text));
        }
        if current.is_some() || !is_set(&setting.variable()) {
            read.found.push(found(setting, name, value));
        }
    }
    read
}

fn former(setting: &Setting) -> Option<String> {
    setting.former_key.map(variable)
}

fn found(setting: &'static Setting, name: &str, value: &OsString) -> Found {
    let text = value.to_string_lossy();
    let parsed = match value.to_str() {
        Some(text) if !setting.is_of_the_file_alone() => setting.kind.parse(text),
        _ => Err(setting.kind.expected()),
    };
    let value = parsed.map_err(|expected| format!("{text:?}: {expected}"));
    Found { setting, origin: Origin::Variable(name.to_owned()), value }
}

fn unknown(name: &str, settings: &[&'static Setting]) -> Fault {
    // The common prefix is cut off, since it would make all names alike.
    let bare = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    let meant = nearest(&bare, settings.iter().map(|setting| setting.key));
    let hint = meant.map(|meant| format!(": did you mean {}?", variable(meant))).unwrap_or_default();
    Fault::new(name, format!("no setting has this variable{hint}"))
}

/// Whether the variable belongs to something else: to the scripts, or to Kubernetes, which makes it for a service
/// whose name begins with streamd.
fn is_anothers(name: &str, value: &OsString) -> bool {
    OF_SCRIPTS.contains(&name) || name.starts_with(OF_TESTS) || is_of_kubernetes(name, value)
}

/// Whether the variable is one of Kubernetes: `{SVCNAME}_SERVICE_HOST`, `_SERVICE_PORT` and
/// `_SERVICE_PORT_{PORTNAME}`, or, as Docker's links had it, `{SVCNAME}_PORT` and `_PORT_80_TCP` with `_PROTO`,
/// `_PORT` and `_ADDR` (Kubernetes, "Discovering services").
fn is_of_kubernetes(name: &str, value: &OsString) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    // A person would write the number alone.
    if name.ends_with("_PORT") && value.to_str().is_some_and(|value| value.contains("://")) {
        return true;
    }
    let Some((_, link)) = name.split_once("_PORT_") else { return false };
    let mut words = link.split('_');
    let is_number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
    let is_protocol = words.next().is_some_and(|word| ["TCP", "UDP", "SCTP"].contains(&word));
    is_number && is_protocol && words.next().is_none_or(|word| ["PROTO", "PORT", "ADDR"].contains(&word))
}
