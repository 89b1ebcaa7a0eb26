//! Tests of the command line: help, versions, faults, and which setting wins.

use std::path::Path;
use std::process::Output;

use streamd::config::{Arguments, Declared, Settings};

use crate::harness::{Fixture, TEST_FLAGS, command, run_streamd};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Returns the settings that `streamd` would run with.
fn printed(output: &Output) -> toml::Table {
    assert_eq!(code(output), 0, "{}", stderr(output));
    stdout(output).parse().unwrap()
}

/// Makes a configuration file; its path is valid as long as the fixture.
fn file(text: &str) -> (Fixture, String) {
    let fixture = Fixture::new();
    let path = fixture.write("streamd.toml", text.as_bytes()).to_str().unwrap().to_owned();
    (fixture, path)
}

/// Returns every flag by its long name, without help and version.
fn long_flags() -> Vec<String> {
    let command = Arguments::command();
    let flags: Vec<String> =
        command.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect();
    assert!(flags.len() > 25, "{flags:?}");
    flags
}

#[test]
fn help_shows_each_setting_with_its_variable_and_default() {
    let output = run_streamd(&["--help"]);
    assert_eq!(code(&output), 0);
    let help = stdout(&output);
    let options: Vec<&str> = help.split("\n      --").collect();
    let of = |flag: &str| {
        let is_it = |option: &&&str| {
            let rest = option.strip_prefix(flag);
            rest.is_some_and(|rest| rest.starts_with([' ', '\n', '[', '=']))
        };
        *options.iter().find(is_it).unwrap_or_else(|| panic!("no --{flag}:\n{help}"))
    };
    for flag in long_flags() {
        let text = of(&flag);
        let key = flag.replace('-', "_");
        let setting = Settings::declared().into_iter().find(|setting| setting.key == key);
        let Some(setting) = setting else { continue };
        // Lines may end at any blank, so all white space is made one.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("[env: STREAMD_{}]", key.to_uppercase())), "{flag}: {text}");
        let default = Settings::default_text(setting).map(|default| format!("[default: {default}]"));
        assert_eq!(default.is_some(), text.contains("[default: "), "{flag}: {text}");
        assert!(default.is_none_or(|default| text.contains(&default)), "{flag}: {text}");
    }
    assert!(help.contains("[default: 127.0.0.1:8081]"), "{help}");
    assert!(help.contains("Exit codes: 0 done, 1 runtime failure, 2 usage, 78 bad configuration."), "{help}");
}

#[test]
fn the_short_help_fits_a_screen_and_points_to_the_whole() {
    let output = command(&["-h"]).env("COLUMNS", "80").output().unwrap();
    let help = stdout(&output);
    let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(help.lines().count() <= 24 && widest <= 80, "{widest} columns:\n{help}");
    for text in ["[DIR]", "--root <DIR>", "--token-file", "--check", "[0.0.0.0:8080]", "streamd --help"] {
        assert!(help.contains(text), "{text}:\n{help}");
    }
}

#[test]
fn every_setting_but_tables_is_a_flag_a_variable_and_a_key() {
    let flags = long_flags();
    let (_fixture, path) = file("");
    for setting in Settings::declared() {
        if setting.is_of_the_file_alone() {
            assert!(!flags.contains(&setting.key.replace('_', "-")), "{} has a flag", setting.key);
            continue;
        }
        assert!(flags.contains(&setting.key.replace('_', "-")), "{} has no flag", setting.key);
        let variable = format!("STREAMD_{}", setting.key.to_uppercase());
        let output = command(&["--config", &path, "--print-config"]).env(&variable, "").output().unwrap();
        // Each variable refuses the empty text, and the error shows by its name that it was read.
        assert_ne!(code(&output), 0, "{variable}");
        assert!(stderr(&output).contains(&variable), "{variable}: {}", stderr(&output));
    }
}

