use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{FileError, Found, Root, Standing, Step, SymlinkChoice};
use crate::config::UPLOADS_DIRECTORY;
use crate::protocol::name::{Name, RESERVED_SEGMENT};

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

/// Returns the text of the file that a name leads to, on whichever way it is looked for.
fn text(root: &Root, path: &str) -> Option<String> {
    let read = |found: Result<Found, FileError>| match found {
        Ok(Found::File(file)) => {
            let text = std::fs::read_to_string(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
            Some(text.unwrap())
        }
        Ok(Found::Directory(_)) => panic!("{path} is a directory"),
        Err(error) => {
            assert_eq!(error, FileError::NotFound, "{path}");
            None
        }
    };
    let name = Name::parse(path.as_bytes()).unwrap();
    let found = read(root.find(&name));
    if let Some(cached) = root.find_cached(&name) {
        assert_eq!(read(cached), found, "{path}");
    }
    let Ok(Step::Found(stepped)) = root.find_within(&name, &[root.mounts().root()]) else { return found };
    assert_eq!(read(Ok(stepped)), found, "{path}");
    found
}

#[test]
fn links_are_followed_as_the_settings_say() {
    let (keep, root) = fixture();
    let outer = keep.path();
    std::fs::create_dir_all(outer.join("disk/.streamd-uploads")).unwrap();
    for file in ["disk/file", "disk/.streamd-uploads/partial"] {
        std::fs::write(outer.join(file), "of disk").unwrap();
    }
    let link = |target: &str, link: &str| symlink(outer.join(target), outer.join("root").join(link)).unwrap();
    link("root/file", "absolute-inside");
    link("root/sub", "sub-inside");
    link("disk/file", "disk-file");
    link("disk", "disk");
    link("secret", "secret");
    let disk = [outer.join("disk").to_str().unwrap().to_owned()];
    let choices = [
        (SymlinkChoice::None, [None; 4]),
        (SymlinkChoice::Beneath, [Some("content"), Some("content"), None, None]),
        (SymlinkChoice::Anywhere, [Some("content"), Some("content"), Some("of disk"), Some("of disk")]),
    ];
    let mut root = root;
    for (choice, expected) in choices {
        root = root.following(choice, &disk).unwrap();
        let found = ["/absolute-inside", "/sub-inside/inside", "/disk-file", "/disk/file"]
            .map(|path| text(&root, path));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{choice:?}");
        assert_eq!(text(&root, "/file").as_deref(), Some("content"));
        for path in ["/secret", "/outside", "/absolute", "/disk/.streamd-uploads/partial", "/disk/none"] {
            assert_eq!(text(&root, path), None, "{path}, {choice:?}");
        }
        // Nothing is written through a link that leads anywhere but beneath the root from where it is.
        assert!(root.open_directory(b"disk").is_err() && root.open_directory(b"sub-inside").is_err());
        assert!(root.open_directory_now(b"disk").is_none());
    }
    symlink("sub", outer.join("root/relative")).unwrap();
    assert!(root.open_directory(b"relative").is_ok());
    let root = root.following(SymlinkChoice::None, &[]).unwrap();
    assert!(root.open_directory(b"relative").is_err() && root.open_directory_now(b"relative").is_none());
}

#[test]
fn a_link_that_is_switched_leads_to_the_one_or_the_other() {
    let (keep, root) = fixture();
    let top = keep.path().join("root");
    for release in ["one", "two"] {
        std::fs::create_dir(top.join(release)).unwrap();
        std::fs::write(top.join(release).join("file"), release).unwrap();
    }
    symlink(top.join("one"), top.join("now")).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..2000 {
                symlink(top.join(["one", "two"][turn % 2]), top.join("next")).unwrap();
                std::fs::rename(top.join("next"), top.join("now")).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            let found = match find(&root, "/now/file") {
                Ok(Found::File(file)) => file.size(),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, 3);
        }
    });
}

#[test]
fn neither_a_root_nor_a_target_of_links_lies_in_a_directory_of_uploads() {
    assert_eq!(UPLOADS_DIRECTORY, RESERVED_SEGMENT);
    let (keep, root) = fixture();
    let staging = keep.path().join("root/.streamd-uploads");
    std::fs::create_dir_all(staging.join("sub")).unwrap();
    symlink(&staging, keep.path().join("link")).unwrap();
    for path in [staging.clone(), staging.join("sub"), keep.path().join("link")] {
        assert_eq!(Root::open(&path).unwrap_err(), FileError::Reserved, "{}", path.display());
    }
    let targets = [staging.to_str().unwrap().to_owned()];
    assert_eq!(root.following(SymlinkChoice::Anywhere, &targets).unwrap_err(), FileError::Reserved);
}
