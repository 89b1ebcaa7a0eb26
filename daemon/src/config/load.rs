//! From arguments and a file to checked [`Settings`].

use std::io::{Error, ErrorKind};
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::arguments::Arguments;
use super::faults::{ConfigError, Fault, Reach, remedy};
use super::lifetime::Lifetime;
use super::settings::{
    CACHE_VALID_MS_MAX, DISK_THREADS_MAX, FRAME_BYTES_MAX_LIMIT, PARTIAL_TTL_MAX, PARTIAL_TTL_MIN,
    STREAM_BYTES_MAX_LIMIT, STREAMS_MAX_LIMIT, Settings, SinkChoice, TIMEOUT_MS_MAX, UPLOAD_BYTES_MAX_LIMIT,
    UPLOADS_MAX_LIMIT, WORKERS_MAX,
};
use super::target::TargetRule;

/// Read where no `--config` names another, if it is there.
pub const CONFIG_FILE_DEFAULT: &str = "/etc/streamd/streamd.toml";

/// Largest configuration file: settings are a few hundred bytes, and a pipe must not fill the memory.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the file, lays flags and variables over it, and checks the whole.
pub fn load(arguments: &Arguments) -> Result<Settings, ConfigError> {
    load_adjusted(arguments, Reach::Everything, |_| Ok(()))
}

/// Like [`load`], with what `reach` shows; what is known beyond flags and file is laid over both by `adjust`, before
/// the whole is checked.
pub fn load_adjusted(
    arguments: &Arguments,
    reach: Reach,
    adjust: impl FnOnce(&mut Settings) -> Result<(), Fault>,
) -> Result<Settings, ConfigError> {
    let mut faults = Vec::new();
    let path = arguments.config_file();
    let mut table = read_file(path, reach, arguments.config.is_some())?;
    match Table::try_from(&arguments.overrides) {
        Ok(overrides) => table.extend(overrides),
        Err(error) => faults.push(Fault::new("arguments", error.to_string())),
    }
    let mut settings = match Settings::deserialize(Value::Table(keep_valid(table, path, &mut faults))) {
        Ok(settings) => settings,
        Err(error) => {
            faults.push(Fault::new("configuration", error.message()));
            return Err(ConfigError::Faults(faults));
        }
    };
    if let Err(fault) = adjust(&mut settings) {
        faults.push(fault);
    }
    check_ranges(&settings, &mut faults);
    check_combinations(&settings, &mut faults);
    // A daemon that runs keeps the directories that it has; whether it may use others, a restart tells.
    let is_hidden = |error: &Error| reach == Reach::Sandbox && error.kind() == ErrorKind::PermissionDenied;
    check_paths(&settings, reach, is_hidden, &mut faults);
    if faults.is_empty() { Ok(settings) } else { Err(ConfigError::Faults(faults)) }
}

/// Checks once more that root and spool can be read, now with what `reach` shows.
pub fn check_directories(settings: &Settings, reach: Reach) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    check_paths(settings, reach, |_| false, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults(faults)) }
}

fn read_file(path: &Path, reach: Reach, is_named: bool) -> Result<Table, ConfigError> {
    let text = match read_bounded(path) {
        Ok(text) => text,
        // Only the default path may be absent: a file that somebody named must be there.
        Err(error) if !is_named && error.kind() == ErrorKind::NotFound => return Ok(Table::new()),
        Err(reason) => return Err(ConfigError::Unreadable { path: path.to_owned(), reach, reason }),
    };
    text.parse::<Table>().map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB: not a configuration file"));
    }
    Ok(text)
}

/// Reads each key by itself, so that one bad key doesn't hide the next, and keeps the good ones.
fn keep_valid(table: Table, path: &Path, faults: &mut Vec<Fault>) -> Table {
    let mut valid = Table::new();
    for (key, value) in table {
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        match Settings::deserialize(Value::Table(alone)) {
            Ok(_) => {
                valid.insert(key, value);
            }
            Err(error) if error.message().starts_with("unknown field") => {
                // Flags and variables have known names only.
                let reason = format!("unknown setting in {}; --print-config lists them all", path.display());
                faults.push(Fault::new(&key, reason));
            }
            Err(error) => faults.push(Fault::new(&key, format!("{value}: {}", error.message()))),
        }
    }
    valid
}

