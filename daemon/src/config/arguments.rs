//! The command line and the variables: each setting is a flag and a `STREAMD_*` variable.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use toml::Value;

use super::faults::Fault;
use super::kind::Kind;
use super::origin::{Found, Origin};
use super::setting::{Change, Declared, Setting, flag, renamed};
use super::settings::Settings;
use super::variables;

/// The configuration file that is read where no `--config` names another, if it exists.
pub const CONFIG_FILE_DEFAULT: &str = "/etc/streamd/streamd.toml";

const ABOUT: &str = "\
Streams files and byte streams over TCP: HTTP/1.1 and length-prefixed frames on the data port, health, streams and \
metrics on the control port.";

const MORE: &str = "\
A setting is a flag, a variable (STREAMD_ and the name in capitals) and a key of the TOML file (the name with _); the \
flag wins over the variable, the variable over the file. Byte counts take a suffix (64MiB, 1GB), times a unit (500ms, \
10s, 5m) or are milliseconds. Settings marked (reload) are changed in a running daemon by SIGHUP.";

const EXIT_CODES: &str = "Exit codes: 0 done, 1 runtime failure, 2 usage, 78 bad configuration.";

/// The content of the command line and the variables.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The configuration file, if one is named.
    pub config: Option<PathBuf>,
    /// Whether to check everything and start nothing.
    pub check: bool,
    /// Whether a check refuses what is only warned of.
    pub strict: bool,
    /// The path of which a check says what decides about it.
    pub path: Option<String>,
    /// Whether to print the settings in force.
    pub print_config: bool,
    /// The settings that were found; later ones win.
    pub(super) found: Vec<Found>,
    /// Warnings of unknown and of former names.
    pub(super) warnings: Vec<Fault>,
}

impl Arguments {
    /// Reads the process's arguments and variables. Prints help, version or a usage error and ends the process
    /// (0 or 2) where they say so.
    pub fn from_process() -> Arguments {
        Arguments::read(std::env::args_os(), std::env::vars_os()).unwrap_or_else(|error| error.exit())
    }

    /// Reads words, the program's name first, and variables.
    pub fn read(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Arguments, clap::Error> {
        read(words, variables, &Settings::declared())
    }

    /// Returns the file that settings are read from, if it exists.
    pub fn config_file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG_FILE_DEFAULT))
    }

    /// Returns the command line, for programs that describe it. Nothing in it depends on the host.
    pub fn command() -> Command {
        command(&Settings::declared())
    }
}

fn read(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    settings: &[&'static Setting],
) -> Result<Arguments, clap::Error> {
    let mut command = command(settings);
    let matches = command.try_get_matches_from_mut(words)?;
    let variables = variables::read(variables, settings);
    let (flags, mut warnings) = flags(&matches, settings);
    let is_by_flag = |found: &Found| flags.iter().any(|flag| flag.setting.key == found.setting.key);
    let of_variables = variables.found.into_iter().filter(|found| !is_by_flag(found));
    let of_variables: Vec<Found> = of_variables.collect();
    refuse_unreadable(&mut command, &of_variables)?;
    warnings.extend(variables.warnings);
    let is = |name| matches.get_flag(name);
    let config = matches.get_one::<PathBuf>("config").cloned();
    Ok(Arguments {
        config: config.or_else(|| variables.config.map(PathBuf::from)),
        check: is("check"),
        strict: is("strict"),
        path: matches.get_one::<String>("path").cloned(),
        print_config: is("print_config"),
        found: of_variables.into_iter().chain(flags).collect(),
        warnings,
    })
}

fn read_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/');
    is_path.then(|| text.to_owned()).ok_or_else(|| "expected a path as URLs have it, as /iso/x".to_owned())
}

/// Refuses variables that can't be read, as flags are refused; all of them are named.
fn refuse_unreadable(command: &mut Command, variables: &[Found]) -> Result<(), clap::Error> {
    let wrong = variables.iter().filter_map(|found| {
        let reason = found.value.as_ref().err()?;
        Some(format!("invalid value for the variable {}: {reason}", found.origin))
    });
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(command.error(ErrorKind::ValueValidation, wrong.join("\n       ")))
    }
}

