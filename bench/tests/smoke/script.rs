//! A test that scripts/bench.sh runs the programs that cargo has built, wherever they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The scripts are copied, with a cargo that builds programs which say how they were started, and without a slow
/// device and mounts.
#[test]
fn the_script_respects_the_target_directory() {
    let directory = tempfile::Builder::new().prefix("with blanks ").tempdir().unwrap();
    let (repository, here) = (directory.path().join("repository"), directory.path().join("here"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let copied = Command::new("cp").arg("-r").arg(&scripts).arg(directory.path().join("scripts")).status();
    assert!(copied.unwrap().success());
    fs::create_dir_all(&repository).unwrap();
    fs::rename(directory.path().join("scripts"), repository.join("scripts")).unwrap();
    fs::write(repository.join("consul.hcl"), "").unwrap();
    write_program(&repository.join("scripts/slow-device.sh"), "exit 1");
    let bin = here.join("bin");
    write_program(&bin.join("mount"), "exit 1");
    write_program(&bin.join("unshare"), "exit 1");
    let program = r#"echo "ran: $0 $*"; [[ $1 != compare ]] || { while [[ $1 != --json ]]; do shift; done; echo x >"$2"; }"#;
    write_program(&here.join("program"), program);
    let cargo = r#"while [[ $1 != --target-dir ]]; do shift; done
        mkdir -p "$2/release" && cp program "$2/release/stream-bench""#;
    write_program(&bin.join("cargo"), cargo);
    let output = Command::new("bash")
        .arg(repository.join("scripts/bench.sh"))
        .args(["quick", "--only", "pull"])
        .current_dir(&here)
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("CARGO_TARGET_DIR", "of mine")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let target = here.join("of mine/release");
    let (compare, report) = (
        format!("ran: {}/stream-bench compare", target.display()),
        format!("{}/stream-bench report", target.display()),
    );
    assert!(stdout.contains(&compare) && stdout.contains(&report), "{stdout}");
    assert!(stdout.contains(&format!("--streamd {}/streamd", target.display())), "{stdout}");
    assert!(!repository.join("target").exists());
}
