//! Tests that only names which the bench made are written to and removed.

use super::{Server, assert_worked, bench, measure, sample};

fn names(server: &Server) -> Vec<String> {
    let names = std::fs::read_dir(server.root.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[test]
fn uploads_go_to_new_names_alone() {
    let server = Server::start_with(true);
    let data = server.data();
    let run = measure(&["push", &data, "--put", "/up", "--size", "1kB", "-c", "2"]);
    assert_worked(&run, 2, 1000);
    assert_eq!(sample(&run)["digests_checked"], 2);
    assert_eq!(names(&server), ["large", "other", "small"]);

    // The second of three names exists: the first is removed again, the third never made.
    std::fs::write(server.root.path().join("up-1"), b"precious").unwrap();
    let output = bench(&["push", &data, "--put", "/up", "--size", "1kB", "-c", "3", "--duration", "0.1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/up-1 may exist already, and was left as it is"), "{stderr}");
    assert_eq!(std::fs::read(server.root.path().join("up-1")).unwrap(), b"precious");
    assert_eq!(names(&server), ["large", "other", "small", "up-1"]);
}

#[test]
fn a_query_or_a_fragment_is_no_part_of_a_name() {
    let server = Server::start_with(true);
    for path in ["/small?x=1", "/small#x", "small", "/sm all", "/small\r\nX: y"] {
        let output = bench(&["push", &server.data(), "--put", path, "--size", "1kB", "--duration", "0.1"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{path}: {stderr}");
        assert!(stderr.contains("--put"), "{path}: {stderr}");
    }
    assert_eq!(std::fs::read(server.root.path().join("small")).unwrap(), [7; 1024]);
    assert_eq!(names(&server), ["large", "other", "small"]);
}

#[test]
fn compare_takes_no_directory_with_the_files_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let precious = directory.path().join("root/d/put-0");
    std::fs::create_dir_all(precious.parent().unwrap()).unwrap();
    std::fs::write(&precious, b"precious").unwrap();
    let line = [
        "compare",
        "--peers",
        "ceiling",
        "--only",
        "put-16MiB-64c",
        "--put-directory",
        "d",
        "--directory",
        directory.path().to_str().unwrap(),
    ];
    let output = bench(&line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("holds files that may not be the bench's"), "{stderr}");
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
}
