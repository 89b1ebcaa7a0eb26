//! Tests that hold docs/operations.md, docs/security.md and docs/limits.md to the daemon: promises have their
//! tests, every metric to alert on and every line that signals trouble is in them, and no query asks for something
//! that isn't exposed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "as clippy.toml has it for test functions: what cannot go on has failed"
)]

mod limits_page;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use streamd::config::Settings;
use streamd::host::descriptors_wanted;
use streamd::telemetry::{Exposition, LogQueue, Telemetry};

fn crate_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn repository() -> PathBuf {
    crate_root().parent().unwrap().to_owned()
}

fn page() -> String {
    fs::read_to_string(repository().join("docs/operations.md")).unwrap()
}

/// Returns the metrics that a daemon exposes, under either driver.
fn exposition() -> String {
    let of = |driver| Exposition::Text.text(&Telemetry::new(1, driver, LogQueue::nowhere()));
    ["io_uring", "epoll"].map(of).concat()
}

/// Returns the names of the samples, with their labels as `name="value"`.
fn samples() -> Vec<(String, Vec<String>)> {
    let parse = |line: &str| {
        let series = line.split(' ').next().unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        (name.to_owned(), labels.map(str::to_owned).collect())
    };
    exposition().lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

/// Returns each place of the page that names a metric, up to where its line ends.
fn mentions(page: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for line in page.lines() {
        for (start, _) in line.match_indices("streamd_") {
            let rest = &line[start..];
            let is_whole = !line[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || "_/".contains(c));
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            // The package's file name begins like a metric's.
            if is_whole && !rest[end..].starts_with('*') {
                found.push((&rest[..end], &rest[end..]));
            }
        }
    }
    found
}

#[test]
fn the_runbook_wants_as_many_descriptors_as_check_does() {
    let settings = Settings { connections_max: 30_000, workers: 2, ..Settings::default() };
    let wanted = descriptors_wanted(&settings);
    let shown =
        format!("30,000 connections of two workers take up to {},{:03}", wanted / 1000, wanted % 1000);
    assert!(page().contains(&shown), "docs/operations.md doesn't say: {shown}");
}

/// Returns the tests that docs/security.md names, by their paths.
fn tests_of_promises() -> Vec<String> {
    let page = fs::read_to_string(repository().join("docs/security.md")).unwrap();
    let (_, section) = page.split_once("## What is promised to whom").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| to whom"));
    let last_cell = |row: &str| row.trim_end_matches([' ', '|']).rsplit("| ").next().unwrap().to_owned();
    rows.map(|row| last_cell(row).trim_matches('`').to_owned()).collect()
}

#[test]
fn every_promise_has_its_test() {
    let tests = tests_of_promises();
    assert!(tests.len() > 10, "{tests:?}");
    for test in tests {
        assert!(holds_test(&test), "{test} is no test");
    }
}

/// Whether there is a test of this path, in a module of the behaviour tests or of the crate.
fn holds_test(path: &str) -> bool {
    let Some((module, name)) = path.rsplit_once("::") else { return false };
    let sought = format!("fn {name}() {{");
    // Unit tests stand in a module of their own, in a file of their own or not.
    let modules = [module, module.strip_suffix("::tests").unwrap_or(module)];
    let files = modules.into_iter().flat_map(|module| {
        let file = format!("{}.rs", module.replace("::", "/"));
        ["tests/behaviour", "src"].map(|directory| crate_root().join(directory).join(&file))
    });
    let in_modules =
        modules.map(|module| crate_root().join("src").join(module.replace("::", "/")).join("mod.rs"));
    files.chain(in_modules).filter_map(|path| fs::read_to_string(path).ok()).any(|text| {
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line == "#[test]" && lines.next() == Some(&sought) {
                return true;
            }
        }
        false
    })
}

#[test]
fn every_metric_is_in_the_runbook() {
    let page = page();
    let named: BTreeSet<&str> = mentions(&page).into_iter().map(|(name, _)| name).collect();
    let missing: BTreeSet<String> =
        samples().into_iter().map(|(name, _)| name).filter(|name| !named.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md doesn't say what to do about {missing:?}");
}

#[test]
fn the_runbook_asks_for_nothing_that_is_not_exposed() {
    let (page, samples) = (page(), samples());
    let mut faults = Vec::new();
    for (name, rest) in mentions(&page) {
        let of_name: Vec<&Vec<String>> =
            samples.iter().filter(|(sample, _)| sample == name).map(|(_, labels)| labels).collect();
        if of_name.is_empty() {
            faults.push(format!("{name} is no metric"));
        }
        for (label, value) in matchers(rest) {
            let exists =
                of_name.iter().any(|labels| labels.iter().any(|found| matches(found, &label, &value)));
            if !exists {
                faults.push(format!("{name} has no {label}=\"{value}\""));
            }
        }
    }
    assert!(faults.is_empty(), "docs/operations.md: {}", faults.join("; "));
}

/// Returns the label matchers right behind a name, one for each alternative. In a table `|` is written as `\|`.
fn matchers(rest: &str) -> Vec<(String, String)> {
    let Some(inner) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for matcher in inner.split("\",") {
        let (label, value) = matcher.split_once('"').unwrap();
        let label = label.trim_matches(|c: char| " =~!".contains(c));
        let alternatives = value.trim_end_matches('"').replace("\\|", "|");
        found.extend(alternatives.split('|').map(|value| (label.to_owned(), value.to_owned())));
    }
    found
}

/// Whether a label of a sample is this one with this value; a dot stands for any character.
fn matches(found: &str, label: &str, value: &str) -> bool {
    let Some(found) = found.strip_prefix(label).and_then(|rest| rest.strip_prefix("=\"")) else {
        return false;
    };
    let found = found.trim_end_matches('"');
    found.len() == value.len()
        && found.chars().zip(value.chars()).all(|(is, asked)| asked == '.' || is == asked)
}

#[test]
fn every_warning_and_error_is_in_the_runbook() {
    let page = page();
    let mut messages = BTreeSet::new();
    each_source(&crate_root().join("src"), &mut |text| messages_of(text, &mut messages));
    assert!(messages.len() > 20, "{messages:?}");
    let missing: Vec<_> = messages.iter().filter(|message| !page.contains(message.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md doesn't say what to do about {missing:#?}");
}

fn each_source(directory: &Path, visit: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Finds the text of each event: the last string of the macro's arguments. A text that begins with a placeholder
/// is written elsewhere.
fn messages_of(source: &str, messages: &mut BTreeSet<String>) {
    for level in ["warn!(", "error!("] {
        for (start, found) in source.match_indices(level) {
            let message = arguments(&source[start + found.len()..]).rsplit('"').nth(1).unwrap();
            if !message.starts_with('{') {
                messages.insert(message.to_owned());
            }
        }
    }
}

/// Cuts the text at the parenthesis that closes the macro.
fn arguments(text: &str) -> &str {
    let (mut depth, mut in_string) = (1, false);
    for (index, character) in text.char_indices() {
        match character {
            '"' => in_string = !in_string,
            '(' if !in_string => depth += 1,
            ')' if !in_string => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..index];
        }
    }
    panic!("no end of the macro in {text}")
}
