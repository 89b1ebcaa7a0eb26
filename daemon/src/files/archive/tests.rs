//! Archives of real directories, as a library reads them.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps};

use super::{ArchiveError, Archives, Plan, Planned, Terms, Tree, mount_at, read};
use crate::config::EtagChoice;
use crate::files::{FileError, Generation, Root};
use crate::limits::{Budget, Full};
use crate::protocol::name::Name;
use crate::protocol::range::ByteRange;

const TERMS: Terms = Terms { waiting_bytes_max: 64 << 20, holder: None, generation: Generation::of(0, 0) };

/// A root with one directory `top` in it.
struct Fixture {
    outer: tempfile::TempDir,
    archives: Archives,
}

impl Fixture {
    fn new() -> Fixture {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("top")).unwrap();
        Fixture { outer, archives: Archives::new(Arc::<Budget>::default()) }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.outer.path().join("top").join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn tree_of(&self, name: &str, etag: EtagChoice) -> Tree {
        let root = Root::open(self.outer.path()).unwrap().tagging(etag);
        let directory: OwnedFd = File::open(self.outer.path().join(name)).unwrap().into();
        Tree::new(&root, &Name::parse(format!("/{name}").as_bytes()).unwrap(), directory)
    }

    fn tree(&self) -> Tree {
        self.tree_of("top", EtagChoice::Node)
    }

    fn plan_of(&self, tree: &Tree, age_max: Duration, etag: Option<&str>) -> Result<Arc<Plan>, ArchiveError> {
        let mut planned = self.archives.begin(tree, age_max, etag.map(str::as_bytes), TERMS)?;
        loop {
            match planned {
                Planned::Partly(planning) => planned = self.archives.go_on(planning)?,
                Planned::Plan(plan) => return Ok(plan),
            }
        }
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan_of(&self.tree(), Duration::ZERO, None).unwrap()
    }
}

/// A range of an archive, piece by piece as it is sent.
fn bytes_of(tree: &Tree, plan: &Plan, start: u64, length: u64) -> Result<Vec<u8>, ArchiveError> {
    let (mut sent, mut offset, end) = (Vec::new(), start, start + length);
    while offset < end {
        let range = ByteRange { start: offset, length: end - offset };
        let piece = read(tree, plan, range, vec![7; 100])?;
        assert!(piece.end > offset && piece.end <= end, "{offset} {}", piece.end);
        sent.extend_from_slice(&piece.text);
        if let Some((file, range)) = piece.body {
            let begin = sent.len();
            sent.resize(begin + usize::try_from(range.length).unwrap(), 0);
            assert_eq!(
                rustix::io::pread(&file, &mut sent[begin..], range.start).unwrap(),
                sent.len() - begin
            );
        }
        assert_eq!(sent.len() as u64, piece.end - start);
        offset = piece.end;
    }
    Ok(sent)
}

fn whole(fixture: &Fixture) -> Vec<u8> {
    let (tree, plan) = (fixture.tree(), fixture.plan());
    let bytes = bytes_of(&tree, &plan, 0, plan.length()).unwrap();
    assert_eq!(bytes.len() as u64, plan.length());
    bytes
}

fn paths(archive: &[u8]) -> Vec<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect()
}

/// A tree with something of each kind.
fn filled() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("a/inner", "inner");
    fixture.write("a-b", "beside");
    fixture.write("a.txt", "text");
    fixture.write("long", vec![3; 200_000]);
    fixture.write("odd", vec![4; 70_001]);
    fixture.write("zero", "");
    fixture.write(&format!("deep/{}/{}", "d".repeat(255), "f".repeat(255)), "deep");
    fs::create_dir(fixture.at("empty")).unwrap();
    fs::set_permissions(fixture.at("empty"), fs::Permissions::from_mode(0o1750)).unwrap();
    symlink("/somewhere/else", fixture.at("link")).unwrap();
    fs::hard_link(fixture.at("long"), fixture.at("longer")).unwrap();
    fixture
}

#[test]
fn members_come_in_the_order_of_their_paths_below_the_name_of_the_directory() {
    let archive = whole(&filled());
    let paths = paths(&archive);
    let deep = format!("top/deep/{}/", "d".repeat(255));
    let deepest = format!("{deep}{}", "f".repeat(255));
    let expected = [
        "top/",
        "top/a-b",
        "top/a.txt",
        "top/a/",
        "top/a/inner",
        "top/deep/",
        &deep,
        &deepest,
        "top/empty/",
        "top/link",
        "top/long",
        "top/longer",
        "top/odd",
        "top/zero",
    ];
    assert_eq!(paths, expected.map(|path| path.as_bytes().to_vec()));
    assert!(paths.is_sorted());
}

