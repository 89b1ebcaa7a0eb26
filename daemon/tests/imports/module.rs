//! The modules of a crate, with the names that each defines, imports and uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Ident, Item, UseTree};

use super::Written;

/// The most steps of re-exports that are followed: more are a circle of them, which rustc refuses.
const STEPS_MAX: usize = 32;

pub(super) type ModuleId = usize;

/// A crate, read from its root file.
pub(super) struct Crate {
    source: PathBuf,
    modules: Vec<Module>,
}

struct Module {
    file: PathBuf,
    parent: ModuleId,
    children: BTreeMap<String, ModuleId>,
    /// The names that are defined here.
    items: Vec<String>,
    /// The names that `use` makes known here, with the paths that they stand for.
    uses: BTreeMap<String, Written>,
    globs: Vec<Written>,
    /// All paths that are named.
    paths: Vec<Written>,
}

enum Found<'c> {
    Module(ModuleId),
    Item(&'c Path),
}

impl Crate {
    /// Reads the files that the root file leads to.
    pub(super) fn read(source: &Path, root: &str) -> Crate {
        let mut read = Crate { source: source.to_owned(), modules: Vec::new() };
        read.read_file(Path::new(root), Path::new(""), 0);
        read
    }

    pub(super) fn modules(&self) -> std::ops::Range<ModuleId> {
        0..self.modules.len()
    }

    /// Returns the file that a module's text is in.
    pub(super) fn file(&self, module: ModuleId) -> &Path {
        &self.modules[module].file
    }

    /// Returns the paths that a module names.
    pub(super) fn paths(&self, module: ModuleId) -> &[Written] {
        &self.modules[module].paths
    }

    /// Returns the file that defines the item of a path, and its name there; None where that is a module, or of
    /// another crate.
    pub(super) fn resolve(&self, module: ModuleId, path: &Written) -> Option<(&Path, String)> {
        let (found, name) = self.follow(module, path, 0)?;
        match found {
            Found::Item(file) => Some((file, name)),
            Found::Module(_) => None,
        }
    }

    fn follow(&self, module: ModuleId, path: &Written, steps: usize) -> Option<(Found<'_>, String)> {
        if path.is_absolute || steps > STEPS_MAX {
            return None;
        }
        let mut here = module;
        for (position, name) in path.names.iter().enumerate() {
            here = match (name.as_str(), position) {
                ("crate", 0) => 0,
                ("self", 0) => here,
                ("super", _) => self.modules[here].parent,
                _ => match self.look_up(here, name, steps)? {
                    Found::Module(next) => next,
                    Found::Item(file) => return Some((Found::Item(file), name.clone())),
                },
            };
        }
        Some((Found::Module(here), String::new()))
    }

    fn look_up(&self, module: ModuleId, name: &str, steps: usize) -> Option<Found<'_>> {
        let here = &self.modules[module];
        if let Some(child) = here.children.get(name) {
            return Some(Found::Module(*child));
        }
        if here.items.iter().any(|item| item == name) {
            return Some(Found::Item(&here.file));
        }
        if let Some(path) = here.uses.get(name) {
            // `use name::…` of another crate stands for itself.
            let is_itself = path.names.first().is_some_and(|first| first == name);
            return if is_itself {
                None
            } else {
                self.follow(module, path, steps + 1).map(|(found, _)| found)
            };
        }
        here.globs.iter().find_map(|glob| match self.follow(module, glob, steps + 1)? {
            (Found::Module(of), _) if of != module && steps < STEPS_MAX => self.look_up(of, name, steps + 1),
            _ => None,
        })
    }

    fn read_file(&mut self, file: &Path, directory: &Path, parent: ModuleId) -> ModuleId {
        let text = fs::read_to_string(self.source.join(file)).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_module(file, directory, parent, parsed.items)
    }

    fn read_module(&mut self, file: &Path, directory: &Path, parent: ModuleId, items: Vec<Item>) -> ModuleId {
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            items: Vec::new(),
            uses: BTreeMap::new(),
            globs: Vec::new(),
            paths: Vec::new(),
        });
        for item in items {
            self.read_item(id, directory, item);
        }
        id
    }

    fn read_item(&mut self, id: ModuleId, directory: &Path, item: Item) {
        match item {
            Item::Mod(item) if !is_for_tests(&item.attrs) => {
                let name = item.ident.to_string();
                let below = directory.join(&name);
                let child = match item.content {
                    Some((_, items)) => {
                        let file = self.modules[id].file.clone();
                        self.read_module(&file, &below, id, items)
                    }
                    None => {
                        let flat = directory.join(format!("{name}.rs"));
                        let is_flat = self.source.join(&flat).is_file();
                        self.read_file(&if is_flat { flat } else { below.join("mod.rs") }, &below, id)
                    }
                };
                self.modules[id].children.insert(name, child);
            }
            Item::Mod(_) => {}
            Item::Use(item) if !is_for_tests(&item.attrs) => {
                let prefix = Written { names: Vec::new(), is_absolute: item.leading_colon.is_some() };
                self.modules[id].read_use(&item.tree, prefix);
            }
            Item::Use(_) => {}
            item => self.modules[id].read_definition(&item),
        }
    }
}

impl Module {
    fn read_use(&mut self, tree: &UseTree, mut path: Written) {
        match tree {
            UseTree::Path(tree) => {
                path.names.push(tree.ident.to_string());
                self.read_use(&tree.tree, path);
            }
            UseTree::Name(tree) => self.note_use(&tree.ident, &tree.ident, path),
            UseTree::Rename(tree) => self.note_use(&tree.ident, &tree.rename, path),
            UseTree::Glob(_) => self.globs.push(path),
            UseTree::Group(tree) => tree.items.iter().for_each(|tree| self.read_use(tree, path.clone())),
        }
    }

    fn note_use(&mut self, name: &Ident, as_name: &Ident, mut path: Written) {
        if name != "self" {
            path.names.push(name.to_string());
        }
        let known = if as_name == "self" { path.names.last().cloned() } else { Some(as_name.to_string()) };
        self.paths.push(path.clone());
        self.uses.extend(known.map(|known| (known, path)));
    }

    fn read_definition(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Macro(item) => item.ident.as_ref(),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.items.extend(name.map(ToString::to_string));
        self.read_paths(item.to_token_stream());
    }

    /// Notes every `name::name…` of a text, and single names too, since a glob may have made them known.
    fn read_paths(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Written::default(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) if colons == 2 && !path.names.is_empty() => {
                    path.names.push(ident.to_string());
                }
                TokenTree::Ident(ident) => {
                    self.note_path(std::mem::take(&mut path));
                    path = Written { names: vec![ident.to_string()], is_absolute: colons == 2 };
                }
                TokenTree::Group(group) => {
                    self.note_path(std::mem::take(&mut path));
                    // `pub(in crate::name)` names the scope of a visibility.
                    let is_scope = group.delimiter() == Delimiter::Parenthesis
                        && group.stream().into_iter().next().is_some_and(|first| first.to_string() == "in");
                    if !is_scope {
                        self.read_paths(group.stream());
                    }
                }
                _ => self.note_path(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.note_path(path);
    }

    fn note_path(&mut self, path: Written) {
        if !path.names.is_empty() && !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("test")
    })
}
