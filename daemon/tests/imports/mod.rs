//! Which file of a crate imports which, as rustc would resolve it: by `use`, in braces or with another name, by
//! `super::`, `self::` and `crate::`, by paths in expressions and types, inside macros too, and through re-exports to
//! the file that defines what is named. Test modules are left out.
//!
//! What a path names by way of a type (`Type::NAME`) is where the type is. Methods say nothing of their file.

mod circles;
mod module;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use module::Crate;

/// A crate's files, by their paths below its `src`, and what each imports of the others.
pub(super) struct Imports {
    files: BTreeSet<PathBuf>,
    edges: BTreeMap<(PathBuf, PathBuf), BTreeSet<String>>,
}

impl Imports {
    /// Reads the crate whose root files lie in `source`.
    pub(super) fn of(source: &Path) -> Imports {
        let mut imports = Imports { files: BTreeSet::new(), edges: BTreeMap::new() };
        for root in ["lib.rs", "main.rs"] {
            if source.join(root).is_file() {
                imports.add(&Crate::read(source, root));
            }
        }
        imports
    }

    /// Returns all files that a crate root leads to.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Returns which file imports of which, and the names.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&Path, &Path, &BTreeSet<String>)> {
        self.edges.iter().map(|((from, to), names)| (from.as_path(), to.as_path(), names))
    }

    /// Returns each set of files of which every one leads to every other, with the arrows inside it.
    pub(super) fn circles(&self) -> Vec<String> {
        let arrows: Vec<_> = self.edges.keys().map(|(from, to)| (from.as_path(), to.as_path())).collect();
        circles::strongly_connected(self.files(), &arrows)
            .into_iter()
            .map(|circle| self.describe(&circle))
            .collect()
    }

    fn describe(&self, circle: &BTreeSet<&Path>) -> String {
        let mut text = format!("{} files import each other in a circle:", circle.len());
        for (from, to, names) in self.edges() {
            if circle.contains(from) && circle.contains(to) {
                let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                text += &format!("\n    {} imports {names} of {}", from.display(), to.display());
            }
        }
        text
    }

    fn add(&mut self, of: &Crate) {
        for id in of.modules() {
            let from = of.file(id);
            self.files.insert(from.to_owned());
            for path in of.paths(id) {
                if let Some((to, name)) = of.resolve(id, path)
                    && to != from
                {
                    self.edges.entry((from.to_owned(), to.to_owned())).or_default().insert(name);
                }
            }
        }
    }
}

/// A path as it is written: its names, and whether it begins outside of the crate (`::name`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    names: Vec<String>,
    is_absolute: bool,
}

/// Tests of what the test of all crates can't show: that the graph is found, and that a circle is.
#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Imports::of(directory.path())
    }

    fn arrows(files: &[(&str, &str)]) -> Vec<String> {
        let name = |path: &Path| path.with_extension("").display().to_string();
        imports(files).edges().map(|(from, to, _)| format!("{} -> {}", name(from), name(to))).collect()
    }

    #[test]
    fn every_way_to_name_something_is_an_arrow_to_the_file_that_defines_it() {
        let below = ("a/mod.rs", "mod inner; pub use inner::{Thing, other as Renamed}; pub fn own() {}");
        let inner = ("a/inner.rs", "pub struct Thing; pub fn other() {} pub enum Kind { One }");
        for (text, arrow) in [
            ("use crate::a::Thing;", "b -> a/inner"),
            ("use super::a::{\n    own,\n};", "b -> a/mod"),
            ("use crate::a::Renamed as Again;", "b -> a/inner"),
            ("fn f() { crate::a::own() }", "b -> a/mod"),
            ("use crate::a; fn f() -> Option<a::Thing> { None }", "b -> a/inner"),
            ("use crate::a as z; fn f() { println!(\"{}\", z::own()) }", "b -> a/mod"),
            ("use crate::a::*; fn f(_: Thing) {}", "b -> a/inner"),
            ("use std::fmt; mod c { use super::super::a::own; }", "b -> a/mod"),
        ] {
            let found = arrows(&[("lib.rs", "mod a; mod b;"), below, inner, ("b.rs", text)]);
            assert!(found.contains(&arrow.to_owned()), "{text}: {found:?}");
            let of_b: Vec<_> = found.iter().filter(|found| found.starts_with("b ")).collect();
            assert_eq!(of_b.len(), 1, "{text}: {of_b:?}");
        }
    }

    #[test]
    fn what_is_for_tests_or_of_others_is_no_arrow() {
        for text in [
            "#[cfg(test)] mod tests { use crate::a::f; }",
            "#[cfg(test)] use crate::a::f;",
            "use ::a::f;",
            "mod a { pub fn f() {} } use self::a::f;",
            "// crate::a::f\nfn g() { let a = \"crate::a::f\"; }",
        ] {
            assert_eq!(
                arrows(&[("lib.rs", "mod a; mod b;"), ("a.rs", "pub fn f() {}"), ("b.rs", text)]),
                [""; 0]
            );
        }
    }

    #[test]
    fn a_circle_is_found_however_long_and_named() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "pub const A: u8 = 1; use crate::b::B;"),
            ("b.rs", "pub const B: u8 = 1; use crate::c::C;"),
            ("c.rs", "pub const C: u8 = 1; use crate::a::A; use crate::d::D;"),
            ("d.rs", "pub const D: u8 = 1;"),
        ];
        let circles = imports(&files).circles();
        assert_eq!(circles.len(), 1);
        assert!(
            circles[0].starts_with("3 files") && circles[0].contains("c.rs imports A of a.rs"),
            "{circles:?}"
        );
        let open: Vec<_> = files.into_iter().filter(|(path, _)| *path != "c.rs").collect();
        assert_eq!(
            imports(&[open.as_slice(), &[("c.rs", "pub const C: u8 = 1;")]].concat()).circles(),
            [""; 0]
        );
    }
}