#[test]
fn every_member_is_what_it_is_on_disk() {
    let fixture = filled();
    let early = Timespec { tv_sec: -5, tv_nsec: 250_000_000 };
    let times = Timestamps { last_access: early, last_modification: early };
    rustix::fs::utimensat(rustix::fs::CWD, fixture.at("a.txt"), &times, rustix::fs::AtFlags::empty())
        .unwrap();
    let archive = whole(&fixture);
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut seen = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let on_disk = fs::symlink_metadata(fixture.outer.path().join(path.trim_end_matches('/'))).unwrap();
        let header = entry.header().clone();
        assert_eq!(header.mode().unwrap(), on_disk.mode() & 0o7777, "{path}");
        assert_eq!(header.uid().unwrap(), u64::from(on_disk.uid()));
        let mtime = entry.pax_extensions().unwrap().into_iter().flatten().find_map(|record| {
            let record = record.unwrap();
            (record.key() == Ok("mtime")).then(|| record.value().unwrap().to_owned())
        });
        if mtime.is_none() {
            assert_eq!(header.mtime().unwrap(), u64::try_from(on_disk.mtime()).unwrap(), "{path}");
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        match header.entry_type() {
            tar::EntryType::Regular => {
                assert_eq!(content, fs::read(fixture.outer.path().join(&path)).unwrap(), "{path}");
            }
            tar::EntryType::Symlink => assert_eq!(&*header.link_name_bytes().unwrap(), b"/somewhere/else"),
            tar::EntryType::Link => assert_eq!(&*header.link_name_bytes().unwrap(), b"top/long"),
            kind => assert_eq!((kind, content.len()), (tar::EntryType::Directory, 0)),
        }
        if path == "top/a.txt" {
            assert_eq!(mtime.as_deref(), Some("-5"));
        }
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn every_range_is_that_part_of_the_whole() {
    let fixture = filled();
    let archive = whole(&fixture);
    let (tree, plan) = (fixture.tree(), fixture.plan());
    let length = plan.length();
    let mut start = 0;
    while start < length {
        for bytes in [1, 511, 70_000, length] {
            let bytes = bytes.min(length - start);
            let part = bytes_of(&tree, &plan, start, bytes).unwrap();
            let place = usize::try_from(start).unwrap();
            assert!(part == archive[place..place + part.len()], "{start} {bytes}");
        }
        start += 4_999;
    }
    let end = bytes_of(&tree, &plan, length - 1_024, 1_024).unwrap();
    assert_eq!(end, [0; 1_024]);
}

#[test]
fn the_root_has_no_name_of_its_own_and_an_empty_one_is_an_empty_archive() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.outer.path().join(".streamd-uploads")).unwrap();
    fs::write(fixture.outer.path().join(".streamd-uploads/part"), "part").unwrap();
    let tree = fixture.tree_of("", EtagChoice::Node);
    let plan = fixture.plan_of(&tree, Duration::ZERO, None).unwrap();
    assert_eq!(paths(&bytes_of(&tree, &plan, 0, plan.length()).unwrap()), [b"top/"]);
    fs::remove_dir(fixture.at("")).unwrap();
    let plan = fixture.plan_of(&tree, Duration::ZERO, None).unwrap();
    assert_eq!(bytes_of(&tree, &plan, 0, plan.length()).unwrap(), [0; 1_024]);
}

#[test]
fn what_no_archive_can_hold_is_left_out() {
    let fixture = Fixture::new();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.at("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fixture.at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff\n\\");
    fs::write(fixture.at("").join(name), "odd").unwrap();
    assert_eq!(paths(&whole(&fixture)), [b"top/".to_vec(), b"top/\xff\n\\".to_vec()]);
}

