//! Loading: arguments and a file become checked [`Settings`].

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use super::arguments::Arguments;
use super::choices::PlaneChoice;
use super::faults::{ConfigError, Fault, Reach};
use super::file::{self, Content};
use super::listen_address::ListenAddress;
use super::origin::{Found, Origin, Origins};
use super::setting::Declared;
use super::settings::Settings;
use super::token::Token;
use super::{check, check_shares};

/// Checked settings, and their origins.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The origin of each key's value, as far as it isn't the default.
    pub origins: Origins,
    /// The file that was read; None where there is none.
    pub file: Option<PathBuf>,
    /// Warnings about values that are valid and still can't be meant.
    pub warnings: Vec<Fault>,
}

/// Reads the file, lays variables and flags over it, and checks the whole.
pub fn load(arguments: &Arguments) -> Result<Loaded, ConfigError> {
    load_adjusted(arguments, Reach::Everything, |_| Ok(()))
}

/// Loads as [`load`] does, in the part of the file system that `reach` shows; `adjust` changes the settings by
/// other knowledge before they are checked.
pub fn load_adjusted(
    arguments: &Arguments,
    reach: Reach,
    adjust: impl FnOnce(&mut Settings) -> Result<(), Fault>,
) -> Result<Loaded, ConfigError> {
    let path = arguments.config_file();
    let text = file::read(path, reach, arguments.config.is_some())?;
    let content = text.as_deref().map(|text| file::parse(path, text, &Settings::declared())).transpose()?;
    let Content { mut found, mut tables, mut faults, warnings } = content.unwrap_or_default();
    found.extend(arguments.found.iter().cloned());
    let (mut settings, own) = laid_over(found, &mut faults);
    leave_out_defaults(&mut settings, &own);
    let mut origins = Origins { own, shares: tables.remove("share").unwrap_or_default() };
    let given = settings.clone();
    if let Err(fault) = adjust(&mut settings) {
        faults.push(fault);
    }
    // A changed value has another origin than the former one.
    for field in Settings::FIELDS.iter().filter(|field| (field.get)(&given) != (field.get)(&settings)) {
        origins.own.remove(field.setting.key);
    }
    check_all(&settings, &origins, reach, &mut faults);
    if !faults.is_empty() {
        return Err(ConfigError::Faults(faults));
    }
    let warnings = arguments.warnings.iter().cloned().chain(warnings).collect();
    Ok(Loaded { settings, origins, file: text.is_some().then(|| path.to_owned()), warnings })
}

/// Checks once more that root and spool can be read, now in the part of the file system that `reach` shows.
pub fn check_directories(settings: &Settings, reach: Reach) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    check::directories(settings, &Origins::default(), reach, |_| false, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults(faults)) }
}

/// Lays what was found over the defaults: of each setting the last. A value that isn't in force may be wrong.
fn laid_over(found: Vec<Found>, faults: &mut Vec<Fault>) -> (Settings, BTreeMap<&'static str, Origin>) {
    let in_force: BTreeMap<&str, Found> = found.into_iter().map(|found| (found.setting.key, found)).collect();
    let (mut settings, mut origins) = (Settings::default(), BTreeMap::new());
    for field in Settings::FIELDS {
        let Some(Found { setting, origin, value }) = in_force.get(field.setting.key) else { continue };
        let wrong = match value {
            Ok(value) if (field.put)(&mut settings, value) => setting.kind.check(value),
            Ok(value) => vec![format!("{value}: {}", setting.kind.expected())],
            Err(reason) => vec![reason.clone()],
        };
        faults.extend(wrong.into_iter().map(|reason| Fault::new(setting.key, reason).from(Some(origin))));
        origins.insert(setting.key, origin.clone());
    }
    (settings, origins)
}

