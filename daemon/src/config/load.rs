//! From arguments and a file to checked [`Settings`].

use std::io::{Error, ErrorKind};
use std::path::Path;

use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use toml::{Table, Value};

use super::arguments::Arguments;
use super::bounds;
use super::faults::{ConfigError, Fault, Reach, remedy};
use super::hosts::HostRule;
use super::proxies;
use super::settings::{ProxyProtocolChoice, Settings, SinkChoice};
use super::target::TargetRule;
use super::token::Token;

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
    bounds::check(&settings, &mut faults);
    check_combinations(&settings, &mut faults);
    // A daemon that runs keeps the directories that it has; whether it may use others, a restart tells.
    let is_hidden = |error: &Error| reach == Reach::Sandbox && error.kind() == ErrorKind::PermissionDenied;
    check_paths(&settings, reach, is_hidden, &mut faults);
    if let Some(Err(reason)) = settings.token_file.as_deref().map(|path| Token::read(path, reach)) {
        faults.push(Fault::new("token_file", reason));
    }
    // What a new one takes, the sandbox has given up; a restart tells.
    if reach == Reach::Everything {
        check_congestion_control(&settings, &mut faults);
    }
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
    if settings.uploads && settings.token_file.is_none() {
        check_unguarded_uploads(settings, faults);
    }
    if settings.data_listen == settings.control_listen && settings.data_listen.port() != 0 {
        faults.push(Fault::new("control_listen", "the same address and port as data_listen"));
    }
    for host in &settings.hosts_allowed {
        if let Err(reason) = HostRule::parse(host) {
            faults.push(Fault::new("hosts_allowed", reason));
        }
    }
    for proxy in &settings.trusted_proxies {
        if let Err(reason) = proxies::parse(proxy) {
            faults.push(Fault::new("trusted_proxies", reason));
        }
    }
    if settings.proxy_protocol == ProxyProtocolChoice::Required && settings.trusted_proxies.is_empty() {
        let reason =
            "required of everybody and believed of nobody, so that nobody could connect: set trusted_proxies";
        faults.push(Fault::new("proxy_protocol", reason));
    }
    for rule in &settings.targets_allowed {
        if let Err(reason) = TargetRule::parse(rule) {
            faults.push(Fault::new("targets_allowed", reason));
        }
    }
}

/// Without a token whoever reaches the data plane may write: that must be this host alone, and not by a proxy on it.
fn check_unguarded_uploads(settings: &Settings, faults: &mut Vec<Fault>) {
    if !settings.data_is_local() {
        let reason = format!(
            "data_listen {} can be reached from other hosts: set token_file, or listen on 127.0.0.1",
            settings.data_listen
        );
        faults.push(Fault::new("uploads", reason));
    } else if settings.opens_to_proxies() {
        let reason = "hosts_allowed has names of a proxy, whose clients all look like this host: set token_file, or \
                      leave uploads or hosts_allowed away";
        faults.push(Fault::new("uploads", reason));
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

/// Asks the kernel, which may load it for the asking (tcp(7), TCP_CONGESTION).
fn check_congestion_control(settings: &Settings, faults: &mut Vec<Fault>) {
    let Some(name) = &settings.congestion_control else { return };
    let domain = Domain::for_address(settings.data_listen);
    // Whoever can't even make a socket hears of that where one is bound.
    let Ok(socket) = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)) else { return };
    let Err(error) = socket.set_tcp_congestion(name.as_bytes()) else { return };
    let remedy = match error.kind() {
        ErrorKind::NotFound => {
            "there is none of this name: net.ipv4.tcp_available_congestion_control lists them"
        }
        ErrorKind::PermissionDenied => {
            "only those in net.ipv4.tcp_allowed_congestion_control go without CAP_NET_ADMIN"
        }
        _ => "name another",
    };
    faults.push(Fault::new("congestion_control", format!("{name:?}: {error}: {remedy}")));
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
