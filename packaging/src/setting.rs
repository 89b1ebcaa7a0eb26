//! The configuration file that shows every key: its meaning, its default, and whether a reload changes it.

use streamd::config::{Change, Declared, Kind, Setting, Settings};

use crate::document::DocumentError;

const HEAD: &str = "\
# Settings of streamd: each line that is commented out shows the default, or an example where it says so.
# `streamd --check` says what is wrong with this file, `streamd --print-config` what is in force; streamd.toml(5) and
# streamd(8) tell more. `systemctl reload streamd` puts changes in force; those marked (restart) need a restart.
#
# Files are served from root alone. To write anywhere but below /var/lib/streamd the service needs a drop-in:
# /usr/share/doc/streamd/examples/write-access.conf.
";

/// The settings of a table that are shown: those that say what it is for.
const MEMBERS_SHOWN: usize = 2;

/// A value as it stands in the file.
pub(crate) struct Shown {
    pub(crate) text: String,
    /// Whether it is only an example, since there is no default or it is the host's.
    pub(crate) is_example: bool,
}

/// Returns the value to show for a setting.
pub(crate) fn shown(setting: &Setting) -> Result<Shown, DocumentError> {
    let default = Settings::default().table().remove(setting.key).filter(|_| setting.default_words.is_none());
    let is_example = default.is_none();
    let value = default.or_else(|| setting.kind.example()).ok_or(DocumentError::NoExample(setting.key))?;
    Ok(Shown { text: setting.kind.written(&value).to_string(), is_example })
}

/// Writes the configuration file.
pub(crate) fn file(settings: &[&Setting]) -> Result<String, DocumentError> {
    let mut text = HEAD.to_owned();
    for setting in settings.iter().filter(|setting| setting.members.is_none()) {
        let shown = shown(setting)?;
        text += &format!("\n# {}\n#{} = {}\n", line(setting, shown.is_example), setting.key, shown.text);
    }
    // What stands behind a table belongs to it.
    for setting in settings {
        let Some(members) = setting.members else { continue };
        text += &format!("\n# {}\n#{}\n", line(setting, true), heading(setting));
        for member in members().into_iter().take(MEMBERS_SHOWN) {
            text += &format!("#{} = {}\n", member.key, example(member)?);
        }
        if is_of_shares(settings, setting) {
            text += "# and any of the settings above that streamd.toml(5) names for each share\n";
        }
    }
    Ok(text)
}

/// Returns the line with which a table begins in the file.
pub(crate) fn heading(setting: &Setting) -> String {
    let key = setting.key;
    if let Kind::Tables = setting.kind { format!("[[{key}]]") } else { format!("[{key}]") }
}

/// Returns an example of a setting, as it stands in the file.
pub(crate) fn example(setting: &'static Setting) -> Result<String, DocumentError> {
    let value = setting.kind.example().ok_or(DocumentError::NoExample(setting.key))?;
    Ok(setting.kind.written(&value).to_string())
}

/// Whether the tables have settings that the file's top has too.
pub(crate) fn is_of_shares(settings: &[&Setting], tables: &Setting) -> bool {
    let members = tables.members.map(|members| members()).unwrap_or_default();
    let is_above = |member: &&&Setting| settings.iter().any(|setting| setting.key == member.key);
    members.iter().filter(is_above).count() > 1
}

/// Describes a setting in one line.
fn line(setting: &Setting, is_example: bool) -> String {
    let mut line = setting.help();
    let choices: Vec<String> =
        setting.kind.choices().iter().map(|choice| format!("{:?}", choice.get_name())).collect();
    if !choices.is_empty() {
        line = format!("{line}: {}", choices.join(", "));
    }
    if let Some(range) = setting.kind.range() {
        line += &format!(" [{range}]");
    }
    if let Some(words) = setting.default_words {
        line += &format!(" [default: {words}]");
    }
    if setting.change == Change::Restart {
        line += " (restart)";
    }
    if is_example { line + "; for example" } else { line }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;

    use streamd::config::{Arguments, Declared, Settings, load};
    use toml::Table;

    use super::{file, shown};

    fn text() -> String {
        file(&Settings::declared()).unwrap()
    }

    fn uncommented() -> Table {
        let text = text();
        let lines =
            text.lines().filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
        lines.collect::<Vec<_>>().join("\n").parse().unwrap()
    }

    /// Returns the settings that the daemon reads from the table.
    fn loaded(table: &Table) -> Settings {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{table}").unwrap();
        let path = file.path().to_str().unwrap();
        load(&Arguments::read(["streamd", "--config", path], []).unwrap()).unwrap().settings
    }

    #[test]
    fn the_file_is_only_comments() {
        let text = text();
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    }

    #[test]
    fn every_key_is_in_it_and_no_other() {
        let known: BTreeSet<String> =
            Settings::declared().iter().map(|setting| setting.key.to_owned()).collect();
        assert_eq!(uncommented().keys().cloned().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn what_it_shows_is_the_default() {
        let mut table = uncommented();
        assert_eq!((table["workers"].as_integer(), table["root"].as_str()), (Some(4), Some("/srv/files")));
        for setting in Settings::declared() {
            if setting.members.is_some() || shown(setting).unwrap().is_example {
                table.remove(setting.key);
            }
        }
        assert_eq!(table.len() + 10, Settings::declared().len());
        assert_eq!(loaded(&table), Settings::default());
    }

    #[test]
    fn what_needs_a_restart_is_marked() {
        let text = text();
        let marked = |key: &str| {
            let (before, _) = text.split_once(&format!("\n#{key} = ")).unwrap();
            before.lines().last().unwrap().contains(" (restart)")
        };
        for key in ["root", "data_listen", "workers", "uploads", "engine", "congestion_control"] {
            assert!(marked(key), "{key}");
        }
        for key in ["uploads_max", "partial_ttl", "targets_allowed", "log_level", "access_log", "token_file"]
        {
            assert!(!marked(key), "{key}");
        }
    }
}
