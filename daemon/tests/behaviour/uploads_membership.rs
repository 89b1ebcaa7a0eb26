//! Tests of the properties that an upload gets from its directory, and from the file that it replaces: the same as
//! those of a file that a program leaves there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, getxattr, setxattr};
use streamd::config::{Durability, Settings};

use crate::harness::uploads::taking_uploads;
use crate::harness::{
    Mountpoint, Process, TEST_FLAGS, TestDaemon, drivers, make_btrfs, make_ext4, make_xfs, or_skip, put,
    send, wait_until,
};

/// The bytes of an image: the least that mkfs.xfs takes is 300 MiB.
const IMAGE_BYTES: u64 = 320 << 20;

/// Groups and a user that need not exist on the host.
const GROUP: u32 = 54_321;
const OTHER_GROUP: u32 = 54_322;
const USER: u32 = 54_323;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// Encodes a list of tag, permissions and id.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Makes the list `u::rwx,u:USER:r-x,g::r-x,g:OTHER_GROUP:rwx,m::rwx,o::---`.
fn shared_list() -> Vec<u8> {
    let none = u32::MAX;
    acl(&[(1, 7, none), (2, 5, USER), (4, 5, none), (8, 7, OTHER_GROUP), (0x10, 7, none), (0x20, 0, none)])
}

