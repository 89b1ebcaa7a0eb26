//! The configuration file, read within a bound, with the line of each key.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::Value;
use toml::de::{DeTable, DeValue};

use super::faults::{ConfigError, Fault, Reach};
use super::kind::Kind;
use super::nearest::nearest;
use super::origin::{Found, Origin, TableOrigins};
use super::setting::{Setting, renamed};

/// The largest configuration file, in bytes: settings are a few hundred bytes, and a pipe must not fill the
/// memory.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The settings, with values that may still be out of range.
    pub(super) found: Vec<Found>,
    /// The origins of the keys of tables that there are several of, by the setting's key.
    pub(super) tables: BTreeMap<&'static str, Vec<TableOrigins>>,
    /// Faults of unknown keys.
    pub(super) faults: Vec<Fault>,
    /// Warnings of former keys.
    pub(super) warnings: Vec<Fault>,
}

/// Reads the file's text; None where it doesn't exist, unless somebody named it.
pub(super) fn read(path: &Path, reach: Reach, is_named: bool) -> Result<Option<String>, ConfigError> {
    match read_bounded(path) {
        Ok(text) => Ok(Some(text)),
        // Only the default path may be absent: a file that somebody named must be there.
        Err(error) if !is_named && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(ConfigError::Unreadable { path: path.to_owned(), reach, reason }),
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB: not a configuration file"));
    }
    Ok(text)
}

/// Finds `settings` in the text of a file. Each key is read by itself, so that one bad key doesn't hide the next.
pub(super) fn parse(path: &Path, text: &str, settings: &[&'static Setting]) -> Result<Content, ConfigError> {
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    let mut reader = Reader { path: path.into(), text, content: Content::default() };
    reader.content.found = reader.table("", document.get_ref(), settings);
    Ok(reader.content)
}

struct Reader<'a> {
    path: Arc<Path>,
    text: &'a str,
    content: Content,
}

