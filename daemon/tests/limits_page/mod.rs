//! Tests that hold docs/limits.md to the code: settings with their ranges and defaults, constants, metrics,
//! sentences, tests.

use std::collections::BTreeSet;
use std::fs;

use streamd::config::{Declared, Settings, bounds_of};

use super::{crate_root, holds_test, matchers, matches, mentions, repository, samples};

/// The settings that are numbers and limit nobody.
const NO_LIMITS: [&str; 3] = [
    // This is the number of threads that serve.
    "workers",
    // This is the length from which a body goes past the page cache.
    "direct_bytes_min",
    // This is the time for which a file is served without a look at its name.
    "cache_valid_ms",
];

/// The metrics whose label names the limit: each value has a row.
const LABELLED: [(&str, &str); 3] = [
    ("streamd_limited_total", "limit"),
    ("streamd_space_refusals_total", "reason"),
    ("streamd_proxy_headers_refused_total", "reason"),
];

const COLUMNS: usize = 8;

fn page() -> String {
    fs::read_to_string(repository().join("docs/limits.md")).unwrap()
}

/// Returns the cells of the table's rows, without the headings of groups.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| limit |"));
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("| ").trim_end_matches(" |").replace("\\|", "\0");
        line.split(" | ").map(|cell| cell.trim().replace('\0', "|")).collect()
    };
    let rows: Vec<Vec<String>> = lines
        .filter(|line| !line.starts_with("| **"))
        .map(cells)
        .inspect(|row| assert_eq!(row.len(), COLUMNS, "{row:?}"))
        .collect();
    assert!(rows.len() > 60, "{}", rows.len());
    rows
}

/// Returns the texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Reads a number as the page shows it, with its unit: bytes, or milliseconds.
fn number(text: &str) -> u64 {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => panic!("{text:?} has no known unit"),
    };
    digits.replace(',', "").parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no number")) * factor
}

/// Returns name, range and default of a row's setting, and the rest of the cell.
fn setting(cell: &str) -> Option<(&str, &str, &str, &str)> {
    let (name, rest) = cell.strip_prefix('`')?.split_once("`: ")?;
    let (range, rest) = rest.split_once("; ")?;
    if name.contains(' ') || !name.contains('_') || name.chars().any(|c| c.is_ascii_uppercase()) {
        return None;
    }
    let end = rest.find(['.', '(']).unwrap_or(rest.len());
    Some((name, range, rest[..end].trim(), rest[end..].trim()))
}

#[test]
fn every_setting_that_is_a_limit_has_its_row_with_range_and_default() {
    let page = page();
    let rows = rows(&page);
    let defaults = Settings::default().table();
    let configuration = fs::read_to_string(repository().join("packaging/generated/streamd.toml")).unwrap();
    let mut found = BTreeSet::new();
    for (name, range, default, rest) in rows.iter().filter_map(|row| setting(&row[2])) {
        assert_eq!(Some(range), bounds_of(name).as_deref(), "{name}");
        match &defaults[name] {
            toml::Value::Integer(value) => {
                assert_eq!(i128::from(number(default)), i128::from(*value), "{name}")
            }
            value => assert_eq!(Some(default), value.as_str(), "{name}"),
        }
        let (before, _) = configuration.split_once(&format!("\n#{name} = ")).unwrap();
        let takes_restart = before.rsplit('\n').next().unwrap().contains("(restart)");
        assert_eq!(rest.starts_with("(restart)"), takes_restart, "{name}");
        assert!(found.insert(name), "{name} stands there twice");
    }
    let numbers = defaults.keys().map(String::as_str).filter(|name| bounds_of(name).is_some());
    let missing: Vec<&str> =
        numbers.filter(|name| !found.contains(name) && !NO_LIMITS.contains(name)).collect();
    assert!(missing.is_empty(), "docs/limits.md has no row of {missing:?}");
}

