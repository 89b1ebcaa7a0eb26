//! Tests that the files in the repository are those that the programs would write.

#![allow(
    clippy::unwrap_used,
    reason = "as clippy.toml has it for test functions: what cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const REMEDY: &str = "cargo run -p streamd-packaging --example generate";

#[test]
fn the_generated_files_are_up_to_date() {
    let directory = streamd_packaging::directory();
    let mut kept = BTreeSet::new();
    files_below(&directory, &mut kept);
    for document in streamd_packaging::documents().unwrap() {
        let path = directory.join(&document.path);
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(text == document.text, "{} is out of date: {REMEDY}", path.display());
        kept.remove(&path);
    }
    assert!(kept.is_empty(), "nothing writes these any more: {kept:?}: {REMEDY}");
}

#[test]
fn the_table_of_options_in_the_readme_is_up_to_date() {
    let page = fs::read_to_string(streamd_packaging::readme()).unwrap();
    assert!(streamd_packaging::with_options(&page).unwrap() == page, "README.md is out of date: {REMEDY}");
}

fn files_below(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.insert(path);
        }
    }
}
