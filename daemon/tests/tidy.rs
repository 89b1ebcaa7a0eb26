//! Tests of rules that no compiler holds: which layer may import which, how long files and functions get, where
//! unsafe code stands.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "as clippy.toml has it for test functions: what cannot go on has failed"
)]

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use imports::Imports;

/// The modules of the crate that each module may import, besides itself. ARCHITECTURE.md shows the same table.
const LAYERS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("protocol", &[]),
    ("config", &[]),
    ("limits", &["sys", "config"]),
    ("job", &["files", "protocol", "limits"]),
    ("files", &["sys", "protocol", "config", "limits"]),
    ("telemetry", &["config", "limits"]),
    ("systemd", &["telemetry", "config"]),
    ("host", &["sys", "config", "limits"]),
    ("sandbox", &["config"]),
    ("decision", &["files", "protocol", "config"]),
    ("dataplane", &["files", "job", "limits", "sys", "protocol", "telemetry", "config"]),
    ("control", &["job", "limits", "sys", "protocol", "telemetry", "config"]),
    // This module wires the others.
    (
        "daemon",
        &["config", "control", "dataplane", "files", "limits", "sandbox", "sys", "systemd", "telemetry"],
    ),
    (
        "lib",
        &[
            "config",
            "control",
            "daemon",
            "dataplane",
            "decision",
            "files",
            "host",
            "job",
            "limits",
            "protocol",
            "sandbox",
            "sys",
            "systemd",
            "telemetry",
        ],
    ),
    ("main", &[]),
];

/// The files and directories of the data plane, from the top down: each imports only what stands below it.
/// ARCHITECTURE.md shows the same order.
const DATA_PLANE: &[&[&str]] = &[
    &["plane", "simulation"],
    &["worker"],
    &["accept"],
    &["dispatch"],
    &["http", "stream"],
    &["engine", "frames", "proxy"],
    &["account", "input", "lingering_close", "look_up", "room"],
    &["context"],
    &["idle_targets", "readiness"],
    &["registry"],
    &["connection"],
    &["socket"],
    &["disk_waits", "error", "listener", "publications"],
    &["client", "clock", "disk", "pacing", "pipe_pool", "room_requests", "served"],
    &["platform"],
];

/// The files and directories of the bench, from the top down, by the same rule.
const BENCH: &[&[&str]] = &[
    &["judge"],
    &["compare", "single"],
    &["scenario"],
    &["arguments", "peer"],
    &["load", "report"],
    &["output", "result"],
    &["fixture", "host", "progress", "statistics", "usage"],
];

/// The crates that one layer alone may use: one runtime a plane, and the ring's own crate where it is probed.
const CONFINED: &[(&str, &[&str])] = &[
    ("monoio", &["dataplane"]),
    ("hyper", &["control"]),
    ("io_uring", &["sys"]),
    ("prometheus_client", &["telemetry"]),
    ("httparse", &["protocol"]),
    ("clap", &["config"]),
    ("landlock", &["sandbox"]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARACTERS_MAX: usize = 120;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Returns the module directly below the crate's root that the file belongs to.
    fn layer(&self) -> String {
        let mut parts = self.path.strip_prefix(crate_root().join("src")).unwrap().components();
        let first = parts.next().unwrap().as_os_str().to_str().unwrap();
        first.strip_suffix(".rs").unwrap_or(first).to_owned()
    }

    fn name(&self) -> String {
        self.path.strip_prefix(workspace_root()).unwrap().display().to_string()
    }
}

fn crate_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn workspace_root() -> PathBuf {
    crate_root().parent().unwrap().to_owned()
}

fn sources_below(directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(Source { text: fs::read_to_string(&path).unwrap(), path });
        }
    }
}

fn sources(directories: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for directory in directories {
        sources_below(&workspace_root().join(directory), &mut found);
    }
    assert!(!found.is_empty());
    found
}

/// Returns code without comments, line by line, with line numbers from 1.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Returns the identifiers that follow each `crate::` in a line, those in braces too.
fn crate_imports(line: &str) -> Vec<&str> {
    let mut imports = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let list = rest.strip_prefix('{').map_or(rest, |braced| braced.split('}').next().unwrap_or(braced));
        let is_braced = rest.starts_with('{');
        for item in list.split(',').take(if is_braced { usize::MAX } else { 1 }) {
            let end = item.trim().find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            imports.push(&item.trim()[..end.unwrap_or(item.trim().len())]);
        }
    }
    imports
}