#[test]
fn readme_names_every_flag() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (_, options) = readme.split_once("\n## Options\n").expect("a section of options");
    let (options, _) = options.split_once("\n## ").unwrap_or((options, ""));
    let missing: Vec<String> = long_flags()
        .into_iter()
        .filter(|flag| {
            let is_named = |row: &str| {
                let name = row.strip_prefix("| `--").and_then(|rest| rest.split([' ', '`']).next());
                name == Some(flag)
            };
            !options.lines().any(is_named)
        })
        .collect();
    assert_eq!(missing, [] as [String; 0], "flags without a row in README.md's table");
}

#[test]
fn version_and_usage() {
    let output = run_streamd(&["--version"]);
    assert_eq!((code(&output), stdout(&output)), (0, concat!("streamd ", env!("CARGO_PKG_VERSION"), "\n")));
    for (arguments, text) in [
        (&["--colour"][..], "unexpected argument '--colour'"),
        (&["directory", "another"], "unexpected argument 'another'"),
        (&["directory", "--root", "another"], "the argument '[DIR]' cannot be used with '--root <DIR>'"),
        (&["--strict"], "--check"),
        (&["--workers"], "a value is required for '--workers <N>'"),
        (&["--workers", "many"], "invalid value 'many' for '--workers <N>': expected a whole number, as 64"),
        (&["--engine", "warp"], "[possible values: auto, sendfile, splice, copy]"),
        (&["--frame-bytes-max", "1 parsec"], "expected a number of bytes, as 169, 64MiB or 1GB"),
        (
            &["--data-listen", "localhost"],
            "invalid value 'localhost' for '--data-listen <ADDR:PORT>': expected ADDR:PORT or unix:PATH",
        ),
        (&["--partial-ttl", "90"], "expected a time with its unit, as 90s, 24h or 7days"),
        (&["--idle-timeout-ms", "soon"], "expected milliseconds or a time, as 10000, 500ms, 10s or 5m"),
        (&["--durability", "hope"], "[possible values: fsync, none]"),
    ] {
        let output = run_streamd(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn all_faults_of_a_configuration_are_reported_at_once() {
    let text = "colour = 1\nengine = \"warp\"\nworkers = 0\nroot = \"/nonexistent\"\nsink = \"store\"\n\
                control_listen = \"0.0.0.0:0\"\n";
    let (_fixture, path) = file(text);
    for mode in [&["--check"][..], &["--print-config"], &[]] {
        let output = run_streamd(&[&["--config", &path], mode].concat());
        assert_eq!(code(&output), 78, "{mode:?}");
        let mut faults: Vec<&str> = stderr(&output).lines().collect();
        faults.sort_unstable();
        let expected = [
            format!("streamd: colour: unknown setting: streamd --help lists them all ({path}:1)"),
            format!(
                "streamd: control_listen: 0.0.0.0:0 can be reached from other hosts: set token_file, or listen on \
                 127.0.0.1 ({path}:6)"
            ),
            format!("streamd: engine: \"warp\": expected one of auto, sendfile, splice, copy ({path}:2)"),
            format!(
                "streamd: root: /nonexistent: No such file or directory (os error 2): create it, or name another \
                 ({path}:4)"
            ),
            "streamd: spool: sink = \"store\" needs a directory for the frames: set spool".to_owned(),
            format!("streamd: workers: 0 is outside 1 to 1024 ({path}:3)"),
        ];
        assert_eq!(faults, expected, "{mode:?}");
    }
}

#[test]
fn files_that_can_not_be_read_are_configuration_faults() {
    let (fixture, broken) = file("workers = [\n");
    let directory = fixture.path().to_str().unwrap();
    let absent = format!("{directory}/absent");
    for (path, text) in [
        (absent.as_str(), "No such file or directory (os error 2): create it, or name another\n"),
        (directory, "Is a directory (os error 21): name a file\n"),
        (&broken, "TOML parse error at line 1"),
    ] {
        let output = run_streamd(&["--config", path]);
        assert_eq!(code(&output), 78, "{path}");
        assert!(stderr(&output).starts_with(&format!("streamd: {path}: ")), "{}", stderr(&output));
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
    let output = run_streamd(&["--token-file", &absent, "--check"]);
    assert_eq!(code(&output), 78);
    let expected = format!(
        "streamd: token_file: {absent}: No such file or directory (os error 2): create it, or name another \
         (--token-file)\n"
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn print_config_reads_back_as_the_same() {
    let (_fixture, path) = file("streams_max = 3\ntargets_allowed = [\"10.0.0.0/8:*\"]\nlisting = true\n");
    let flags = ["--frame-bytes-max", "64MiB", "--partial-ttl", "36h", "--durability", "none"];
    let first = run_streamd(&[&["--config", &path, "--print-config"], &flags[..]].concat());
    let settings = printed(&first);
    assert_eq!(settings["partial_ttl"].as_str(), Some("1day 12h"));
    assert_eq!(settings["frame_bytes_max"].as_str(), Some("64MiB"));
    let (_fixture, path) = file(stdout(&first));
    let second = run_streamd(&["--config", &path, "--print-config"]);
    assert_eq!(settings, printed(&second));
}

#[test]
fn print_config_says_where_each_value_came_from() {
    let (_fixture, path) = file("# first\nstreams_max = 3\nidle_timeout_ms = \"10s\"\n");
    let output = command(&["--config", &path, "--print-config", "--engine", "copy"])
        .env("STREAMD_LISTING", "true")
        .output()
        .unwrap();
    let text = stdout(&output);
    for (assignment, origin) in [
        ("streams_max = 3", &*format!("{path}:2")),
        ("idle_timeout_ms = 10000", &format!("{path}:3")),
        ("engine = \"copy\"", "--engine"),
        ("listing = true", "STREAMD_LISTING"),
        ("waiting_bytes_max = \"64MiB\"", "default"),
    ] {
        let is_it = |line: &str| {
            line.strip_prefix(assignment).is_some_and(|rest| rest.trim_start() == format!("# {origin}"))
        };
        assert!(text.lines().any(is_it), "{assignment} # {origin}:\n{text}");
    }
    assert!(text.contains("# root is not set\n"), "{text}");
}

#[test]
fn a_directory_alone_is_served() {
    let fixture = Fixture::new();
    let path = fixture.path().to_str().unwrap();
    let settings = printed(&run_streamd(&[path, "--print-config"]));
    assert_eq!(settings["root"].as_str(), Some(path));
    let output = command(&["--print-config", path]).env("STREAMD_ROOT", "/nonexistent").output().unwrap();
    assert_eq!(printed(&output)["root"].as_str(), Some(path), "it is a flag, and wins over the variable");
}

#[test]
fn a_variable_that_is_none_is_warned_of_and_refused_by_a_strict_check() {
    let flags = [&TEST_FLAGS[..], &["--check"]].concat();
    let with = |flags: &[&str]| command(flags).env("STREAMD_WORKRES", "4").output().unwrap();
    let warning = "STREAMD_WORKRES: no setting has this variable: did you mean STREAMD_WORKERS?\n";
    let output = with(&flags);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("               warning: {warning}")), "{}", stdout(&output));
    let output = with(&[&flags[..], &["--strict"]].concat());
    assert_eq!((code(&output), stderr(&output)), (78, &*format!("streamd: {warning}")));
    assert_eq!(stdout(&output), "");
    let of_kubernetes = [&flags[..], &["--strict"]].concat();
    let output = command(&of_kubernetes).env("STREAMD_PORT", "tcp://10.0.0.7:80").output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn a_variable_that_can_not_be_read_is_named() {
    let variables = [("STREAMD_WORKERS", "many"), ("STREAMD_DATA_LISTEN", "localhost")];
    let output = command(&["--check"]).envs(variables).output().unwrap();
    assert_eq!(code(&output), 2);
    for text in [
        "invalid value for the variable STREAMD_WORKERS: \"many\": expected a whole number, as 64",
        "invalid value for the variable STREAMD_DATA_LISTEN: \"localhost\": expected ADDR:PORT or unix:PATH",
    ] {
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
    let output = command(&["--check"]).env("STREAMD_WORKERS", "0").output().unwrap();
    let fault = "streamd: workers: 0 is outside 1 to 1024 (STREAMD_WORKERS)\n";
    assert_eq!((code(&output), stderr(&output)), (78, fault));
}

#[test]
fn check_says_what_it_read_and_warns_of_what_nobody_can_have_meant() {
    let (fixture, path) = file("listing = true\ndata_listen = \"127.0.0.1:18080\"\n");
    let token = fixture.write("token", b"secret");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (spool, token) = (fixture.path().to_str().unwrap(), token.to_str().unwrap());
    let output = run_streamd(&["--check", "--config", &path, "--token-file", token, "--spool", spool]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for line in [
        format!("file           {path}\n"),
        "root           none: HTTP answers 404\n".to_owned(),
        "listening      data 127.0.0.1:18080, control 127.0.0.1:8081\n".to_owned(),
        format!("warning: token_file: {token} can be read by every user of this host: chmod o-r {token}\n"),
        "warning: token_file: the token has 6 bytes, and fewer than 16 can be guessed: ".to_owned(),
        "warning: listing: there is no directory to list: set root\n".to_owned(),
        "warning: spool: nothing is stored there: set sink = \"store\"\n".to_owned(),
    ] {
        assert!(stdout(&output).contains(&line), "{line}:\n{}", stdout(&output));
    }
}

#[test]
fn a_flag_outranks_a_variable_and_a_variable_the_file() {
    let (_fixture, path) = file("streams_max = 3\nengine = \"copy\"\nworkers = 7\nidle_timeout_ms = 9\n");
    let output = command(&["--config", &path, "--streams-max", "1", "--print-config"])
        .env("STREAMD_STREAMS_MAX", "2")
        .env("STREAMD_ENGINE", "splice")
        .env("STREAMD_LISTING", "true")
        .env("STREAMD_TARGETS_ALLOWED", "a:1,b:2")
        .output()
        .unwrap();
    let settings = printed(&output);
    assert_eq!(settings["streams_max"].as_integer(), Some(1), "the flag");
    assert_eq!(settings["engine"].as_str(), Some("splice"), "the variable");
    assert_eq!(settings["workers"].as_integer(), Some(7), "the file");
    assert_eq!(settings["head_timeout_ms"].as_integer(), Some(10_000), "the default");
    assert_eq!(settings["listing"].as_bool(), Some(true));
    let targets: Vec<&str> =
        settings["targets_allowed"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(targets, ["a:1", "b:2"]);
    let output = command(&["--print-config"]).env("STREAMD_CONFIG", &path).output().unwrap();
    assert_eq!(printed(&output)["streams_max"].as_integer(), Some(3), "the file that a variable names");
}

#[test]
fn switches_take_a_value_or_none() {
    for (flag, key, values) in [
        ("--listing", "listing", [("--listing", true), ("--listing=true", true), ("--listing=false", false)]),
        (
            "--access-log",
            "access_log",
            [("--access-log", true), ("--access-log=true", true), ("--access-log=false", false)],
        ),
        (
            "--create-dirs",
            "create_dirs",
            [("--create-dirs", true), ("--create-dirs=true", true), ("--create-dirs=false", false)],
        ),
    ] {
        for (argument, expected) in values {
            let settings = printed(&run_streamd(&[argument, "--print-config"]));
            assert_eq!(settings[key].as_bool(), Some(expected), "{flag}: {argument}");
        }
    }
}

#[test]
fn check_shows_the_host_and_binds_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run_streamd(&["--check", "--data-listen", &address, "--control-listen", "127.0.0.1:0"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    let release = rustix::system::uname().release().to_str().unwrap().to_owned();
    for fact in [
        "configuration  good\n",
        &format!("kernel         {release}\n"),
        "io_uring       ",
        "driver         ",
        "open files     ",
        "locked memory  ",
    ] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
}

#[test]
fn a_control_plane_that_others_can_reach_needs_a_token() {
    let flags = ["--check", "--control-listen", "0.0.0.0:0"];
    let output = run_streamd(&flags);
    assert_eq!(code(&output), 78);
    assert_eq!(
        stderr(&output),
        "streamd: control_listen: 0.0.0.0:0 can be reached from other hosts: set token_file, or listen on \
         127.0.0.1 (--control-listen)\n"
    );
    let (fixture, _) = file("");
    let token_file = fixture.write("token", b"secret");
    let with_token = [&flags[..], &["--token-file", token_file.to_str().unwrap()]].concat();
    assert_eq!(code(&run_streamd(&with_token)), 0);
    assert_eq!(code(&run_streamd(&[&TEST_FLAGS[..], &["--check"]].concat())), 0);
}

#[test]
fn a_congestion_control_that_there_is_not_is_bad_configuration() {
    for flags in [&["--check"][..], &[]] {
        let output = run_streamd(&[&TEST_FLAGS[..], flags, &["--congestion-control", "nosuch"]].concat());
        assert_eq!(code(&output), 78, "{flags:?}");
        let said = stderr(&output);
        assert!(said.starts_with("streamd: congestion_control: \"nosuch\": "), "{said}");
        assert!(said.contains("tcp_available_congestion_control"), "{said}");
    }
}

#[test]
fn a_bad_token_file_does_not_hide_behind_other_faults() {
    let (_fixture, path) = file("workers = 0\n");
    let fixture = Fixture::new();
    let token = fixture.write("token", b"two words");
    let output = run_streamd(&["--config", &path, "--check", "--token-file", token.to_str().unwrap()]);
    let said = stderr(&output);
    assert_eq!((code(&output), said.lines().count()), (78, 2), "{said}");
    assert!(said.contains("workers: 0 is outside") && said.contains("more than one word"), "{said}");
}

#[test]
fn uploads_need_a_root_and_where_others_can_reach_them_a_token() {
    let fixture = Fixture::new();
    let root = fixture.path().to_str().unwrap();
    let token_file = fixture.write("token", b"secret");
    let token_file = token_file.to_str().unwrap();
    let check = |flags: &[&str]| run_streamd(&[&["--check", "--uploads"], flags].concat());
    let output = check(&["--data-listen", "127.0.0.1:0"]);
    let fault = "streamd: uploads: there is no directory to put files into: set root (--uploads)\n";
    assert_eq!((code(&output), stderr(&output)), (78, fault));
    let output = check(&["--root", root, "--data-listen", "0.0.0.0:0"]);
    let fault = "streamd: uploads: data_listen 0.0.0.0:0 can be reached from other hosts: set token_file, or listen \
                 on 127.0.0.1 (--uploads)\n";
    assert_eq!((code(&output), stderr(&output)), (78, fault));
    for flags in
        [["--root", root, "--data-listen", "127.0.0.1:0"], ["--root", root, "--token-file", token_file]]
    {
        assert_eq!(code(&check(&flags)), 0, "{flags:?}");
    }
}

#[test]
fn uploads_need_a_root_that_can_take_them() {
    let fixture = Fixture::new();
    fixture.write(".streamd-uploads", b"no directory");
    let root = fixture.path().to_str().unwrap();
    let output = run_streamd(&[&TEST_FLAGS[..], &["--uploads", "--root", root]].concat());
    let fault = format!(
        "streamd: uploads below {root}: opening .streamd-uploads, which must be a directory: Not a directory (os \
         error 20)\n"
    );
    assert_eq!(code(&output), 78);
    // A host with few descriptors gets a warning before it.
    assert!(stderr(&output).ends_with(&fault), "{}", stderr(&output));
}
