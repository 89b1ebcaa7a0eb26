use std::os::unix::fs::symlink;

use super::{FileError, Found, Root, Standing};
use crate::protocol::name::Name;

fn find(root: &Root, path: &str) -> Result<Found, FileError> {
    root.find(&Name::parse(path.as_bytes()).unwrap())
}

fn fixture() -> (tempfile::TempDir, Root) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("root");
    std::fs::create_dir_all(inner.join("sub")).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    std::fs::write(inner.join("file"), "content").unwrap();
    symlink("../secret", inner.join("outside")).unwrap();
    symlink("/etc/passwd", inner.join("absolute")).unwrap();
    symlink("../file", inner.join("sub/inside")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, inner.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    let root = Root::open(&inner).unwrap();
    (outer, root)
}

#[test]
fn files_and_links_inside_are_found() {
    let (_keep, root) = fixture();
    for path in ["/file", "/sub/inside", "/sub/../file", "//file"] {
        match find(&root, path).unwrap() {
            Found::File(file) => assert_eq!(file.size(), 7, "{path}"),
            Found::Directory(_) => panic!("{path} is a directory"),
        }
    }
    assert!(matches!(find(&root, "/sub/").unwrap(), Found::Directory(_)));
    assert!(matches!(find(&root, "/").unwrap(), Found::Directory(_)));
}

#[test]
fn it_is_known_what_its_path_leads_to() {
    let (keep, root) = fixture();
    let (path, aside) = (keep.path().join("root"), keep.path().join("aside"));
    assert_eq!(root.standing(&path), Standing::Served);
    std::fs::rename(&path, &aside).unwrap();
    assert_eq!(root.standing(&path), Standing::Replaced);
    std::fs::create_dir(&path).unwrap();
    assert_eq!(root.standing(&path), Standing::Replaced);
    std::fs::remove_dir(&path).unwrap();
    symlink(&aside, &path).unwrap();
    assert_eq!(root.standing(&path), Standing::Served);
    std::fs::remove_dir_all(&aside).unwrap();
    assert_eq!(root.standing(&path), Standing::Removed);
}

#[test]
fn outside_and_absent_look_the_same() {
    let (_keep, root) = fixture();
    for path in ["/outside", "/absolute", "/absent", "/file/", "/file/below", "/fifo", "/%2e%2e/secret"] {
        assert_eq!(find(&root, path).unwrap_err(), FileError::NotFound, "{path}");
    }
}

#[test]
fn reserved_names_are_absent() {
    let (keep, root) = fixture();
    let outer = keep.path().join("root/.streamd-uploads");
    std::fs::create_dir(&outer).unwrap();
    std::fs::write(outer.join("partial"), "part").unwrap();
    for path in [
        "/.streamd-uploads",
        "/.streamd-uploads/",
        "/.streamd-uploads/partial",
        "/%2Estreamd-uploads/partial",
    ] {
        let name = Name::parse(path.as_bytes()).unwrap();
        assert_eq!(root.find(&name).unwrap_err(), FileError::NotFound, "{path}");
        let cached = root.find_cached(&name);
        assert_eq!(cached.unwrap().unwrap_err(), FileError::NotFound, "{path}");
    }
}

#[test]
fn a_cached_answer_agrees_with_the_full_one() {
    let (_keep, root) = fixture();
    let name = Name::parse(b"/file").unwrap();
    root.find(&name).unwrap();
    if let Some(found) = root.find_cached(&name) {
        assert!(matches!(found.unwrap(), Found::File(_)));
    }
}

#[test]
fn no_link_leads_into_a_staging_directory() {
    let (keep, root) = fixture();
    let top = keep.path().join("root");
    for staging in [".streamd-uploads", "sub/.streamd-uploads"] {
        std::fs::create_dir(top.join(staging)).unwrap();
        std::fs::write(top.join(staging).join("partial"), "part").unwrap();
    }
    for (link, target) in [
        ("to-partial", ".streamd-uploads/partial"),
        ("to-staging", ".streamd-uploads"),
        ("to-other", "sub/.streamd-uploads"),
        ("twice", "to-other"),
        ("to-file", "sub/inside"),
    ] {
        symlink(target, top.join(link)).unwrap();
    }
    for path in ["/to-partial", "/to-staging", "/to-staging/partial", "/to-other/partial", "/twice/partial"] {
        assert_eq!(find(&root, path).unwrap_err(), FileError::NotFound, "{path}");
        if let Some(cached) = root.find_cached(&Name::parse(path.as_bytes()).unwrap()) {
            assert_eq!(cached.unwrap_err(), FileError::NotFound, "{path}");
        }
    }
    assert!(root.open_directory(b"to-staging").is_err() && root.open_directory_now(b"twice").is_none());
    assert!(matches!(find(&root, "/to-file").unwrap(), Found::File(_)));
}