fn check_ranges(settings: &Settings, faults: &mut Vec<Fault>) {
    let counts = [
        ("workers", settings.workers, WORKERS_MAX),
        ("streams_max", settings.streams_max, STREAMS_MAX_LIMIT),
        ("connections_max", settings.connections_max, usize::MAX),
        ("control_connections_max", settings.control_connections_max, usize::MAX),
        ("disk_threads", settings.disk_threads, DISK_THREADS_MAX),
        ("uploads_max", settings.uploads_max, UPLOADS_MAX_LIMIT),
        ("uploads_per_destination_max", settings.uploads_per_destination_max, UPLOADS_MAX_LIMIT),
    ];
    for (setting, value, max) in counts {
        if value == 0 || value > max {
            faults.push(Fault::new(setting, format!("{value} is outside 1 to {max}")));
        }
    }
    let timeouts = [
        ("head_timeout_ms", settings.head_timeout_ms),
        ("idle_timeout_ms", settings.idle_timeout_ms),
        ("send_timeout_ms", settings.send_timeout_ms),
        ("receive_timeout_ms", settings.receive_timeout_ms),
        ("connect_timeout_ms", settings.connect_timeout_ms),
        ("target_timeout_ms", settings.target_timeout_ms),
    ];
    for (setting, value) in timeouts {
        if value == 0 || value > TIMEOUT_MS_MAX {
            faults.push(Fault::new(setting, format!("{value} is outside 1 to {TIMEOUT_MS_MAX} ms")));
        }
    }
    // 0 is allowed here: files are looked for each time.
    if settings.cache_valid_ms > CACHE_VALID_MS_MAX {
        let reason = format!("{} is above {CACHE_VALID_MS_MAX} ms", settings.cache_valid_ms);
        faults.push(Fault::new("cache_valid_ms", reason));
    }
    // And here: a drain that waits for nobody.
    if settings.drain_timeout_ms > TIMEOUT_MS_MAX {
        let reason = format!("{} is above {TIMEOUT_MS_MAX} ms", settings.drain_timeout_ms);
        faults.push(Fault::new("drain_timeout_ms", reason));
    }
    let byte_counts = [
        ("frame_bytes_max", settings.frame_bytes_max, FRAME_BYTES_MAX_LIMIT),
        ("stream_bytes_max", settings.stream_bytes_max, STREAM_BYTES_MAX_LIMIT),
    ];
    for (setting, value, max) in byte_counts {
        if value > max {
            faults.push(Fault::new(setting, format!("{value} is above {max} (2^56 - 1)")));
        }
    }
    check_upload_ranges(settings, faults);
}

fn check_upload_ranges(settings: &Settings, faults: &mut Vec<Fault>) {
    let bytes = settings.upload_bytes_max;
    if !(1..=UPLOAD_BYTES_MAX_LIMIT).contains(&bytes) {
        let reason = format!("{bytes} is outside 1 to {UPLOAD_BYTES_MAX_LIMIT} (10^15 - 1)");
        faults.push(Fault::new("upload_bytes_max", reason));
    }
    let (min, max) = (Lifetime(PARTIAL_TTL_MIN), Lifetime(PARTIAL_TTL_MAX));
    if !(min..=max).contains(&settings.partial_ttl) {
        faults.push(Fault::new("partial_ttl", format!("{} is outside {min} to {max}", settings.partial_ttl)));
    }
}

fn check_combinations(settings: &Settings, faults: &mut Vec<Fault>) {
    if settings.sink == SinkChoice::Store && settings.spool.is_none() {
        faults.push(Fault::new("spool", "sink = \"store\" needs a directory for the frames: set spool"));
    }
    if !settings.control_is_local() && settings.token_file.is_none() {
        let reason = format!(
            "{} can be reached from other hosts: set token_file, or listen on 127.0.0.1",
            settings.control_listen
        );
        faults.push(Fault::new("control_listen", reason));
    }
    if settings.uploads && settings.root.is_none() {
        faults.push(Fault::new("uploads", "there is no directory to put files into: set root"));
    }
    if settings.uploads && !settings.data_is_local() && settings.token_file.is_none() {
        let reason = format!(
            "data_listen {} can be reached from other hosts: set token_file, or listen on 127.0.0.1",
            settings.data_listen
        );
        faults.push(Fault::new("uploads", reason));
    }
    if settings.data_listen == settings.control_listen && settings.data_listen.port() != 0 {
        faults.push(Fault::new("control_listen", "the same address and port as data_listen"));
    }
    for rule in &settings.targets_allowed {
        if let Err(reason) = TargetRule::parse(rule) {
            faults.push(Fault::new("targets_allowed", reason));
        }
    }
}

