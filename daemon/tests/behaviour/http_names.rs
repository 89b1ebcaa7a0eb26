//! Tests of names: they lead to nothing outside the root, to nothing but regular files, and the answer doesn't
//! tell why.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use streamd::config::Settings;

use crate::harness::{Fixture, Process, Response, TEST_FLAGS, TestDaemon, drivers, get, request, settings};

/// A root with a file outside it.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("secret", b"secret");
    fixture.write("root/file", b"content");
    fixture.write("root/sub/deep/file", b"deep");
    fixture.write("root/..file", b"dots");
    fixture.write("root/%2e%2e", b"escapes");
    fixture.write("root/.streamd-uploads/partial", b"partial");
    fixture.write("root/sub/.streamd-uploads/partial", b"partial");
    let root = fixture.path().join("root");
    symlink("../secret", root.join("link_outside")).unwrap();
    symlink(fixture.path().join("secret"), root.join("link_absolute")).unwrap();
    symlink("..", root.join("link_parent")).unwrap();
    symlink("link_loop", root.join("link_loop")).unwrap();
    symlink("absent", root.join("link_nowhere")).unwrap();
    symlink("/proc/self/root", root.join("link_magic")).unwrap();
    symlink("../file", root.join("sub/link_inside")).unwrap();
    symlink("sub/deep", root.join("link_directory")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), mode).unwrap();
    fixture
}

fn daemons(fixture: &Fixture) -> impl Iterator<Item = TestDaemon> {
    drivers().into_iter().map(|driver| {
        let root = Some(fixture.path().join("root"));
        // Names that begin with dots are looked for here.
        TestDaemon::start(Settings { driver, root, hidden: Vec::new(), ..settings() })
    })
}

/// Returns all of an answer except its date.
fn visible(response: Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let fields = response
        .fields
        .into_iter()
        .filter(|(name, _)| !matches!(name.as_str(), "Date" | "X-Request-Id"))
        .collect();
    (response.status, fields, response.body)
}

#[test]
fn names_lead_to_files_inside() {
    let fixture = fixture();
    for daemon in daemons(&fixture) {
        for (path, content) in [
            ("/file", "content"),
            ("/%66%69le", "content"),
            ("//file", "content"),
            ("/./sub/../file", "content"),
            ("/sub/%2e%2e/file", "content"),
            ("/sub%2fdeep%2Ffile", "deep"),
            ("/sub//deep/./file", "deep"),
            ("/sub/link_inside", "content"),
            ("/link_directory/file", "deep"),
            ("/..file", "dots"),
            // Decoded once.
            ("/%252e%252e", "escapes"),
            // Above the root is the root (RFC 3986 5.2.4).
            ("/../file", "content"),
            ("/../../../../file", "content"),
            ("/%2e%2e/file", "content"),
            ("/..%2ffile", "content"),
            ("/.%2e/file", "content"),
        ] {
            let response = get(daemon.data(), path, "");
            assert_eq!((response.status, response.text().as_str()), (200, content), "{path}");
        }
    }
}

/// Names that hold what only an escape can say, and how it does.
const RAW_NAMES: [(&[u8], &str); 7] = [
    (b"back\\slash", "back%5Cslash"),
    (b"tab\there", "tab%09here"),
    (b"line\nfeed\r", "line%0Afeed%0D"),
    (b"\x01\x7f\xc2\x85", "%01%7F%C2%85"),
    (b"latin-\xe4", "latin-%E4"),
    (b"\xff\xfe", "%ff%fe"),
    (b"..\\..\\x", "..%5c..%5cx"),
];

#[test]
fn every_byte_but_nul_leads_to_its_file_when_percent_encoded() {
    let fixture = Fixture::new();
    for (name, _) in RAW_NAMES {
        std::fs::write(fixture.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    for driver in drivers() {
        let root = Some(fixture.path().to_owned());
        let daemon = TestDaemon::start(Settings { driver, root, uploads: true, ..settings() });
        for (name, path) in RAW_NAMES {
            for _ in 0..2 {
                let response = get(daemon.data(), &format!("/{path}"), "");
                assert_eq!((response.status, &*response.body), (200, name), "{path}");
            }
            let made = format!("/new-{path}");
            let put = request(daemon.data(), "PUT", &made, "Content-Length: 0\r\n");
            assert_eq!(put.status, 201, "{made}");
            let at = fixture.path().join(OsStr::from_bytes(&[b"new-", name].concat()));
            assert!(at.is_file(), "{made}");
            assert_eq!(request(daemon.data(), "DELETE", &made, "").status, 204, "{made}");
            assert!(!at.exists(), "{made}");
        }
    }
}

#[test]
fn outside_and_absent_and_no_file_are_told_apart_by_nobody() {
    let fixture = fixture();
    let long = format!("/{}", "n".repeat(300));
    let deep = "/d".repeat(3000);
    for daemon in daemons(&fixture) {
        let absent = visible(get(daemon.data(), "/absent", ""));
        assert_eq!(absent.0, 404);
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/%2E%2E%2Fsecret",
            "/..%2fsecret",
            "/.%2e/secret",
            "/sub/../../secret",
            "/sub/%2e%2e/%2e%2e/secret",
            "//..//secret",
            "/%252e%252e/secret",
            "/....//secret",
            "/..;/secret",
            "/link_outside",
            "/link_absolute",
            "/link_parent",
            "/link_parent/secret",
            "/link_parent/root/file",
            "/link_magic/etc/passwd",
            "/link_loop",
            "/link_nowhere",
            "/fifo",
            "/",
            "/sub",
            "/sub/",
            "/file/",
            "/file/.",
            "/file/absent",
            "/.streamd-uploads",
            "/.streamd-uploads/",
            "/.streamd-uploads/partial",
            "/%2estreamd-uploads/partial",
            "/sub/.streamd-uploads/partial",
            "/sub/../.streamd-uploads/partial",
            "/sub/../",
            "/?file",
            "http://localhost/../secret",
            &long,
            &deep,
        ] {
            assert_eq!(visible(get(daemon.data(), path, "")), absent, "{path}");
            assert_eq!(request(daemon.data(), "HEAD", path, "").status, 404, "{path}");
        }
    }
}

/// Root may read anything, so the daemon runs without the capabilities that let it (capabilities(7)).
#[test]
fn a_file_that_may_not_be_read_is_403() {
    const CAPABILITIES: &str = "-dac_override,-dac_read_search";
    let fixture = fixture();
    let path = fixture.path().join("root/file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let root = fixture.path().join("root");
    let without_capabilities = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps", CAPABILITIES, "--bounding-set", CAPABILITIES, "--", program]);
        command
    };
    let process = if !rustix::process::geteuid().is_root() {
        Process::start(&["--root", root.to_str().unwrap()])
    } else if without_capabilities("true").status().is_ok_and(|status| status.success()) {
        let mut command = without_capabilities(env!("CARGO_BIN_EXE_streamd"));
        command.args(TEST_FLAGS).arg("--root").arg(root);
        Process::spawn(command)
    } else {
        eprintln!("not tested: root may read every file, and setpriv can't take that from it here");
        return;
    };
    let response = get(process.data(), "/file", "");
    assert_eq!(response.status, 403);
    assert_eq!(response.problem(), "the daemon may not read this file");
    assert_eq!(get(process.data(), "/sub/deep/file", "").text(), "deep");
}