/// Waits until the file system's clock has gone on, so that a change is seen by its time.
fn settle(path: &Path) {
    let changed = fs::metadata(path).unwrap().ctime_nsec();
    let probe = tempfile::NamedTempFile::new_in(path.parent().unwrap().parent().unwrap()).unwrap();
    while fs::metadata(probe.path()).unwrap().ctime_nsec() == changed {
        fs::set_permissions(probe.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn each_change_of_the_tree_changes_the_tag() {
    let fixture = Fixture::new();
    for name in ["written", "moded", "touched", "renamed", "removed"] {
        fixture.write(name, "1234");
    }
    symlink("one", fixture.at("link")).unwrap();
    let mut tags = vec![fixture.plan().etag().to_owned()];
    let changes: [(&str, &dyn Fn()); 7] = [
        ("nothing", &|| {}),
        ("written", &|| fs::write(fixture.at("written"), "5678").unwrap()),
        ("moded", &|| fs::set_permissions(fixture.at("moded"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("touched", &|| {
            let file = File::open(fixture.at("touched")).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("renamed", &|| fs::rename(fixture.at("renamed"), fixture.at("renamed2")).unwrap()),
        ("removed", &|| fs::remove_file(fixture.at("removed")).unwrap()),
        ("link", &|| {
            fs::remove_file(fixture.at("link")).unwrap();
            symlink("two", fixture.at("link")).unwrap();
        }),
    ];
    for (name, change) in changes {
        settle(&fixture.at("written"));
        change();
        let tag = fixture.plan().etag().to_owned();
        assert_eq!(tags.contains(&tag), name == "nothing", "{name}");
        tags.push(tag);
    }
    // Written within the last two seconds: a further write may leave all times as they are.
    assert!(tags.iter().all(|tag| tag.starts_with("W/\"")), "{tags:?}");
}

#[test]
fn by_times_alone_a_copy_of_the_tree_has_the_same_tag() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.outer.path().join("other")).unwrap();
    for directory in ["top", "other"] {
        let path = fixture.outer.path().join(directory).join("top");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "same").unwrap();
        for path in [path.join("file"), path] {
            File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
    }
    let tag = |name: &str, etag| {
        let plan = fixture.plan_of(&fixture.tree_of(name, etag), Duration::ZERO, None).unwrap();
        plan.etag().to_owned()
    };
    assert_eq!(tag("top/top", EtagChoice::Times), tag("other/top", EtagChoice::Times));
    assert_ne!(tag("top/top", EtagChoice::Node), tag("other/top", EtagChoice::Node));
}

/// Does something to a file.
type Change = fn(&Path);

#[test]
fn what_changed_since_it_was_planned_is_not_read() {
    let changes: [(&str, Change); 5] = [
        ("written", |path| fs::write(path, vec![9; 100_000]).unwrap()),
        ("grown", |path| {
            use std::io::Write;
            File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("shrunk", |path| File::options().write(true).open(path).unwrap().set_len(10).unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("replaced by a link", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
    ];
    for (name, change) in changes {
        for size in [1_000, 100_000] {
            let fixture = Fixture::new();
            fixture.write("file", vec![1; size]);
            settle(&fixture.at("file"));
            let (tree, plan) = (fixture.tree(), fixture.plan());
            change(&fixture.at("file"));
            let error = bytes_of(&tree, &plan, 0, plan.length()).unwrap_err();
            assert!(
                matches!(&error, ArchiveError::Changed { name } if &**name == "file"),
                "{name}: {error:?}"
            );
        }
    }
}

#[test]
fn a_plan_is_found_again_for_a_moment_and_by_its_tag_for_longer() {
    let fixture = Fixture::new();
    fixture.write("file", "1");
    let tree = fixture.tree();
    let first = fixture.plan();
    let minute = Duration::from_secs(60);
    let is_first = |plan: Arc<Plan>| Arc::ptr_eq(&plan, &first);
    assert!(is_first(fixture.plan_of(&tree, minute, None).unwrap()));
    assert!(is_first(fixture.plan_of(&tree, Duration::ZERO, Some(first.etag())).unwrap()));
    first.note_outdated();
    assert!(!is_first(fixture.plan_of(&tree, minute, Some(first.etag())).unwrap()));
    let second = fixture.plan();
    assert!(!Arc::ptr_eq(&second, &fixture.plan_of(&tree, Duration::ZERO, Some("\"other\"")).unwrap()));
}

#[test]
fn plans_are_counted_and_given_back() {
    let fixture = Fixture::new();
    (0..1_000).for_each(|number| fixture.write(&format!("{number:04}"), ""));
    let plan = fixture.plan();
    let taken = fixture.archives.budget.taken_bytes();
    assert!((90_000..120_000).contains(&taken), "{taken}");
    drop(plan);
    assert_eq!(fixture.archives.budget.taken_bytes(), taken);
    // What nobody sends goes where there is no room for more.
    let terms = Terms { waiting_bytes_max: 120_000, ..TERMS };
    let room = fixture.archives.reserve(90_000, terms).unwrap();
    assert_eq!(fixture.archives.budget.taken_bytes(), 90_000);
    let error = fixture.archives.begin(&fixture.tree(), Duration::ZERO, None, terms).unwrap_err();
    assert_eq!(error, ArchiveError::File(FileError::NoRoom(Full::Node)));
    drop(room);
    assert_eq!(fixture.archives.budget.taken_bytes(), 0);
}

#[test]
fn a_file_beyond_8_gib_has_its_place() {
    let fixture = Fixture::new();
    let sparse = File::create(fixture.at("big")).unwrap();
    sparse.set_len((9 << 30) + 1).unwrap();
    fixture.write("small", "small");
    let (tree, plan) = (fixture.tree(), fixture.plan());
    // The end of the archive: the padding of the large file, and the small one.
    let rest = bytes_of(&tree, &plan, plan.length() - 1_024 - 512 - 1_536 - 512, 3_072).unwrap();
    assert_eq!(rest[2_048..2_053], *b"small");
    assert!(plan.length() > 9 << 30);
    assert_eq!(mount_at(&tree, &plan, plan.length() - 1), tree.mount());
}