/// Makes the list `u::rw-,u:USER:r--,g::r--,m::r--,o::---`.
fn own_list() -> Vec<u8> {
    let none = u32::MAX;
    acl(&[(1, 6, none), (2, 4, USER), (4, 4, none), (0x10, 4, none), (0x20, 0, none)])
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let length = getxattr(path, name, buffer.as_mut_slice()).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Returns owner, group, mode and list of a file.
fn facts(path: &Path) -> (u32, u32, u32, Option<Vec<u8>>) {
    let stat = fs::metadata(path).unwrap();
    (stat.uid(), stat.gid(), stat.mode() & 0o7777, attribute(path, ACCESS))
}

fn make_directory(path: &Path, group: u32, mode: u32, default: Option<&[u8]>) {
    fs::create_dir(path).unwrap();
    chown(path, None, Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    if let Some(default) = default {
        set_attribute(path, DEFAULT, default);
    }
}

/// Mounts file systems that keep groups and lists, as far as this host has them.
fn file_systems() -> Vec<(&'static str, Mountpoint)> {
    let images = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let of_image = |kind: &'static str, options: &str, make: fn(&Path, u64) -> Result<(), String>| {
        let path = images.path().join(kind);
        let made = make(&path, IMAGE_BYTES).and_then(|()| Mountpoint::of_image(kind, &path, options));
        // The mount keeps the image when its name goes.
        or_skip(made).map(|mountpoint| (kind, mountpoint))
    };
    let tmpfs = or_skip(Mountpoint::tmpfs("size=32m")).map(|mountpoint| ("tmpfs", mountpoint));
    [
        tmpfs,
        of_image("ext4", "acl,user_xattr", make_ext4),
        of_image("xfs", "nouuid", make_xfs),
        of_image("btrfs", "acl", make_btrfs),
    ]
    .into_iter()
    .flatten()
    .filter(|(kind, mountpoint)| {
        let takes = setxattr(mountpoint.path(), DEFAULT, &shared_list(), XattrFlags::empty()).is_ok();
        if takes {
            rustix::fs::removexattr(mountpoint.path(), DEFAULT).unwrap();
        } else {
            eprintln!("skipped: {kind} takes no access control lists here");
        }
        takes
    })
    .collect()
}

fn each_daemon(test: impl Fn(&TestDaemon, &Path, &str)) {
    for (kind, mountpoint) in file_systems() {
        for driver in drivers() {
            let root = mountpoint.path().join(format!("{driver:?}"));
            fs::create_dir(&root).unwrap();
            let settings = Settings {
                driver,
                create_dirs: true,
                durability: Durability::Fsync,
                ..taking_uploads(&root)
            };
            let daemon = TestDaemon::start(settings);
            test(&daemon, &root, &format!("{kind} {driver:?}"));
        }
    }
}

/// Sends the last bytes. The lock of a partial's file belongs to its open description, which a process that another
/// test starts at this moment holds until it runs its program: that is a 409 of a moment.
fn go_on(daemon: &TestDaemon, method: &str, path: &str, fields: &str) {
    wait_until("the upload to be gone on with", || {
        let ended = send(daemon.data(), method, path, fields, b"dy");
        assert!(ended.status < 300 || ended.status == 409, "{path}: {} {}", ended.status, ended.text());
        ended.status != 409
    });
}

/// Uploads in each way, and compares with the file that a program leaves in the same directory.
fn assert_like_a_program(daemon: &TestDaemon, root: &Path, directory: &str, name: &str) {
    fs::write(root.join(directory).join("program"), b"x").unwrap();
    let expected = facts(&root.join(directory).join("program"));
    let at = |way: &str| format!("/{directory}/{way}");
    assert_eq!(put(daemon.data(), &at("whole"), "", b"body").status, 201, "{name}");
    let first = put(daemon.data(), &at("ranged"), "Content-Range: bytes 0-1/4\r\n", b"bo");
    assert!(first.status < 300, "{name}: {}", first.status);
    let proof = first.field("Upload-Id").map_or_else(String::new, |id| format!("Upload-Id: {id}\r\n"));
    let fields = format!("Content-Range: bytes 2-3/4\r\n{proof}");
    go_on(daemon, "PUT", &at("ranged"), &fields);
    let begun = send(daemon.data(), "POST", &at("resumable"), "Upload-Complete: ?0\r\n", b"bo");
    let resource = begun.field("Location").unwrap();
    let fields = "Content-Type: application/partial-upload\r\nUpload-Offset: 2\r\nUpload-Complete: ?1\r\n";
    go_on(daemon, "PATCH", resource, fields);
    for way in ["whole", "ranged", "resumable"] {
        assert_eq!(facts(&root.join(directory).join(way)), expected, "{name} {directory} {way}");
    }
}

#[test]
fn a_new_file_is_a_member_of_its_directory() {
    each_daemon(|daemon, root, name| {
        make_directory(&root.join("group"), GROUP, 0o2775, None);
        make_directory(&root.join("list"), 0, 0o755, Some(&shared_list()));
        make_directory(&root.join("both"), GROUP, 0o2770, Some(&shared_list()));
        make_directory(&root.join("plain"), GROUP, 0o755, None);
        for directory in ["group", "list", "both", "plain"] {
            assert_like_a_program(daemon, root, directory, name);
        }
        assert_eq!(facts(&root.join("group/whole")).1, GROUP, "{name}");
        assert_eq!(facts(&root.join("plain/whole")).1, 0, "{name}");
        assert!(facts(&root.join("both/whole")).3.is_some(), "{name}");
        // Directories that are made for it share as well.
        assert_eq!(put(daemon.data(), "/both/made/here/file", "", b"body").status, 201, "{name}");
        assert_eq!(facts(&root.join("both/made/here/file")), facts(&root.join("both/program")), "{name}");
        assert_eq!(fs::metadata(root.join("both/made")).unwrap().gid(), GROUP, "{name}");
    });
}

/// The daemon's own directory lies in the root and inherits its properties; uploads to other directories must not.
#[test]
fn what_the_root_shares_stays_there() {
    for (kind, mountpoint) in file_systems() {
        for driver in drivers() {
            let root = mountpoint.path().join(format!("{driver:?}"));
            make_directory(&root, GROUP, 0o2770, Some(&shared_list()));
            let daemon = TestDaemon::start(Settings { driver, ..taking_uploads(&root) });
            let name = format!("{kind} {driver:?}");
            make_directory(&root.join("plain"), 0, 0o755, None);
            rustix::fs::removexattr(root.join("plain"), DEFAULT).unwrap();
            fs::set_permissions(root.join("plain"), Permissions::from_mode(0o755)).unwrap();
            let status = Command::new("chmod").arg("g-s").arg(root.join("plain")).status();
            assert!(status.unwrap().success());
            assert_like_a_program(&daemon, &root, "plain", &name);
            assert_like_a_program(&daemon, &root, ".", &name);
            let staging = root.join(".streamd-uploads");
            assert_eq!((facts(&staging).2, attribute(&staging, DEFAULT)), (0o700, None), "{name}");
        }
    }
}

#[test]
fn a_replaced_file_keeps_what_a_writer_would_leave() {
    each_daemon(|daemon, root, name| {
        make_directory(&root.join("shared"), GROUP, 0o2775, Some(&shared_list()));
        for (number, (owner, group, mode, list)) in [
            (0, OTHER_GROUP, 0o640, None),
            (USER, OTHER_GROUP, 0o604, None),
            (0, GROUP, 0o600, None),
            (0, GROUP, 0o6775, None),
            (0, OTHER_GROUP, 0o640, Some(own_list())),
            (0, OTHER_GROUP, 0o660, Some(shared_list())),
        ]
        .into_iter()
        .enumerate()
        {
            let path = root.join(format!("shared/file-{number}"));
            fs::write(&path, b"before").unwrap();
            if rustix::fs::removexattr(&path, ACCESS).is_err() {
                eprintln!("{name}: no list to begin with");
            }
            chown(&path, Some(owner), Some(group)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            if let Some(list) = list {
                set_attribute(&path, ACCESS, &list);
            }
            set_attribute(&path, "user.note", b"kept");
            set_attribute(&path, "user.streamd.digest", b"of the former content");
            let (owner, group, mode, list) = facts(&path);
            let expected = (owner, group, mode & 0o777, list);
            let response = put(daemon.data(), &format!("/shared/file-{number}"), "", b"after");
            assert_eq!(response.status, 204, "{name}");
            assert_eq!(fs::read(&path).unwrap(), b"after", "{name}");
            assert_eq!(facts(&path), expected, "{name} {number}");
            assert_eq!(attribute(&path, "user.note").as_deref(), Some(&b"kept"[..]), "{name} {number}");
            let digest = attribute(&path, "user.streamd.digest");
            assert_ne!(digest.as_deref(), Some(&b"of the former content"[..]), "{name} {number}");
        }
        // A link is replaced by a file of its directory.
        fs::write(root.join("elsewhere"), b"before").unwrap();
        fs::set_permissions(root.join("elsewhere"), Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("../elsewhere", root.join("shared/link")).unwrap();
        fs::write(root.join("shared/program"), b"x").unwrap();
        assert_eq!(put(daemon.data(), "/shared/link", "", b"after").status, 204, "{name}");
        assert_eq!(facts(&root.join("shared/link")), facts(&root.join("shared/program")), "{name}");
    });
}

/// A directory that everybody may enter, which holds the program and a root with a directory that shares GROUP.
struct Shared {
    _directory: tempfile::TempDir,
    program: PathBuf,
    root: PathBuf,
}

impl Shared {
    fn new() -> Shared {
        let directory =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let (program, root) = (directory.path().join("streamd"), directory.path().join("root"));
        fs::copy(env!("CARGO_BIN_EXE_streamd"), &program).unwrap();
        make_directory(&root, 0, 0o777, None);
        make_directory(&root.join("shared"), GROUP, 0o2777, None);
        Shared { _directory: directory, program, root }
    }

    fn directory(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// Starts the daemon as a user that isn't in the directory's group; None, with a line that says so, where that
    /// can't be.
    fn start(&self, wrapper: &[&str]) -> Option<Process> {
        let wrapped = || {
            let mut command = Command::new("setpriv");
            let id = USER.to_string();
            command
                .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
                .args(wrapper)
                .arg(&self.program);
            command
        };
        if !wrapped().arg("--version").output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: the daemon can't be started by setpriv {wrapper:?} here");
            return None;
        }
        let mut command = wrapped();
        command.args(TEST_FLAGS).args(["--uploads", "--create-dirs", "--root"]).arg(&self.root);
        command.env("STREAMD_CONNECTIONS_MAX", "100");
        Some(Process::spawn(command))
    }
}

/// The files that the daemon creates there belong to the group all the same, but it may not give a file to another
/// one.
#[test]
fn what_is_not_permitted_is_left_and_said_once() {
    let shared = Shared::new();
    let Some(process) = shared.start(&[]) else { return };
    assert_eq!(put(process.data(), "/shared/new", "", b"body").status, 201);
    assert_eq!(facts(&shared.directory().join("new")).1, GROUP);
    assert_eq!(put(process.data(), "/shared/made/here/new", "", b"body").status, 201);
    assert_eq!(facts(&shared.directory().join("made/here/new")).1, GROUP);
    for number in 0..2 {
        let path = shared.directory().join(format!("file-{number}"));
        fs::write(&path, b"before").unwrap();
        chown(&path, Some(0), Some(OTHER_GROUP)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(put(process.data(), &format!("/shared/file-{number}"), "", b"after").status, 204);
        // The group isn't the one that was meant, so it gets everybody's permissions.
        let (owner, group, mode, _) = facts(&path);
        assert_eq!((owner, group, mode), (USER, GROUP, 0o644));
    }
    process.wait_for_line("is not what a file in its directory should be");
    assert_eq!(put(process.data(), "/shared/last", "", b"body").status, 201);
    let said = process.log().iter().filter(|line| line.contains("is not what a file in its")).count();
    assert_eq!(said, 1);
}

/// The case is that of the unit, where `PrivateUsers=yes` leaves the daemon without a number for any other group
/// or user.
#[test]
fn groups_without_a_number_are_shared_as_well() {
    let shared = Shared::new();
    let list = setxattr(shared.directory(), DEFAULT, &shared_list(), XattrFlags::empty());
    let namespace = ["unshare", "--user", "--map-current-user", "--"];
    let Some(process) = shared.start(&namespace) else { return };
    assert_eq!(put(process.data(), "/shared/file", "", b"before").status, 201);
    fs::write(shared.directory().join("program"), b"x").unwrap();
    let (_, group, mode, acl) = facts(&shared.directory().join("program"));
    assert_eq!(facts(&shared.directory().join("file")), (USER, group, mode, acl.clone()));
    assert!(group == GROUP && acl.is_some() == list.is_ok());
    // The uploaded file is replaced by another upload.
    assert_eq!(put(process.data(), "/shared/file", "", b"after").status, 204);
    assert_eq!(facts(&shared.directory().join("file")), (USER, group, mode, acl));
}
