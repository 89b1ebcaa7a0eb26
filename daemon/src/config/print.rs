//! The settings in force, printed as a file that names the origin of each.

use super::load::Loaded;
use super::setting::Declared;
use super::settings::Settings;

/// The column of the comments, where the setting is short enough.
const COMMENT_COLUMN: usize = 40;

/// Writes a configuration file with the same settings; comments name the origins.
pub fn printed(loaded: &Loaded) -> String {
    let line = |field: &super::setting::Field<Settings>| {
        let setting = &field.setting;
        let Some(value) = (field.get)(&loaded.settings) else {
            return format!("# {} is not set\n", setting.key);
        };
        let assignment = format!("{} = {}", setting.key, setting.kind.written(&value));
        let origin = loaded.origins.of(setting.key).map_or("default".to_owned(), ToString::to_string);
        format!("{assignment:<COMMENT_COLUMN$}  # {origin}\n")
    };
    Settings::FIELDS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::arguments::Arguments;
    use super::super::load::load;
    use super::{Settings, printed};

    #[test]
    fn what_is_printed_reads_back_as_the_same_and_says_where_it_came_from() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "\nstreams_max = 7\nframe_bytes_max = 67108864\n").unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let words = ["streamd", "--config", &path, "--engine", "copy", "/tmp"];
        let variables = [("STREAMD_LISTING".into(), "true".into())];
        let loaded = load(&Arguments::read(words, variables).unwrap()).unwrap();
        let text = printed(&loaded);
        for (assignment, origin) in [
            ("streams_max = 7", &*format!("{path}:2")),
            ("frame_bytes_max = \"64MiB\"", &format!("{path}:3")),
            ("engine = \"copy\"", "--engine"),
            ("root = \"/tmp\"", "DIR"),
            ("listing = true", "STREAMD_LISTING"),
            ("driver = \"auto\"", "default"),
        ] {
            let is_it = |line: &str| {
                line.strip_prefix(assignment).is_some_and(|rest| rest.trim() == format!("# {origin}"))
            };
            assert!(text.lines().any(is_it), "{assignment} # {origin}\n{text}");
        }
        assert!(text.contains("\n# spool is not set\n"), "{text}");
        let mut again = tempfile::NamedTempFile::new().unwrap();
        write!(again, "{text}").unwrap();
        let words = ["streamd", "--config", again.path().to_str().unwrap()];
        let read: Settings = load(&Arguments::read(words, []).unwrap()).unwrap().settings;
        assert_eq!(read, loaded.settings);
    }
}