/// Returns the settings of the command line, and warnings of former names.
fn flags(matches: &ArgMatches, settings: &[&'static Setting]) -> (Vec<Found>, Vec<Fault>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for setting in settings.iter().filter(|setting| !setting.is_of_the_file_alone()) {
        let names = [setting.former_key, setting.place, Some(setting.key)];
        for name in names.into_iter().flatten() {
            if matches.value_source(name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let is_place = Some(name) == setting.place;
            let origin = if is_place { name.to_owned() } else { format!("--{}", flag(name)) };
            if Some(name) == setting.former_key {
                warnings.push(Fault::new(&origin, renamed(&format!("--{}", setting.flag()), false)));
            }
            if let Some(value) = value(matches, name, setting.kind) {
                found.push(Found { setting, origin: Origin::Flag(origin), value: Ok(value) });
            }
        }
    }
    (found, warnings)
}

fn value(matches: &ArgMatches, name: &str, kind: Kind) -> Option<Value> {
    if let Kind::List { .. } = kind {
        let entries = matches.get_many::<String>(name)?;
        return Some(Value::Array(entries.map(|entry| entry.as_str().into()).collect()));
    }
    matches.get_one::<Value>(name).cloned()
}

fn command(settings: &[&'static Setting]) -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(flag(name)).action(ArgAction::SetTrue).help(help)
    };
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .value_parser(ValueParser::path_buf())
        .help("Other than /etc/streamd/streamd.toml")
        .long_help("TOML file; /etc/streamd/streamd.toml is read if present [env: STREAMD_CONFIG]");
    let check = switch("check", "Check configuration and host").long_help(
        "Check the configuration and the host, bind nothing, and say what is missing and what is open to whom",
    );
    let strict = switch("strict", "With --check: refuse what is only warned of")
        .requires("check")
        .hide_short_help(true);
    let path = Arg::new("path")
        .long("path")
        .value_name("PATH")
        .requires("check")
        .hide_short_help(true)
        .value_parser(read_path)
        .help("With --check: say where this path of a URL leads, which share decides, and what is in force there");
    let print_config = switch("print_config", "Print the settings and their origins").long_help(
        "Print the settings in force as a TOML file that says of each where it came from, and exit",
    );
    Command::new("streamd")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(110)
        .about(ABOUT)
        .long_about(format!("{ABOUT}\n\n{MORE}"))
        .after_help(format!("All settings: streamd --help. {EXIT_CODES}"))
        .after_long_help(EXIT_CODES)
        .args(settings.iter().filter_map(|setting| Some(placed(setting, setting.place?))))
        .args([config, check, strict, path, print_config])
        .args(settings.iter().filter(|setting| !setting.is_of_the_file_alone()).flat_map(|setting| {
            let former = setting.former_key.map(|former| argument(setting, former).hide(true));
            [Some(argument(setting, setting.key)), former].into_iter().flatten()
        }))
}

/// Makes the argument `name` of a setting.
fn placed(setting: &'static Setting, name: &'static str) -> Arg {
    Arg::new(name)
        .value_name(name)
        .value_hint(ValueHint::DirPath)
        .value_parser(parser(setting.kind))
        .conflicts_with(setting.key)
        .help(format!("{}, as --{}", setting.brief.unwrap_or_default(), setting.flag()))
}

/// Makes the flag `name` of a setting.
fn argument(setting: &'static Setting, name: &'static str) -> Arg {
    let argument = Arg::new(name)
        .long(flag(name))
        .value_parser(parser(setting.kind))
        .help(short_help(setting))
        .long_help(long_help(setting))
        .hide_short_help(setting.brief.is_none());
    match setting.kind {
        Kind::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .hide_possible_values(true),
        Kind::List { entry, .. } => argument.value_name(entry).action(ArgAction::Append).value_delimiter(','),
        Kind::Choice(_) => argument.value_name(name.to_uppercase()),
        Kind::Directory(_) => argument.value_name("DIR").value_hint(ValueHint::DirPath),
        Kind::SecretFile(_) => argument.value_name("FILE").value_hint(ValueHint::FilePath),
        _ => argument.value_name(setting.kind.value_name().unwrap_or_default()),
    }
}

fn parser(kind: Kind) -> ValueParser {
    match kind {
        Kind::Switch => {
            PossibleValuesParser::new(["true", "false"]).map(|text| Value::Boolean(text == "true")).into()
        }
        Kind::Choice(choices) => PossibleValuesParser::new(choices()).map(Value::String).into(),
        // Entries are judged with their list.
        Kind::List { .. } => ValueParser::string(),
        _ => (move |text: &str| kind.parse(text)).into(),
    }
}

/// Returns the help that fits beside the flag on a screen of 80 columns, 40 characters, with the default if the
/// flag takes a value.
fn short_help(setting: &Setting) -> String {
    let Some(brief) = setting.brief else { return setting.help() };
    let default = Settings::default_text(setting).filter(|_| !matches!(setting.kind, Kind::Switch));
    default.map_or_else(|| brief.to_owned(), |default| format!("{brief} [{default}]"))
}

/// Returns the whole help: description, range and default, variable, and whether a reload changes it.
fn long_help(setting: &Setting) -> String {
    let mut text = setting.help();
    if let Some(more) = setting.more() {
        text = format!("{text}. {}", more.replace('`', "").trim_end_matches('.'));
    }
    let range = setting.kind.range().map(|range| format!(" [{range}]"));
    let default = Settings::default_text(setting).map(|default| format!(" [default: {default}]"));
    text.extend([range, default].into_iter().flatten());
    text += &format!(" [env: {}]", setting.variable());
    if setting.change == Change::Reload {
        text += " (reload)";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::kind::range;
    use super::super::setting::settings;
    use super::{Arguments, Declared, Kind, Settings, Value, read};

    settings! {
        /// A setting that had another name.
        struct Renamed {
            /// How long it takes.
            wait_ms: u64 = 1, "As short as it gets.", Kind::Milliseconds(range(1, 100)), Node, Reload
                { former_key: "patience_ms" };
        }
    }

    /// Returns values with their origins, and the warnings.
    fn of(arguments: &Arguments) -> (Vec<(Value, String)>, Vec<String>) {
        let found = arguments.found.iter();
        let found = found.map(|found| (found.value.clone().unwrap(), found.origin.to_string())).collect();
        (found, arguments.warnings.iter().map(ToString::to_string).collect())
    }

    fn renamed(flags: &[&str], variables: &[(&str, &str)]) -> (Vec<(Value, String)>, Vec<String>) {
        let words = ["streamd"].iter().chain(flags);
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        of(&read(words, variables, &Renamed::declared()).unwrap())
    }

    #[test]
    fn a_former_name_is_taken_as_a_flag_and_a_variable_with_a_warning() {
        let goes = "and this release is the last that takes the former name";
        let (found, warnings) = renamed(&["--patience-ms", "5s"], &[]);
        assert_eq!(found, [(Value::Integer(5000), "--patience-ms".to_owned())]);
        assert_eq!(warnings, [format!("--patience-ms: is called --wait-ms now, {goes}")]);
        let (found, warnings) = renamed(&[], &[("STREAMD_PATIENCE_MS", "6")]);
        assert_eq!(found, [(Value::Integer(6), "STREAMD_PATIENCE_MS".to_owned())]);
        assert_eq!(warnings, [format!("STREAMD_PATIENCE_MS: is called STREAMD_WAIT_MS now, {goes}")]);
        let (found, _) = renamed(&[], &[("STREAMD_PATIENCE_MS", "6"), ("STREAMD_WAIT_MS", "7")]);
        assert_eq!(found, [(Value::Integer(7), "STREAMD_WAIT_MS".to_owned())]);
        let (found, warnings) = renamed(&["--wait-ms", "8"], &[]);
        assert_eq!((found, warnings.len()), (vec![(Value::Integer(8), "--wait-ms".to_owned())], 0));
    }

    fn warnings(name: &str, value: &str) -> Vec<String> {
        of(&Arguments::read(["streamd"], [(name.into(), value.into())]).unwrap()).1
    }

    #[test]
    fn a_variable_that_is_none_is_warned_of_with_the_nearest_name() {
        let text = "STREAMD_WORKRES: no setting has this variable: did you mean STREAMD_WORKERS?";
        assert_eq!(warnings("STREAMD_WORKRES", "4"), [text]);
        let text =
            "STREAMD_MAX_CONNECTIONS: no setting has this variable: did you mean STREAMD_CONNECTIONS_MAX?";
        assert_eq!(warnings("STREAMD_MAX_CONNECTIONS", "4"), [text]);
        assert_eq!(warnings("STREAMD_COLOUR", "red"), ["STREAMD_COLOUR: no setting has this variable"]);
        assert_eq!(warnings("STREAMD_PORT", "8080").len(), 1);
    }

    #[test]
    fn variables_of_kubernetes_and_of_the_scripts_are_not_warned_of() {
        for (name, value) in [
            ("STREAMD_SERVICE_HOST", "10.0.0.7"),
            ("STREAMD_SERVICE_PORT", "8080"),
            ("STREAMD_SERVICE_PORT_DATA", "8080"),
            ("STREAMD_PORT", "tcp://10.0.0.7:8080"),
            ("STREAMD_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("STREAMD_PORT_8080_TCP_PROTO", "tcp"),
            ("STREAMD_PORT_8080_TCP_PORT", "8080"),
            ("STREAMD_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("STREAMD_DATA_SERVICE_HOST", "10.0.0.7"),
            ("STREAMD_DATA_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("STREAMD_CONFIG", "/x"),
            ("STREAMD_WORKERS", "4"),
            ("XSTREAMD_WORKRES", "4"),
        ] {
            assert_eq!(warnings(name, value), [] as [String; 0], "{name}");
        }
        let mut count = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts")).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            // A variable that a script takes from its caller has a default.
            for taken in text.split("${STREAMD_").skip(1) {
                let (name, rest) = taken.split_once([':', '}', '-', '%', '#', '/']).unwrap();
                if rest.starts_with('-') {
                    assert!(
                        warnings(&format!("STREAMD_{name}"), "x").is_empty(),
                        "{}: {name}",
                        path.display()
                    );
                    count += 1;
                }
            }
        }
        assert!(count > 1, "{count}");
    }

    #[test]
    fn every_variable_that_can_not_be_read_is_named() {
        let variables =
            [("STREAMD_WORKERS", "many"), ("STREAMD_DATA_LISTEN", "localhost"), ("STREAMD_ENGINE", "x")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        // A flag wins over its variable, whatever the value of that is.
        let error = Arguments::read(["streamd", "--engine", "copy"], variables).unwrap_err().to_string();
        for text in [
            "invalid value for the variable STREAMD_WORKERS: \"many\": expected a whole number, as 64",
            "STREAMD_DATA_LISTEN: \"localhost\": expected ADDR:PORT or unix:PATH, as 0.0.0.0:8080",
        ] {
            assert!(error.contains(text), "{error}");
        }
        assert!(!error.contains("ENGINE"), "{error}");
    }

    #[test]
    fn help_says_of_each_setting_its_range_variable_and_whether_a_reload_takes_it() {
        let help = Arguments::command().render_long_help().to_string();
        let options: Vec<&str> = help.split("\n      --").collect();
        for setting in Settings::declared().iter().filter(|setting| !setting.is_of_the_file_alone()) {
            let flag = setting.flag();
            let is_it =
                |option: &&&str| option.strip_prefix(&*flag).is_some_and(|rest| rest.starts_with([' ', '[']));
            let of_flag = options.iter().find(is_it).unwrap();
            let of_flag = of_flag.split_whitespace().collect::<Vec<_>>().join(" ");
            let variable = format!("[env: {}]", setting.variable());
            assert!(of_flag.contains(&variable), "{flag}: {of_flag}");
            if let Some(range) = setting.kind.range() {
                assert!(of_flag.contains(&format!("[{range}]")), "{flag}: {of_flag}");
            }
            let is_reloadable = setting.change == super::Change::Reload;
            assert_eq!(of_flag.contains(&format!("{variable} (reload)")), is_reloadable, "{flag}: {of_flag}");
        }
    }
}