fn check_paths(
    settings: &Settings,
    reach: Reach,
    is_no_fault: impl Fn(&Error) -> bool,
    faults: &mut Vec<Fault>,
) {
    for (setting, directory) in [("root", &settings.root), ("spool", &settings.spool)] {
        let Some(directory) = directory else { continue };
        let Err(error) = std::fs::read_dir(directory) else { continue };
        if is_no_fault(&error) {
            continue;
        }
        let remedy = match error.kind() {
            ErrorKind::NotADirectory => ": name a directory",
            _ => remedy(&error, reach),
        };
        faults.push(Fault::new(setting, format!("{}: {error}{remedy}", directory.display())));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use clap::Parser;

    use super::super::{Arguments, ConfigError, Durability, EngineChoice, Lifetime, Settings};
    use super::load;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load_with(text: &str, flags: &[&str]) -> Result<Settings, ConfigError> {
        let file = file(text);
        let path = file.path().to_str().unwrap().to_owned();
        let all = ["streamd", "--config", &path].into_iter().chain(flags.iter().copied());
        load(&Arguments::parse_from(all))
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
                    control_listen = \"0.0.0.0:8081\"\ntargets_allowed = [\"nowhere\"]\nroot = \"/nonexistent\"\n";
        let message = load_with(text, &[]).unwrap_err().to_string();
        for setting in [
            "colour",
            "engine",
            "workers",
            "head_timeout_ms",
            "spool",
            "control_listen",
            "targets_allowed",
            "root",
        ] {
            let reported = message.lines().any(|line| line.starts_with(&format!("{setting}: ")));
            assert!(reported, "{setting} is missing in:\n{message}");
        }
        assert_eq!(message.lines().count(), 8, "{message}");
    }

    fn faults(text: &str, flags: &[&str]) -> Vec<String> {
        match load_with(text, flags) {
            Ok(settings) => panic!("{text:?} {flags:?} gave {settings:?}"),
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        }
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
                "upload_bytes_max: 1000000000000000 is outside 1 to 999999999999999 (10^15 - 1)",
            ),
            ("partial_ttl = \"59s\"", "partial_ttl: 59s is outside 1m to 30days"),
            ("partial_ttl = \"31days\"", "partial_ttl: 1month 13h 26m 24s is outside 1m to 30days"),
            (
                "partial_ttl = \"90\"",
                "partial_ttl: \"90\": \"90\" is no time span: write a number and a unit (90s, 24h, 7days)",
            ),
            ("partial_ttl = 90", "partial_ttl: 90: invalid type: integer `90`, expected a string"),
            (
                "durability = \"hope\"",
                "durability: \"hope\": unknown variant `hope`, expected `fsync` or `none`",
            ),
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
        for flags in [
            ["--uploads", "--root=/", "--data-listen=127.0.0.1:8080"],
            ["--uploads", "--root=/", "--data-listen=[::1]:8080"],
            ["--uploads", "--root=/", "--token-file=/some/file"],
            ["--uploads=false", "--durability=none", "--create-dirs"],
        ] {
            assert!(load_with("", &flags).is_ok(), "{flags:?}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = load(&Arguments::parse_from(["streamd", "--config", "/nonexistent.toml"])).unwrap_err();
        let expected =
            "/nonexistent.toml: No such file or directory (os error 2): create it, or name another";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_print_config_prints_reads_back_as_the_same() {
        let text = toml::to_string(&Settings::default()).unwrap();
        assert_eq!(load_with(&text, &[]).unwrap(), Settings::default());
    }
}