#[test]
fn every_constant_is_in_its_file_with_its_value() {
    let page = page();
    let mut count = 0;
    for row in rows(&page) {
        let cell = row[2..].join(" ");
        for (start, _) in cell.match_indices("` = ") {
            let (before, behind) = (&cell[..start], &cell[start + "` = ".len()..]);
            let name = before.rsplit('`').next().unwrap();
            if !name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
                continue;
            }
            let is_file = |text: &&str| text.ends_with(".rs");
            let file = quoted(behind).find(is_file).or_else(|| quoted(before).filter(is_file).last());
            let file = file.unwrap_or_else(|| panic!("{name} has no file: {cell}"));
            let text = fs::read_to_string(crate_root().join("src").join(file));
            let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(number(shown(behind)), constant(&text, name, file), "{name} of {file}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

/// Returns the number that a text begins with, and its unit if it has one.
fn shown(text: &str) -> &str {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(text.len());
    let has_unit = |unit: &&str| text[digits..].strip_prefix(' ').is_some_and(|rest| rest.starts_with(unit));
    match ["KiB", "MiB", "GiB", "ms", "s "].iter().copied().find(has_unit) {
        Some(unit) => &text[..digits + 1 + unit.trim().len()],
        None => text[..digits].trim_end_matches(','),
    }
}

/// Returns the value of a constant in the text of its file; times in milliseconds.
fn constant(text: &str, name: &str, path: &str) -> u64 {
    let (_, rest) = text
        .split_once(&format!("const {name}: "))
        .unwrap_or_else(|| panic!("{path} has no constant {name}"));
    let (_, expression) = rest.split_once(" = ").unwrap();
    let expression = expression.split(';').next().unwrap().replace('_', "");
    let parse = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{name} = {expression}"));
    let inside = |prefix: &str| expression.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
    if let Some(seconds) = inside("Duration::fromsecs(") {
        return parse(seconds) * 1000;
    }
    if let Some(milliseconds) = inside("Duration::frommillis(") {
        return parse(milliseconds);
    }
    match expression.split_once(" << ") {
        Some((number, bits)) => parse(number) << parse(bits),
        None => expression.split('*').map(parse).product(),
    }
}

#[test]
fn every_metric_is_exposed_and_every_label_of_a_limit_is_there() {
    let (page, samples) = (page(), samples());
    let mut named = BTreeSet::new();
    for (name, rest) in mentions(&page) {
        let mut of_name =
            samples.iter().filter(|(sample, _)| sample == name).map(|(_, labels)| labels).peekable();
        assert!(of_name.peek().is_some(), "{name} is no metric");
        let labels: Vec<&Vec<String>> = of_name.collect();
        for (label, value) in matchers(rest) {
            let exists =
                labels.iter().any(|labels| labels.iter().any(|found| matches(found, &label, &value)));
            assert!(exists, "{name} has no {label}=\"{value}\"");
            named.insert((name.to_owned(), format!("{label}=\"{value}\"")));
        }
    }
    for (name, label) in LABELLED {
        let of_name = samples.iter().filter(|(sample, _)| sample == name);
        let labels = of_name.flat_map(|(_, labels)| labels).filter(|found| found.starts_with(label));
        for label in labels {
            assert!(
                named.contains(&(name.to_owned(), label.clone())),
                "docs/limits.md has no {name}{{{label}}}"
            );
        }
    }
}

#[test]
fn every_sentence_is_one_of_the_code() {
    let code = sentences_of_the_code();
    let page = page();
    let mut count = 0;
    for row in rows(&page) {
        // Text in backticks is no sentence.
        let cell: String = row[6].split('`').step_by(2).collect();
        for sentence in cell.split('"').skip(1).step_by(2) {
            for part in sentence.split('…').map(str::trim).filter(|part| part.len() > 3) {
                assert!(code.contains(part), "nothing in daemon/src says {part:?}");
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

/// Returns the texts of all files without their comments, with strings that take several lines in one piece.
fn sentences_of_the_code() -> String {
    let mut texts = String::new();
    super::each_source(&crate_root().join("src"), &mut |text| {
        for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
            match line.strip_suffix('\\') {
                Some(begun) => texts.push_str(begun),
                None => texts.extend([line, "\n"]),
            }
        }
    });
    texts
}

#[test]
fn every_row_has_its_test() {
    let page = page();
    let mut count = 0;
    for row in rows(&page) {
        for test in quoted(&row[COLUMNS - 1]) {
            assert!(holds_test(test), "{test} is no test, of the row {:?} of {:?}", row[0], row[1]);
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}