impl Reader<'_> {
    /// Finds `settings` in a table whose keys have `prefix` before them.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>, settings: &[&'static Setting]) -> Vec<Found> {
        let mut found = Vec::new();
        // The keys are taken in the order of the file, so that faults are as well.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let (name, origin) = (key.get_ref().as_ref(), self.origin(key));
            let current = settings.iter().find(|setting| setting.key == name);
            let former = || settings.iter().find(|setting| setting.former_key == Some(name));
            let Some(setting) = current.or_else(former).copied() else {
                self.unknown(prefix, name, &origin, settings);
                continue;
            };
            if current.is_none() {
                let is_doubled = table.contains_key(setting.key);
                self.renamed(prefix, name, setting, &origin, is_doubled);
            }
            let value = self.value(&format!("{prefix}{name}"), value, setting);
            found.push(Found { setting, origin, value });
        }
        found
    }

    fn value(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        setting: &'static Setting,
    ) -> Result<Value, String> {
        if let Some(members) = setting.members {
            let members = members();
            let read = match setting.kind {
                Kind::Table => self.one_table(key, value.get_ref(), &members),
                _ => self.tables(key, value.get_ref(), setting, &members),
            };
            return read.ok_or_else(|| setting.kind.expected());
        }
        let value = Value::deserialize(value.clone().into_deserializer());
        let value = value.map_err(|_| setting.kind.expected())?;
        setting.kind.read(&value).map_err(|expected| format!("{value}: {expected}"))
    }

    /// Reads a table, as far as it can be read; each part that can't be is a fault.
    fn one_table(&mut self, key: &str, value: &DeValue<'_>, members: &[&'static Setting]) -> Option<Value> {
        let prefix = format!("{key}.");
        let found = self.table(&prefix, value.as_table()?, members);
        Some(Value::Table(self.valid(&prefix, found)))
    }

    /// Reads each table of an array, as far as it can be read; each part that can't be is a fault.
    fn tables(
        &mut self,
        key: &str,
        value: &DeValue<'_>,
        setting: &Setting,
        members: &[&'static Setting],
    ) -> Option<Value> {
        let tables = value.as_array()?.iter().map(|table| Some((table.span(), table.get_ref().as_table()?)));
        let (mut values, mut origins) = (Vec::new(), Vec::new());
        for (span, table) in tables.collect::<Option<Vec<_>>>()? {
            let found = self.table(&format!("{key}."), table, members);
            let keys = found.iter().map(|found| (found.setting.key, found.origin.clone())).collect();
            origins.push(TableOrigins { table: self.origin_at(span.start), keys });
            values.push(Value::Table(self.valid(&format!("{key}."), found)));
        }
        // Of tables within tables the outer one's line has to do.
        if key == setting.key {
            self.content.tables.insert(setting.key, origins);
        }
        Some(Value::Array(values))
    }

    fn valid(&mut self, prefix: &str, found: Vec<Found>) -> toml::Table {
        let mut valid = toml::Table::new();
        for Found { setting, origin, value } in found {
            let wrong =
                value.as_ref().map_or_else(|reason| vec![reason.clone()], |value| setting.kind.check(value));
            let fault = |reason| Fault::new(&format!("{prefix}{}", setting.key), reason).from(Some(&origin));
            self.content.faults.extend(wrong.into_iter().map(fault));
            if let Ok(value) = value {
                valid.insert(setting.key.to_owned(), value);
            }
        }
        valid
    }

    fn unknown(&mut self, prefix: &str, name: &str, origin: &Origin, settings: &[&'static Setting]) {
        let meant = nearest(name, settings.iter().map(|setting| setting.key));
        let hint = meant.map(|meant| format!("did you mean {meant}?"));
        let hint = hint.unwrap_or_else(|| "streamd --help lists them all".to_owned());
        let fault = Fault::new(&format!("{prefix}{name}"), format!("unknown setting: {hint}"));
        self.content.faults.push(fault.from(Some(origin)));
    }

    fn renamed(&mut self, prefix: &str, name: &str, setting: &Setting, origin: &Origin, is_doubled: bool) {
        let said =
            Fault::new(&format!("{prefix}{name}"), renamed(setting.key, is_doubled)).from(Some(origin));
        if is_doubled { self.content.faults.push(said) } else { self.content.warnings.push(said) }
    }

    fn origin(&self, key: &Spanned<std::borrow::Cow<'_, str>>) -> Origin {
        self.origin_at(key.span().start)
    }

    fn origin_at(&self, place: usize) -> Origin {
        let before = &self.text.as_bytes()[..place.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File { path: Arc::clone(&self.path), line }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::Value;

    use super::super::kind::{Kind, range};
    use super::super::setting::{Declared, settings};
    use super::{Content, parse};

    settings! {
        /// Something that there may be several of.
        struct Part {
            /// Where it is.
            path: Option<std::path::PathBuf> = None, "There is none.", Kind::Directory("/srv"), Node, Restart;
            /// How many may be in it.
            files_max: u64 = 5, "Nobody has more.", Kind::Count(range(1, 9)), Node, Reload;
        }
    }

    settings! {
        /// The whole.
        struct Whole {
            /// How long it takes.
            wait_ms: u64 = 1, "As short as it gets.", Kind::Milliseconds(range(1, 100)), Node, Reload
                { former_key: "patience_ms" };
            /// Its parts.
            part: Vec<Part> = Vec::new(), "It has none.", Kind::Tables, Node, Restart { members: Part::declared };
        }
    }

    fn read(text: &str) -> (Whole, Vec<String>, Vec<String>) {
        let content = parse(Path::new("/x.toml"), text, &Whole::declared()).unwrap();
        let Content { found, faults, warnings, .. } = content;
        let mut whole = Whole::default();
        for found in found {
            let field = Whole::FIELDS.iter().find(|field| field.setting.key == found.setting.key).unwrap();
            assert!((field.put)(&mut whole, &found.value.unwrap()));
        }
        let text = |all: Vec<super::Fault>| all.iter().map(ToString::to_string).collect();
        (whole, text(faults), text(warnings))
    }

    #[test]
    fn tables_are_declared_and_read_like_settings() {
        let (whole, faults, warnings) =
            read("wait_ms = \"9ms\"\n[[part]]\npath = \"/a\"\n[[part]]\npath = \"/b\"\nfiles_max = 2\n");
        assert_eq!((faults.len(), warnings.len(), whole.wait_ms), (0, 0, 9));
        let part = |path: &str, files_max| Part { path: Some(path.into()), files_max };
        assert_eq!(whole.part, [part("/a", 5), part("/b", 2)]);
        let table = whole.table();
        assert_eq!(table["part"][1]["files_max"].as_integer(), Some(2));
        assert_eq!(whole.part[0].table()["path"], Value::from("/a"));
    }

    #[test]
    fn a_fault_within_a_table_has_its_line_and_the_nearest_name() {
        let (_, faults, _) = read("[[part]]\nfile_max = 1\n[[part]]\nfiles_max = 10\npath = 1\n");
        let expected = [
            "part.file_max: unknown setting: did you mean files_max? (/x.toml:2)",
            "part.files_max: 10 is outside 1 to 9 (/x.toml:4)",
            "part.path: 1: expected a directory, as /srv (/x.toml:5)",
        ];
        assert_eq!(faults, expected);
        let (_, faults, _) = read("colour = 1\n");
        assert_eq!(faults, ["colour: unknown setting: streamd --help lists them all (/x.toml:1)"]);
    }

    #[test]
    fn a_former_name_is_taken_with_a_warning_and_not_beside_the_new_one() {
        let (whole, faults, warnings) = read("patience_ms = 7\n");
        assert_eq!((whole.wait_ms, faults.len()), (7, 0));
        let renamed = "patience_ms: is called wait_ms now, and this release is the last that takes the former name \
                       (/x.toml:1)";
        assert_eq!(warnings, [renamed]);
        let (_, faults, warnings) = read("wait_ms = 7\npatience_ms = 8\n");
        let doubled = "patience_ms: is the former name of wait_ms, which is set as well: take one of them out \
                       (/x.toml:2)";
        assert_eq!((faults, warnings), (vec![doubled.to_owned()], Vec::new()));
    }
}
