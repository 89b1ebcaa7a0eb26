//! Tests that hold the documents to each other and to the tree: links lead to pages, named files exist; a page's
//! contents list names its sections, the plot shows the figures of its table, the changelog has the version.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "as clippy.toml has it for test functions: what cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The directories that git ignores, and those without text.
const NOT_LOOKED_INTO: [&str; 4] = ["target", "run", "bench-results", "__pycache__"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns all pages of the repository, by their paths from its root.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    pages_below(&repository(), &mut found);
    assert!(found.contains_key(Path::new("README.md")), "{:?}", found.keys());
    found
}

fn pages_below(directory: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && !NOT_LOOKED_INTO.contains(&name.as_str()) {
                pages_below(&path, found);
            }
        } else if name.ends_with(".md") {
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path.strip_prefix(repository()).unwrap().to_owned(), text);
        }
    }
}

/// Returns the lines outside code blocks, with their numbers from 1 and without inline code.
fn prose(page: &str) -> Vec<(usize, String)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            // Text between two backquotes has an odd place.
            let outside = line.split('`').step_by(2).collect::<Vec<_>>();
            lines.push((index + 1, outside.join("`")));
        }
    }
    lines
}

/// Finds all files of the repository, by their paths from its root, and directories with a slash behind them.
fn paths_below(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.push(format!("{shown}/"));
            paths_below(&path, found);
        } else {
            found.push(shown);
        }
    }
}

/// Returns the targets of a line's links and pictures.
fn targets(line: &str) -> Vec<&str> {
    let after = |opening: &str, end: char| -> Vec<&str> {
        let rests = line.match_indices(opening).map(|(start, _)| &line[start + opening.len()..]);
        rests.filter_map(|rest| rest.split_once(end).map(|(target, _)| target)).collect()
    };
    [after("](", ')'), after("src=\"", '"'), after("srcset=\"", '"'), after("href=\"", '"')].concat()
}

/// Returns the names by which links lead to the headings of a page, as repository hosts make them.
fn anchors(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for heading in headings(page).iter().map(|line| line.trim_start_matches('#').trim()) {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let base = heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
        let earlier = found.iter().filter(|anchor| **anchor == base).count();
        found.push(if earlier == 0 { base } else { format!("{base}-{earlier}") });
    }
    found
}

/// Returns the headings with their number signs.
fn headings(page: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code && line.starts_with('#') {
            found.push(line);
        }
    }
    found
}

#[test]
fn every_relative_link_leads_somewhere() {
    let pages = pages();
    let mut faults = Vec::new();
    let mut count = 0;
    for (path, text) in &pages {
        for (number, line) in prose(text) {
            for target in targets(&line).into_iter().filter(|target| !target.contains("://")) {
                count += 1;
                if let Some(fault) = fault_of(&pages, path, target) {
                    faults.push(format!("{}:{number}: {target}: {fault}", path.display()));
                }
            }
        }
    }
    assert!(count > 20, "{count} links were found");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Pages for whoever changes the code name its files in backquotes, from the root of the repository or shortened.
#[test]
fn files_that_are_named_are_there() {
    let mut paths = Vec::new();
    for directory in ["daemon", "bench", "packaging", "scripts", "docs"] {
        paths.push(format!("{directory}/"));
        paths_below(&repository().join(directory), &mut paths);
    }
    let is_there = |name: &str| {
        let shortened = format!("/{name}");
        paths.iter().any(|path| path == name || path.ends_with(&shortened) || *path == format!("{name}/"))
    };
    let mut faults = Vec::new();
    let mut count = 0;
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        for name in
            text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|name| is_path(name))
        {
            count += 1;
            if !is_there(name) {
                faults.push(format!("{page}: there is no {name}"));
            }
        }
    }
    assert!(count > 30, "{count} files are named");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn is_path(name: &str) -> bool {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
    let begins_with_name = name.starts_with(|c: char| c.is_ascii_lowercase());
    is_plain && begins_with_name && name.contains('/') && !name.starts_with("target/")
}

