//! Tests with the clients that people upload with: curl, ccache, and a real NGINX in between.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use streamd::config::{Durability, Settings};

use crate::harness::{
    Connection, Fixture, MIB, Nginx, TestDaemon, chunked, each_uploading, get, partials, pattern, put,
    put_text, request, request_text, sha256, wait_until,
};
use crate::real_clients::{client, installed};

fn each_daemon(test: impl Fn(&TestDaemon, &Fixture) + Sync) {
    each_uploading(|settings| Settings { cache_valid_ms: 0, ..settings }, test);
}

/// Runs curl with `arguments`, to `path`; returns the status that it saw.
fn curl(address: SocketAddr, path: &str, arguments: &[&str], input: &[u8]) -> u16 {
    let mut command = client("curl");
    command.args(["--no-fail", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    command.args(arguments).arg(format!("http://{address}{path}"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A refused curl reads none of the input.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {:?}", output.status);
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    })
}

fn stored(fixture: &Fixture, name: &str) -> String {
    sha256(&std::fs::read(fixture.path().join(name)).unwrap())
}

#[test]
fn curl_uploads_files_and_what_comes_through_a_pipe() {
    if !installed("curl") {
        return;
    }
    let content = pattern(20 * MIB + 3);
    let source = Fixture::new();
    let large = source.write("large", &content);
    let small = source.write("small", b"small");
    let empty = source.write("empty", b"");
    let digest = sha256(&content);
    let [large, small, empty] = [&large, &small, &empty].map(|path| path.to_str().unwrap());
    each_daemon(|daemon, fixture| {
        let upload = |path: &str, arguments: &[&str]| curl(daemon.data(), path, arguments, &content);
        assert_eq!(upload("/large", &["--upload-file", large]), 201);
        assert_eq!(stored(fixture, "large"), digest);
        assert_eq!(upload("/small", &["--upload-file", small]), 201);
        assert_eq!(upload("/small", &["--upload-file", small]), 204);
        assert_eq!(get(daemon.data(), "/small", "").text(), "small");
        assert_eq!(upload("/empty", &["--upload-file", empty]), 201);
        assert_eq!(get(daemon.data(), "/empty", "").content_length(), 0);
        // The body is chunked, since nobody knows its length; with and without the wait for a 100.
        assert_eq!(upload("/pipe", &["--upload-file", "-"]), 201);
        assert_eq!(stored(fixture, "pipe"), digest);
        assert_eq!(upload("/pipe", &["--upload-file", "-", "--header", "Expect:"]), 204);
        assert_eq!(stored(fixture, "pipe"), digest);
        let created = upload("/large", &["--upload-file", small, "--header", "If-None-Match: *"]);
        assert_eq!(created, 412);
        assert_eq!(upload("/", &["--upload-file", large, "--header", "Expect:"]), 204);
        assert_eq!(stored(fixture, "large"), digest);
        assert_eq!(upload("/small/large", &["--upload-file", large]), 409);
        assert_eq!(upload("/small", &["--request", "DELETE"]), 204);
        assert_eq!(get(daemon.data(), "/small", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
    });
}

/// With and without the wait for a 100, curl sees the reason long before it has sent all.
#[test]
fn curl_sees_why_a_large_upload_is_refused() {
    if !installed("curl") {
        return;
    }
    let source = Fixture::new();
    let large = source.write("large", &pattern(40 * MIB));
    let change = |settings| Settings { upload_bytes_max: 30 * MIB as u64, ..settings };
    each_uploading(change, |daemon, fixture| {
        std::fs::create_dir(fixture.path().join("directory")).unwrap();
        for expect in ["Expect:", "Expect: 100-continue"] {
            let arguments = ["--upload-file", large.to_str().unwrap(), "--header", expect];
            assert_eq!(curl(daemon.data(), "/new", &arguments, b""), 413, "{expect}");
            let chunked = [&arguments[..], &["--header", "Transfer-Encoding: chunked"]].concat();
            assert_eq!(curl(daemon.data(), "/directory", &chunked, b""), 409, "{expect}");
        }
        assert_eq!(get(daemon.data(), "/new", "").status, 404);
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn curl_uploads_several_files_over_one_connection() {
    if !installed("curl") {
        return;
    }
    let source = Fixture::new();
    for number in 0..3 {
        source.write(&format!("file{number}"), &pattern(MIB + number));
    }
    each_daemon(|daemon, fixture| {
        let mut command = client("curl");
        command.args(["--upload-file", "file[0-2]", "--write-out", "%{http_code} %{num_connects}\n"]);
        command.arg(format!("http://{}/", daemon.data())).current_dir(source.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "201 1\n201 0\n201 0\n");
        for number in 0..3 {
            let name = format!("file{number}");
            assert_eq!(stored(fixture, &name), sha256(&pattern(MIB + number)));
        }
    });
}

#[test]
fn curl_goes_on_where_it_stopped() {
    if !installed("curl") {
        return;
    }
    const CUT: usize = 3 * MIB + 17;
    let content = pattern(8 * MIB);
    let source = Fixture::new();
    let path = source.write("file", &content);
    let path = path.to_str().unwrap();
    each_daemon(|daemon, fixture| {
        let mut connection = Connection::open(daemon.data());
        let text = put_text("/file", "", &content);
        connection.send(&text[..text.len() - content.len() + CUT]);
        connection.finish();
        connection.receive_what_comes();
        // The upload has a writer until it is put aside.
        let range = format!("Content-Range: bytes 1-1/{}\r\n", content.len());
        let mut offset = None;
        wait_until("the upload to be kept", || {
            let response = put(daemon.data(), "/file", &range, b"x");
            offset = response.field("Upload-Offset").map(str::to_owned);
            offset.as_ref().is_some_and(|offset| offset != "0")
        });
        assert_eq!(offset.unwrap(), CUT.to_string());
        let go_on = |offset: usize| {
            let offset = offset.to_string();
            curl(daemon.data(), "/file", &["--continue-at", &offset, "--upload-file", path], b"")
        };
        assert_eq!(go_on(CUT + 1), 409);
        assert_eq!(go_on(CUT), 201);
        assert_eq!(stored(fixture, "file"), sha256(&content));
        assert!(partials(fixture.path()).is_empty());
    });
}

const PROGRAM: &str = "int answer(int question) { return question + 42; }\n";

/// Compiles once with an empty local cache; returns ccache's counts.
fn compile(directory: &Path, address: SocketAddr, run: &str) -> Vec<(String, u64)> {
    let configuration = directory.join(format!("{run}.conf"));
    let local = directory.join(run);
    let text = format!("cache_dir = {}\nremote_storage = http://{address}/cache\n", local.display());
    std::fs::write(&configuration, text).unwrap();
    let ccache = || {
        let mut command = Command::new("ccache");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CCACHE_CONFIGPATH", &configuration).current_dir(directory);
        command
    };
    let mut compilation = ccache();
    compilation.args(["cc", "-c", "answer.c", "-o", "answer.o"]);
    assert!(compilation.status().unwrap().success(), "{compilation:?}");
    let output = ccache().arg("--print-stats").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap_or(0))).collect()
}

#[test]
fn ccache_keeps_its_results_here() {
    if !installed("ccache") || !installed("cc") {
        return;
    }
    let change = |settings| Settings { create_dirs: true, durability: Durability::Fsync, ..settings };
    each_uploading(change, |daemon, fixture| {
        let directory = Fixture::new();
        directory.write("answer.c", PROGRAM.as_bytes());
        let count = |counts: &[(String, u64)], name: &str| {
            counts.iter().find(|(counted, _)| counted == name).map_or(0, |(_, count)| *count)
        };
        let first = compile(directory.path(), daemon.data(), "first");
        assert_eq!(count(&first, "remote_storage_hit"), 0, "{first:?}");
        assert_eq!(count(&first, "remote_storage_error"), 0, "{first:?}");
        assert!(fixture.path().join("cache").is_dir());
        let object = std::fs::read(directory.path().join("answer.o")).unwrap();
        std::fs::remove_file(directory.path().join("answer.o")).unwrap();
        let second = compile(directory.path(), daemon.data(), "second");
        assert_eq!(count(&second, "remote_storage_hit"), 1, "{second:?}");
        assert_eq!(count(&second, "remote_storage_error"), 0, "{second:?}");
        assert_eq!(count(&second, "cache_miss"), 0, "{second:?}");
        assert!(std::fs::read(directory.path().join("answer.o")).unwrap() == object);
        assert!(partials(fixture.path()).is_empty());
    });
}

/// Runs `test` with an NGINX before a daemon for each driver.
fn each_behind_nginx(test: impl Fn(SocketAddr, &TestDaemon, &Fixture) + Sync) {
    each_daemon(|daemon, fixture| match Nginx::before(daemon.data()) {
        Some(nginx) => test(nginx.address(), daemon, fixture),
        None => eprintln!("not tested behind nginx: it is not installed"),
    });
}

#[test]
fn nginx_passes_uploads_on() {
    let content = pattern(12 * MIB + 1);
    let digest = sha256(&content);
    each_behind_nginx(|proxy, daemon, fixture| {
        for (path, status) in [("/file", 201), ("/file", 204), ("/other", 201)] {
            assert_eq!(put(proxy, path, "", &content).status, status);
            assert_eq!(stored(fixture, &path[1..]), digest);
        }
        let mut connection = Connection::open(proxy);
        for (path, status) in [("/chunked", 201), ("/chunked", 204)] {
            connection.send(request_text("PUT", path, "Transfer-Encoding: chunked\r\n"));
            connection.send(chunked(&content, 50_000));
            assert_eq!(connection.response_to("PUT").status, status);
            assert_eq!(stored(fixture, "chunked"), digest);
        }
        // Answers and conditions come through, and so do refusals in the middle of a body.
        let response = put(proxy, "/file", "If-None-Match: *\r\n", b"new");
        assert_eq!(response.status, 412);
        response.problem();
        assert_eq!(request(proxy, "PUT", "/file", "Content-Length: 0\r\n").status, 204);
        std::fs::create_dir(fixture.path().join("directory")).unwrap();
        for _ in 0..5 {
            let mut connection = Connection::open(proxy);
            connection.send_in_vain(put_text("/directory", "", &content));
            let response = connection.response_to("PUT");
            assert_eq!(response.status, 409);
            response.problem();
        }
        assert_eq!(put(proxy, "/file", "", b"small").status, 204);
        assert_eq!(get(daemon.data(), "/file", "").text(), "small");
        assert_eq!(request(proxy, "DELETE", "/file", "").status, 204);
        assert!(partials(fixture.path()).is_empty());
    });
}

#[test]
fn behind_nginx_an_upload_is_gone_on_with() {
    const CUT: usize = 3 * MIB;
    let content = pattern(6 * MIB);
    each_behind_nginx(|proxy, daemon, fixture| {
        let text = put_text("/file", "", &content);
        let mut connection = Connection::open(proxy);
        connection.send(&text[..CUT]);
        wait_until("much of it to be written", || {
            partials(fixture.path()).iter().any(|(_, length)| *length > 2 * MIB as u64)
        });
        drop(connection);
        let range = format!("Content-Range: bytes 1-1/{}\r\n", content.len());
        let mut offset = 0;
        wait_until("the upload to be kept", || {
            let response = put(proxy, "/file", &range, b"x");
            offset = response.field("Upload-Offset").map_or(0, |offset| offset.parse().unwrap());
            offset > 0
        });
        let range = format!("Content-Range: bytes {offset}-{}/{}\r\n", content.len() - 1, content.len());
        assert_eq!(put(proxy, "/file", &range, &content[offset..]).status, 201);
        assert!(get(daemon.data(), "/file", "").body == content);
    });
}