/// Takes away the default address of a plane that has a `[[listen]]`: who names where to listen means nowhere else.
fn leave_out_defaults(settings: &mut Settings, origins: &BTreeMap<&'static str, Origin>) {
    let has = |plane| settings.listen.iter().any(|listen| listen.plane == plane);
    let (data, control) = (has(PlaneChoice::Data), has(PlaneChoice::Control));
    if data && !origins.contains_key("data_listen") {
        settings.data_listen = ListenAddress::None;
    }
    if control && !origins.contains_key("control_listen") {
        settings.control_listen = ListenAddress::None;
    }
}

/// Finds the faults of the settings as a whole.
fn check_all(settings: &Settings, origins: &Origins, reach: Reach, faults: &mut Vec<Fault>) {
    let mut found = Vec::new();
    check::combinations(settings, &mut found);
    check_shares::combinations(settings, origins, &mut found);
    // A running daemon keeps the directories that it has; only a restart tells whether it may use others.
    let is_hidden = |error: &Error| reach == Reach::Sandbox && error.kind() == ErrorKind::PermissionDenied;
    check::directories(settings, origins, reach, is_hidden, &mut found);
    if let Some(Err(reason)) = settings.token_file.as_deref().map(|path| Token::read(path, reach)) {
        found.push(Fault::new("token_file", reason));
    }
    // The sandbox has given up the right to take another one; only a restart tells.
    if reach == Reach::Everything {
        check::congestion_control(settings, &mut found);
    }
    let with_origin = |fault: Fault| match fault.origin {
        Some(_) => fault,
        None => {
            let origin = origins.of(&fault.setting);
            fault.from(origin)
        }
    };
    // An address that couldn't be read has been told, and only looks as if it were missing.
    let is_told = |fault: &Fault| {
        fault.setting == "listen.address" && faults.iter().any(|told| told.setting == fault.setting)
    };
    let new: Vec<Fault> = found.into_iter().filter(|fault| !is_told(fault)).map(with_origin).collect();
    faults.extend(new);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::super::choices::{Durability, EngineChoice};
    use super::super::kind::{Kind, Range};
    use super::super::lifetime::Lifetime;
    use super::{Arguments, ConfigError, Declared, Loaded, Settings, load};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load_with(text: &str, flags: &[&str]) -> Result<Settings, ConfigError> {
        let file = file(text);
        let path = file.path().to_str().unwrap().to_owned();
        let all = ["streamd", "--config", &path].into_iter().chain(flags.iter().copied());
        load(&Arguments::read(all, []).unwrap()).map(|Loaded { settings, .. }| settings)
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(load_with("", &[]).unwrap(), Settings::default());
    }

    #[test]
    fn a_flag_overrides_the_file() {
        let text = "engine = \"copy\"\nstreams_max = 3\nframe_bytes_max = \"1GiB\"\n";
        let settings = load_with(text, &["--engine", "splice"]).unwrap();
        assert_eq!(settings.engine, EngineChoice::Splice);
        assert_eq!(settings.streams_max, 3);
        assert_eq!(settings.frame_bytes_max, 1 << 30);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let text = "colour = 1\nengine = \"warp\"\nworkers = 0\nhead_timeout_ms = 0\nsink = \"store\"\n\
                    data_listen = \"1.2.3.4:8081\"\ncontrol_listen = \"1.2.3.4:8081\"\n\
                    targets_allowed = [\"nowhere\"]\nroot = \"/nonexistent\"\n\
                    hosts_allowed = [\"a:80\"]\ntoken_file = \"/nonexistent\"\n\
                    congestion_control = \"nosuch\"\n";
        let message = load_with(text, &[]).unwrap_err().to_string();
        for setting in [
            "colour",
            "hosts_allowed",
            "engine",
            "workers",
            "head_timeout_ms",
            "spool",
            "control_listen",
            "targets_allowed",
            "root",
            "token_file",
            "congestion_control",
        ] {
            let reported = message.lines().any(|line| line.starts_with(&format!("{setting}: ")));
            assert!(reported, "{setting} is missing in:\n{message}");
        }
        assert_eq!(message.lines().count(), 11, "{message}");
    }

    fn faults(text: &str, flags: &[&str]) -> Vec<String> {
        match load_with(text, flags) {
            Ok(settings) => panic!("{text:?} {flags:?} gave {settings:?}"),
            Err(error) => error.to_string().lines().map(without_origin).collect(),
        }
    }

    /// Cuts off the origin, which stands in parentheses at the end.
    fn without_origin(line: &str) -> String {
        let is_origin = |(_, origin): &(&str, &str)| origin.starts_with(['-', '/']);
        line.rsplit_once(" (").filter(is_origin).map_or(line, |(fault, _)| fault).to_owned()
    }

    #[test]
    fn settings_of_uploads_are_read() {
        let text = "uploads = true\ncreate_dirs = true\ndurability = \"none\"\npartial_ttl = \"90m\"\n\
                    upload_bytes_max = \"5GB\"\nuploads_max = 7\nuploads_per_destination_max = 3\n\
                    min_free_bytes = \"0\"\ndirect_bytes_min = \"1MiB\"\nroot = \"/\"\n\
                    data_listen = \"127.0.0.1:8080\"\n";
        let settings = load_with(text, &["--partial-ttl", "1h 30s", "--uploads-max=8"]).unwrap();
        let expected = Settings {
            uploads: true,
            create_dirs: true,
            durability: Durability::None,
            partial_ttl: Lifetime(Duration::from_secs(3630)),
            upload_bytes_max: 5_000_000_000,
            uploads_max: 8,
            uploads_per_destination_max: 3,
            direct_bytes_min: 1 << 20,
            min_free_bytes: 0,
            root: Some("/".into()),
            data_listen: "127.0.0.1:8080".parse().unwrap(),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(load_with("partial_ttl = \"24h\"", &[]).unwrap(), Settings::default());
        for span in ["1m", "30days"] {
            assert!(load_with(&format!("partial_ttl = {span:?}"), &[]).is_ok(), "{span}");
        }
    }

    #[test]
    fn limits_of_uploads_have_limits() {
        let table = [
            ("uploads_max = 0", "uploads_max: 0 is outside 1 to 65536"),
            ("uploads_max = 65537", "uploads_max: 65537 is outside 1 to 65536"),
            ("uploads_per_destination_max = 0", "uploads_per_destination_max: 0 is outside 1 to 65536"),
            ("upload_bytes_max = 0", "upload_bytes_max: 0 is outside 1 to 999999999999999 (10^15 - 1)"),
            (
                "upload_bytes_max = \"1PB\"",
                "upload_bytes_max: 1PB is outside 1 to 999999999999999 (10^15 - 1)",
            ),
            ("partial_ttl = \"59s\"", "partial_ttl: 59s is outside 1m to 30days"),
            ("partial_ttl = \"31days\"", "partial_ttl: 1month 13h 26m 24s is outside 1m to 30days"),
            (
                "partial_ttl = \"90\"",
                "partial_ttl: \"90\": expected a time with its unit, as 90s, 24h or 7days",
            ),
            ("partial_ttl = 90", "partial_ttl: 90: expected a time with its unit, as 90s, 24h or 7days"),
            ("durability = \"hope\"", "durability: \"hope\": expected one of fsync, none"),
        ];
        for (text, expected) in table {
            assert_eq!(faults(text, &[]), [expected], "{text}");
        }
    }

    #[test]
    fn uploads_need_a_place_and_a_guard() {
        let no_root = "uploads: there is no directory to put files into: set root";
        let no_token = "uploads: data_listen 0.0.0.0:8080 can be reached from other hosts: set token_file, or \
                        listen on 127.0.0.1";
        assert_eq!(faults("", &["--uploads"]), [no_root, no_token]);
        assert_eq!(faults("root = \"/\"", &["--uploads"]), [no_token]);
        assert_eq!(faults("data_listen = \"[::1]:8080\"", &["--uploads"]), [no_root]);
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        secret.write_all(b"secret").unwrap();
        let token = &*format!("--token-file={}", secret.path().display());
        let local = ["--uploads", "--root=/", "--data-listen=127.0.0.1:8080"];
        for hosts in ["*", "files.example", "192.0.2.1", "localhost,box"] {
            let flags = [&local[..], &["--hosts-allowed", hosts]].concat();
            let found = faults("", &flags);
            assert!(found[0].starts_with("uploads: hosts_allowed has names of a proxy"), "{found:?}");
            assert!(found[0].contains("set token_file") && found.len() == 1, "{found:?}");
            assert!(load_with("", &[&flags[..], &[token]].concat()).is_ok(), "{hosts}");
        }
        assert!(load_with("", &[&local[..], &["--hosts-allowed=localhost,127.0.0.2"]].concat()).is_ok());
        for flags in [
            local,
            ["--uploads", "--root=/", "--data-listen=[::1]:8080"],
            ["--uploads", "--root=/", token],
            ["--uploads=false", "--durability=none", "--create-dirs"],
        ] {
            assert!(load_with("", &flags).is_ok(), "{flags:?}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let arguments = Arguments::read(["streamd", "--config", "/nonexistent.toml"], []).unwrap();
        let error = load(&arguments).unwrap_err();
        let expected =
            "/nonexistent.toml: No such file or directory (os error 2): create it, or name another";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn each_number_may_be_what_is_said_and_nothing_else() {
        let mut count = 0;
        for setting in Settings::declared() {
            let (Kind::Count(range) | Kind::Bytes(range) | Kind::Milliseconds(range) | Kind::Span(range)) =
                setting.kind
            else {
                continue;
            };
            let Range { min, max } = range;
            let unit = if let Kind::Span(_) = setting.kind { "s" } else { "" };
            let value =
                |number: u64| format!("{} = {}", setting.key, quoted(&format!("{number}{unit}"), unit));
            for good in [min, max] {
                assert!(load_with(&value(good), &[]).is_ok(), "{}", value(good));
            }
            let above = (max < i64::MAX.unsigned_abs()).then(|| max + 1);
            for bad in min.checked_sub(1).into_iter().chain(above) {
                let outside = format!(" is outside {}", setting.kind.range().unwrap());
                let found = faults(&value(bad), &[]);
                assert!(found.len() == 1 && found[0].ends_with(&outside), "{}: {found:?}", value(bad));
            }
            count += 1;
        }
        assert_eq!(count, 34);
    }

    fn quoted(text: &str, unit: &str) -> String {
        if unit.is_empty() { text.to_owned() } else { format!("{text:?}") }
    }

    #[test]
    fn times_take_a_unit_and_are_milliseconds_without_one() {
        for (text, expected) in [
            ("10000", 10_000),
            ("\"10000\"", 10_000),
            ("\"10s\"", 10_000),
            ("\"500ms\"", 500),
            ("\"5m\"", 300_000),
        ] {
            let settings = load_with(&format!("head_timeout_ms = {text}"), &[]).unwrap();
            assert_eq!(settings.head_timeout_ms, expected, "{text}");
            let flag = format!("--head-timeout-ms={}", text.trim_matches('"'));
            assert_eq!(load_with("", &[&flag]).unwrap().head_timeout_ms, expected, "{flag}");
        }
        for text in ["\"soon\"", "-1", "1.5", "\"1us\"", "\"\"", "true"] {
            let expected = "expected milliseconds or a time, as 10000, 500ms, 10s or 5m";
            let found = faults(&format!("head_timeout_ms = {text}"), &[]);
            assert_eq!(found, [format!("head_timeout_ms: {text}: {expected}")]);
        }
        assert_eq!(
            faults("head_timeout_ms = \"2days\"", &[]),
            ["head_timeout_ms: 172800000 is outside 1 to 86400000 ms"]
        );
    }

    #[test]
    fn what_can_not_be_read_is_answered_with_an_example() {
        for (text, expected) in [
            (
                "data_listen = \"localhost\"",
                "expected ADDR:PORT or unix:PATH, as 0.0.0.0:8080, [::]:8080 or unix:/run/streamd/data.sock",
            ),
            ("workers = \"4\"", "expected a whole number, as 64"),
            ("workers = -1", "expected a whole number, as 64"),
            ("listing = \"true\"", "expected true or false"),
            ("frame_bytes_max = \"1 parsec\"", "expected a number of bytes, as 169, 64MiB or 1GB"),
            ("root = 5", "expected a directory, as /srv/files"),
            ("token_file = \"\"", "expected a file, as /etc/streamd/token"),
            ("congestion_control = 1", "expected a name, as cubic"),
            ("engine = \"warp\"", "expected one of auto, sendfile, splice, copy"),
            ("targets_allowed = \"a:1\"", "expected a list of HOST:PORT, as [\"10.0.0.0/8:8080\"]"),
            ("hosts_allowed = [1]", "expected a list of HOST, as [\"files.example\"]"),
        ] {
            let (key, value) = text.split_once(" = ").unwrap();
            assert_eq!(faults(text, &[]), [format!("{key}: {value}: {expected}")]);
        }
    }

    #[test]
    fn a_table_of_a_plane_takes_the_place_of_its_default_address_and_not_of_a_set_one() {
        let text = "[[listen]]\naddress = \"unix:/run/data.sock\"\nmode = \"0666\"\n";
        let settings = load_with(text, &[]).unwrap();
        assert!(settings.data_listen.is_none());
        assert_eq!(settings.control_listen, Settings::default().control_listen);
        let addresses = |settings: &Settings| {
            let addresses =
                settings.listeners().into_iter().map(|listen| listen.address.unwrap().to_string());
            addresses.collect::<Vec<_>>()
        };
        assert_eq!(addresses(&settings), ["127.0.0.1:8081", "unix:/run/data.sock"]);
        let set = load_with(text, &["--data-listen=127.0.0.1:9"]).unwrap();
        assert_eq!(addresses(&set), ["127.0.0.1:9", "127.0.0.1:8081", "unix:/run/data.sock"]);
        for (text, expected) in [
            (
                "[[listen]]\naddress = \"unix:run\"",
                "listen.address: \"unix:run\": expected the absolute path of a",
            ),
            ("[[listen]]\nmode = 660\naddress = \"unix:/a\"", "listen.mode: 660: expected MODE, as 0660"),
            ("[[listen]]\naddress = \"unix:/a\"\nmode = \"9\"", "listen.mode: \"9\" is no mode"),
            (
                "[[listen]]\naddress = \"unix:/a\"\nplane = \"files\"",
                "listen.plane: \"files\": expected one of data,",
            ),
        ] {
            let found = faults(text, &[]);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_in_force_may_be_wrong() {
        let settings =
            load_with("engine = \"warp\"\nworkers = 0\n", &["--engine=copy", "--workers=3"]).unwrap();
        assert_eq!((settings.engine, settings.workers), (EngineChoice::Copy, 3));
    }

    #[test]
    fn a_fault_says_where_its_value_came_from() {
        let file = file("# first\nidle_timeout = 1\n\nhead_timeout_ms = 0\n");
        let path = file.path().to_str().unwrap();
        let variables = [("STREAMD_WORKERS".into(), "0".into())];
        let words = ["streamd", "--config", path, "--streams-max", "0"];
        let error = load(&Arguments::read(words, variables).unwrap()).unwrap_err().to_string();
        let mut found: Vec<&str> = error.lines().collect();
        found.sort_unstable();
        let expected = [
            format!("head_timeout_ms: 0 is outside 1 to 86400000 ms ({path}:4)"),
            format!("idle_timeout: unknown setting: did you mean idle_timeout_ms? ({path}:2)"),
            "streams_max: 0 is outside 1 to 65536 (--streams-max)".to_owned(),
            "workers: 0 is outside 1 to 1024 (STREAMD_WORKERS)".to_owned(),
        ];
        assert_eq!(found, expected);
    }
}