#[test]
fn layers_import_only_what_they_may() {
    let mut faults = Vec::new();
    for source in sources(&["daemon/src"]) {
        let layer = source.layer();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            faults.push(format!("{}: the layer table has no {layer}", source.name()));
            continue;
        };
        for (number, line) in code_lines(&source.text) {
            for import in crate_imports(line) {
                if import != layer
                    && !allowed.contains(&import)
                    && LAYERS.iter().any(|(name, _)| *name == import)
                {
                    faults.push(format!("{}:{number}: {layer} may not import {import}", source.name()));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn crates_stay_in_their_layer() {
    let mut faults = Vec::new();
    for source in sources(&["daemon/src"]) {
        let layer = source.layer();
        for (number, line) in code_lines(&source.text) {
            for (name, layers) in CONFINED {
                let uses =
                    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == *name)
                        && line.contains(&format!("{name}::"));
                if uses && !layers.contains(&layer.as_str()) {
                    faults.push(format!("{}:{number}: {layer} may not use {name}", source.name()));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn unsafe_code_stands_in_sys_alone() {
    let mut faults = Vec::new();
    for source in sources(&["daemon/src", "bench/src"]) {
        let in_sys = source.path.starts_with(crate_root().join("src/sys"));
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in code_lines(&source.text) {
            if !line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                continue;
            }
            if !in_sys {
                faults.push(format!("{}:{number}: unsafe outside sys", source.name()));
            }
            let comment = lines[..number - 1].iter().rev().take_while(|line| line.trim().starts_with("//"));
            let words = comment.copied().collect::<Vec<_>>().join(" ").to_lowercase();
            for wanted in ["safety:", "owner", "lifetime", "kernel"] {
                if !words.contains(wanted) {
                    faults.push(format!(
                        "{}:{number}: the SAFETY comment doesn't name {wanted}",
                        source.name()
                    ));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut faults = Vec::new();
    for source in sources(&["daemon/src", "daemon/tests", "bench/src"]) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines", source.name()));
        }
        for (index, line) in source.text.lines().enumerate() {
            if line.chars().count() > LINE_CHARACTERS_MAX {
                faults.push(format!("{}:{}: {} characters", source.name(), index + 1, line.chars().count()));
            }
        }
        faults.extend(long_functions(&source));
    }
    report(&faults);
}

/// Finds long functions. rustfmt puts a function's closing brace under its first character, which is how its end
/// is found.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut faults = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_function = code.split(['(', '<']).next().is_some_and(|head| {
            head.split_whitespace().rev().nth(1) == Some("fn") && !code.starts_with("//")
        });
        if !is_function {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let length = lines[start..].iter().position(|line| *line == end).map_or(1, |offset| offset + 1);
        if length > FUNCTION_LINES_MAX {
            faults.push(format!("{}:{}: a function of {length} lines", source.name(), start + 1));
        }
    }
    faults
}

#[test]
fn the_architecture_page_shows_the_layer_table() {
    let page = fs::read_to_string(workspace_root().join("ARCHITECTURE.md")).unwrap();
    let mut faults = Vec::new();
    for (layer, allowed) in LAYERS.iter().filter(|(layer, _)| !["lib", "main", "daemon"].contains(layer)) {
        let may = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let row = format!("| {layer} | {may} |");
        if !page.contains(&row) {
            faults.push(format!("ARCHITECTURE.md lacks the row: {row}"));
        }
    }
    report(&faults);
}

#[test]
fn the_architecture_page_shows_the_floors_of_the_data_plane() {
    let page = fs::read_to_string(workspace_root().join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<usize> = DATA_PLANE
        .iter()
        .map(|floor| {
            let row = format!("\n| {} | ", floor.join(", "));
            page.find(&row).unwrap_or_else(|| panic!("ARCHITECTURE.md lacks the floor{row}"))
        })
        .collect();
    assert!(rows.is_sorted(), "ARCHITECTURE.md has the floors in another order");
}

#[test]
fn every_file_of_the_source_is_in_a_known_layer() {
    for (layer, _) in LAYERS {
        let directory = crate_root().join("src").join(layer);
        let file = crate_root().join("src").join(format!("{layer}.rs"));
        assert!(directory.is_dir() || file.is_file(), "the layer table names {layer}, which doesn't exist");
    }
}

#[test]
fn nothing_unfinished_is_left() {
    // Spelled in two parts so that this file doesn't find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let mut faults = Vec::new();
    for source in sources(&["daemon/src", "daemon/tests", "bench/src"]) {
        for (index, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                faults.push(format!("{}:{}: {line}", source.name(), index + 1));
            }
        }
    }
    report(&faults);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut faults = Vec::new();
    for name in ["daemon", "bench", "packaging"] {
        let circles = imports_of(name).circles();
        faults.extend(circles.iter().map(|circle| format!("{name}: {circle}")));
    }
    report(&faults);
}

#[test]
fn files_import_only_what_stands_below_them() {
    let mut faults = Vec::new();
    for (name, place, floors) in [("daemon", "dataplane", DATA_PLANE), ("bench", "", BENCH)] {
        let floor_of = |file: &Path| {
            let unit = file.strip_prefix(place).ok()?.iter().next()?.to_str()?;
            let unit = unit.strip_suffix(".rs").unwrap_or(unit);
            Some((unit.to_owned(), floors.iter().position(|floor| floor.contains(&unit))))
        };
        let imports = imports_of(name);
        let is_root = |unit: &str| ["mod", "lib", "main"].contains(&unit);
        for file in imports.files() {
            if let Some((unit, None)) = floor_of(file)
                && !is_root(&unit)
            {
                faults.push(format!("{name}: no floor has {}", file.display()));
            }
        }
        for (from, to, names) in imports.edges() {
            if let (Some((upper, Some(from_floor))), Some((lower, Some(to_floor)))) =
                (floor_of(from), floor_of(to))
                && upper != lower
                && from_floor >= to_floor
            {
                faults.push(format!(
                    "{name}: {} imports {names:?} of {}, which doesn't stand below it",
                    from.display(),
                    to.display()
                ));
            }
        }
    }
    report(&faults);
}

fn imports_of(name: &str) -> Imports {
    Imports::of(&workspace_root().join(name).join("src"))
}
