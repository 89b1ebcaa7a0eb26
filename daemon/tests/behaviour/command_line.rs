//! The command line: help, versions, faults, and which setting wins.

use std::path::Path;
use std::process::Output;

use clap::CommandFactory;
use streamd::config::{Arguments, Settings};

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

/// The settings that `streamd` would run with.
fn printed(output: &Output) -> toml::Table {
    assert_eq!(code(output), 0, "{}", stderr(output));
    stdout(output).parse().unwrap()
}

/// A configuration file; its path is valid as long as the fixture.
fn file(text: &str) -> (Fixture, String) {
    let fixture = Fixture::new();
    let path = fixture.write("streamd.toml", text.as_bytes()).to_str().unwrap().to_owned();
    (fixture, path)
}

/// Every flag by its long name, without help and version.
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
    let defaults = toml::Table::try_from(Settings::default()).unwrap();
    for flag in long_flags() {
        let text = of(&flag);
        let key = flag.replace('-', "_");
        if matches!(flag.as_str(), "check" | "print-config") {
            continue;
        }
        // Lines end where there is a blank.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("[env: STREAMD_{}=", key.to_uppercase())), "{flag}: {text}");
        assert_eq!(text.contains("[default: "), defaults.contains_key(&key), "{flag}: {text}");
    }
    assert!(help.contains("[default: 127.0.0.1:8081]"), "{help}");
    assert!(help.contains("Exit codes: 0 done, 1 runtime failure, 2 usage, 78 bad configuration."), "{help}");
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key() {
    let command = Arguments::command();
    for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
        let (long, key) = (flag.get_long().unwrap(), flag.get_id().as_str());
        assert_eq!(long.replace('-', "_"), key);
        if matches!(key, "check" | "print_config") {
            continue;
        }
        let variable = flag.get_env().and_then(|name| name.to_str()).unwrap();
        assert_eq!(variable, format!("STREAMD_{}", key.to_uppercase()));
    }
    let defaults = toml::Table::try_from(Settings::default()).unwrap();
    let flags = long_flags();
    for key in defaults.keys() {
        assert!(flags.contains(&key.replace('_', "-")), "{key} has no flag");
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
        (&["file"], "unexpected argument 'file'"),
        (&["--workers"], "a value is required for '--workers <N>'"),
        (&["--workers", "many"], "invalid value 'many' for '--workers <N>'"),
        (&["--engine", "warp"], "[possible values: auto, sendfile, splice, copy]"),
        (&["--frame-bytes-max", "1 parsec"], "is no byte count: write bytes (169) or a suffix (64MiB, 1GB)"),
        (&["--data-listen", "localhost"], "invalid value 'localhost' for '--data-listen <ADDR:PORT>'"),
        (&["--partial-ttl", "90"], "is no time span: write a number and a unit (90s, 24h, 7days)"),
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
        let unknown = format!("streamd: colour: unknown setting in {path}; --print-config lists them all");
        let expected = [
            unknown.as_str(),
            "streamd: control_listen: 0.0.0.0:0 can be reached from other hosts: set token_file, or listen on \
             127.0.0.1",
            "streamd: engine: \"warp\": unknown variant `warp`, expected one of `auto`, `sendfile`, `splice`, \
             `copy`",
            "streamd: root: /nonexistent: No such file or directory (os error 2): create it, or name another",
            "streamd: spool: sink = \"store\" needs a directory for the frames: set spool",
            "streamd: workers: 0 is outside 1 to 1024",
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
        "streamd: token_file: {absent}: No such file or directory (os error 2): create it, or name another\n"
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
    assert_eq!(settings["frame_bytes_max"].as_integer(), Some(64 << 20));
    let (_fixture, path) = file(stdout(&first));
    let second = run_streamd(&["--config", &path, "--print-config"]);
    assert_eq!(stdout(&first), stdout(&second));
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
         127.0.0.1\n"
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
    let fault = "streamd: uploads: there is no directory to put files into: set root\n";
    assert_eq!((code(&output), stderr(&output)), (78, fault));
    let output = check(&["--root", root, "--data-listen", "0.0.0.0:0"]);
    let fault = "streamd: uploads: data_listen 0.0.0.0:0 can be reached from other hosts: set token_file, or listen \
                 on 127.0.0.1\n";
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
