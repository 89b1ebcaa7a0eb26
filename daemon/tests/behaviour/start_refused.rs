//! Tests of starts that fail or take another way: each says in one line what is wrong and what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{
    Fixture, Process, TEST_FLAGS, command, lines_with, or_skip, refusing, request, run_streamd,
};

/// The user who may read nothing that isn't everybody's.
const NOBODY: &str = "65534";

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Makes a `streamd` of a user who isn't root, behind a shell `prelude`; the error says why that can't be had.
fn as_nobody(prelude: &str, arguments: &[&str]) -> Result<Command, String> {
    let streamd = command(arguments);
    let is_root = rustix::process::geteuid().is_root();
    let mut wrapped = if is_root { Command::new("setpriv") } else { Command::new("env") };
    if is_root {
        wrapped.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    }
    let as_user = |command: &mut Command, arguments: &[&std::ffi::OsStr]| {
        command.args(["sh", "-c", &format!("{prelude} exec \"$0\" \"$@\"")]).arg(streamd.get_program());
        command.args(arguments);
    };
    let mut trial = Command::new(wrapped.get_program());
    trial.args(wrapped.get_args());
    as_user(&mut trial, &["--version".as_ref()]);
    let trial = trial.output().map_err(|error| format!("setpriv: {error}"))?;
    if !trial.status.success() {
        return Err(format!("streamd as another user: {}", stderr(&trial).trim()));
    }
    as_user(&mut wrapped, &streamd.get_args().collect::<Vec<_>>());
    Ok(wrapped)
}

/// Makes a file or directory private to its owner, in a place where everybody has access.
fn private(path: &Path, fixture: &Fixture) -> String {
    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    set(fixture.path(), 0o755);
    set(path, 0o000);
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_the_user_may_not_read_is_named_with_a_remedy() {
    let fixture = Fixture::new();
    let file = private(&fixture.write("streamd.toml", b"workers = 1\n"), &fixture);
    let token = private(&fixture.write("token", b"secret"), &fixture);
    let root = fixture.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let root = private(&root, &fixture);
    let denied = "Permission denied (os error 13): let the user who runs streamd read it";
    for (flag, path, setting, origin) in [
        ("--config", file, "", ""),
        ("--token-file", token, "token_file: ", " (--token-file)"),
        ("--root", root.clone(), "root: ", " (--root)"),
    ] {
        let Some(mut streamd) = or_skip(as_nobody("", &[flag, &path])) else { return };
        let output = streamd.output().unwrap();
        assert_eq!(stderr(&output), format!("streamd: {setting}{path}: {denied}{origin}\n"));
        assert_eq!(output.status.code(), Some(78), "{flag}");
    }
    // Otherwise it couldn't be removed.
    std::fs::set_permissions(root, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_user_without_locked_memory_is_served_on_what_the_kernel_grants() {
    // Rings have not been counted as locked memory since Linux 5.12; before, this is where they fail.
    let Some(streamd) =
        or_skip(as_nobody("ulimit -l 0;", &[&TEST_FLAGS[..], &["--connections-max", "100"]].concat()))
    else {
        return;
    };
    let process = Process::spawn(streamd);
    assert_eq!(request(process.control(), "POST", "/stream?size=1MiB", "").status, 200);
    let log = process.stop();
    let warnings = lines_with(&log, "level", "WARN");
    let driver = lines_with(&log, "message", "listening")[0]["driver"].clone();
    if driver == "epoll" {
        assert_eq!(warnings.len(), 1, "{log:#?}");
        assert_eq!(warnings[0]["message"], "falling back to epoll");
    } else {
        assert_eq!(warnings, [] as [serde_json::Value; 0], "{log:#?}");
    }
}

/// Makes a `streamd` whose rings the kernel refuses for this reason.
fn with_refused_rings(errno: &str, arguments: &[&str]) -> Command {
    refusing(libc::SYS_io_uring_setup, errno, arguments)
}

#[test]
fn each_refusal_of_rings_names_its_remedy_and_auto_goes_on() {
    for (errno, text) in [
        (
            "ENOMEM",
            "Cannot allocate memory (os error 12) (raise the locked-memory limit, which all processes of one user \
             share: LimitMEMLOCK= or ulimit -l)",
        ),
        (
            "EPERM",
            "Operation not permitted (os error 1) (allow it: sysctl kernel.io_uring_disabled=0, or a seccomp profile \
             that lets io_uring_setup through)",
        ),
        (
            "ENOSYS",
            "Function not implemented (os error 38) (this kernel has none, or a seccomp profile hides it: Linux 5.15 \
             or newer is needed)",
        ),
    ] {
        let flags = [&TEST_FLAGS[..], &["--driver", "auto"]].concat();
        let log = Process::spawn(with_refused_rings(errno, &flags)).stop();
        let warnings = lines_with(&log, "level", "WARN");
        assert_eq!(warnings.len(), 1, "{errno}: {warnings:#?}");
        assert_eq!(warnings[0]["message"], "falling back to epoll");
        assert_eq!(warnings[0]["reason"], format!("io_uring is refused: {text}"));
        let output = with_refused_rings(errno, &["--driver", "uring"]).output().unwrap();
        assert_eq!(
            stderr(&output),
            format!(
                "streamd: driver uring: io_uring is refused: {text}; --driver auto would fall back to epoll\n"
            )
        );
        assert_eq!(output.status.code(), Some(1), "{errno}");
    }
}

#[test]
fn an_address_that_this_host_does_not_have() {
    // The address is of TEST-NET-1 (RFC 5737), and nobody's.
    for (setting, other) in [("data-listen", "control-listen"), ("control-listen", "data-listen")] {
        let fixture = Fixture::new();
        let token_file = fixture.write("token", b"secret");
        let output = run_streamd(&[
            &format!("--{setting}"),
            "192.0.2.1:0",
            &format!("--{other}"),
            "127.0.0.1:0",
            "--connections-max",
            "100",
            "--token-file",
            token_file.to_str().unwrap(),
        ]);
        let setting = setting.replace('-', "_");
        assert_eq!(
            stderr(&output),
            format!(
                "streamd: {setting} 192.0.2.1:0: Cannot assign requested address (os error 99): no interface has this \
                 address: `ip address` lists those that there are; set one as {setting}\n"
            )
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_path_that_is_something_else_is_said_to_be() {
    let fixture = Fixture::new();
    let file = fixture.write("file", b"no directory");
    for setting in ["root", "spool"] {
        let output = run_streamd(&[&format!("--{setting}"), file.to_str().unwrap()]);
        assert_eq!(
            stderr(&output),
            format!(
                "streamd: {setting}: {}: Not a directory (os error 20): name a directory (--{setting})\n",
                file.display()
            )
        );
        assert_eq!(output.status.code(), Some(78));
    }
}