fn fault_of(pages: &BTreeMap<PathBuf, String>, page: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { page.to_owned() } else { beside(page, file) };
    if !repository().join(&path).exists() {
        return Some(format!("there is no {}", path.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let Some(text) = pages.get(&path) else { return Some(format!("{} has no headings", path.display())) };
    let has_anchor = anchors(text).iter().any(|found| found == anchor);
    (!has_anchor).then(|| format!("{} has no such heading", path.display()))
}

/// Returns `file` as seen from `page`, from the root of the repository.
fn beside(page: &Path, file: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => assert!(path.pop(), "{file} leads out of the repository"),
            name => path.push(name),
        }
    }
    path
}

/// Each row of the page says which test holds it.
#[test]
fn each_client_that_is_named_is_in_a_test() {
    let page = fs::read_to_string(repository().join("docs/clients.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| client |"));
    let rows: Vec<&str> = rows.filter(|line| !line.starts_with("| proxy |")).collect();
    assert!(rows.len() > 10, "{} rows", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit_once("| ").unwrap().1;
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test holds: {row}");
        for name in named {
            let Some((module, test)) = name.split_once("::") else {
                assert!(repository().join(name).is_file(), "there is no {name}: {row}");
                continue;
            };
            let path = repository().join(format!("daemon/tests/behaviour/{module}.rs"));
            let text = fs::read_to_string(path).unwrap_or_default();
            assert!(text.contains(&format!("#[test]\nfn {test}() {{")), "there is no {name}: {row}");
        }
    }
}

#[test]
fn contents_lists_name_every_section() {
    let mut lists = 0;
    for (path, text) in pages() {
        let Some((_, rest)) = text.split_once("\n## Contents\n") else { continue };
        lists += 1;
        let (list, _) = rest.split_once("\n## ").unwrap();
        let listed: Vec<&str> = targets(list).into_iter().filter(|target| target.starts_with('#')).collect();
        let sections = headings(rest).into_iter().filter(|heading| heading.starts_with("## "));
        let expected: Vec<String> = sections.flat_map(anchors).map(|anchor| format!("#{anchor}")).collect();
        assert_eq!(listed, expected, "{}: the contents list", path.display());
    }
    assert!(lists > 0, "no page has a contents list");
}

/// Returns the text of the elements of a class.
fn texts_of_class<'s>(svg: &'s str, class: &str) -> Vec<&'s str> {
    let opening = format!("class=\"{class}\"");
    let elements = svg.lines().filter(|line| line.contains(&opening));
    elements.map(|line| line.split_once('>').unwrap().1.split_once('<').unwrap().0).collect()
}

#[test]
fn the_plot_shows_the_figures_of_the_table() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let (svg, page) = (read("docs/cpu.svg"), read("docs/performance.md"));
    let (sizes, figures) = (texts_of_class(&svg, "size"), texts_of_class(&svg, "figure"));
    // The rows are of streamd, nginx, h2o and lighttpd.
    assert!(!sizes.is_empty() && figures.len() == 4 * sizes.len(), "{sizes:?} {figures:?}");
    for (size, figures) in sizes.iter().zip(figures.chunks(4)) {
        let start = format!("| GET {size}, 64 connections | µs of server CPU a request | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
        let own = figures[0].trim_start_matches("1.00 = ").trim_end_matches(" µs");
        let shown = format!("{own} | {} | ", figures[1..].join(" | "));
        assert!(row.starts_with(&shown), "{size}: the plot has {shown}, the table {row}");
    }
}

#[test]
fn the_changelog_has_the_version() {
    let changelog = fs::read_to_string(repository().join("CHANGELOG.md")).unwrap();
    let heading = concat!("## [", env!("CARGO_PKG_VERSION"), "] - ");
    assert!(changelog.lines().any(|line| line.starts_with(heading)), "CHANGELOG.md has no {heading}");
}
