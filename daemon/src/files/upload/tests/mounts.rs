//! Uploads on other file systems: small ones that fill up, read-only ones, and ones mounted below the root.
//! Mounting needs root.

use std::process::Command;

use super::super::super::free_space::Shortage;
use super::super::destination::{Destination, identify};
use super::*;

/// A mounted file system, unmounted when dropped.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a tmpfs; None, with a line that says so, where the process may not mount.
    pub(super) fn tmpfs(path: PathBuf, options: &str) -> Option<Mounted> {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&path))?;
        Some(Mounted(path))
    }

    /// Mounts an ext4 in an image that promises far more than its own file system, a tmpfs, has: bytes beyond that
    /// fail when they are written back, as on a failing disk.
    fn failing(path: PathBuf, tmpfs: &Mounted) -> Option<Mounted> {
        let image = tmpfs.0.join("image");
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &path]))?;
        Some(Mounted(path))
    }

    pub(super) fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", options]).arg(&self.0).status().unwrap();
        assert!(status.success(), "{options}");
    }
}

fn run(command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(output) if output.status.success() => Some(()),
        result => {
            println!("skipped: {command:?}: {result:?}");
            None
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Makes a fixture whose root is a tmpfs.
pub(super) fn on_tmpfs(options: &str) -> Option<(Fixture, Mounted)> {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("root");
    std::fs::create_dir(&path).unwrap();
    let mount = Mounted::tmpfs(path.clone(), options)?;
    Some((Fixture::at(path, outer), mount))
}

/// Makes a fixture with a tmpfs at `mnt`.
fn with_mount() -> Option<(Fixture, Mounted)> {
    let fixture = Fixture::new();
    let path = fixture.path.join("mnt");
    std::fs::create_dir(&path).unwrap();
    let mount = Mounted::tmpfs(path, "size=64m")?;
    Some((fixture, mount))
}

#[test]
fn a_full_disk_is_told_before_the_body_where_its_length_is_known() {
    let Some((fixture, _mount)) = on_tmpfs("size=4m") else { return };
    fixture.put("/file", b"before").unwrap();
    let error = fixture.uploads.begin(&plan("/file", Some(8 << 20)), &limits()).unwrap_err();
    assert_eq!(error, UploadError::NoSpace(Shortage::Disk));
    fixture.assert_clean();
    // Each of the two uploads would fit alone: room that one has only announced is there for the other.
    let mut first = fixture.uploads.begin(&plan("/file", Some(3 << 20)), &limits()).unwrap();
    first.write(b"1").unwrap();
    assert_eq!(fixture.uploads.usage().bytes_ahead, (1 << 20) - 1);
    assert!(fixture.put("/file", &pattern(2 << 20)).is_ok());
    let error = first.write(&pattern(3 << 20)[1..]).unwrap_err();
    assert_eq!(error, UploadError::NoSpace(Shortage::Disk));
    drop(first);
    fixture.assert_clean();
    assert!(fixture.put("/other", &pattern(1 << 20)).is_ok());
}

#[test]
fn a_disk_that_fills_up_fails_the_upload_and_gets_its_space_back() {
    let Some((fixture, _mount)) = on_tmpfs("size=4m") else { return };
    fixture.put("/file", b"before").unwrap();
    for is_resource in [false, true] {
        let plan = plan("/file", None);
        let begin = if is_resource { Uploads::create } else { Uploads::begin };
        let mut writer = begin(&fixture.uploads, &plan, &limits()).unwrap();
        let block = pattern(64 << 10);
        let error = (0..100).find_map(|_| writer.write(&block).err()).unwrap();
        assert_eq!(error, UploadError::NoSpace(Shortage::Disk));
        assert_eq!(writer.publish(&Publication::default()), Err(UploadError::TakenOver));
        assert_eq!(fixture.read("file").unwrap(), b"before");
        fixture.assert_clean();
    }
    assert!(fixture.put("/other", &pattern(3 << 20)).is_ok(), "the space is free again");
}

#[test]
fn the_last_bytes_may_be_the_ones_that_find_no_room() {
    let Some((fixture, _mount)) = on_tmpfs("size=1m") else { return };
    fixture.put("/file", b"before").unwrap();
    // The length is below what is allocated ahead, so that only the writes tell.
    let mut writer = fixture.uploads.begin(&plan("/file", Some((1 << 20) - 1)), &limits());
    if let Ok(writer) = &mut writer {
        std::fs::write(fixture.path.join("filler"), pattern(512 << 10)).unwrap();
        let error = pattern((1 << 20) - 1).chunks(1 << 16).find_map(|chunk| writer.write(chunk).err());
        assert_eq!(error, Some(UploadError::NoSpace(Shortage::Disk)));
    }
    drop(writer);
    assert_eq!(fixture.read("file").unwrap(), b"before");
    fixture.assert_clean();
}

#[test]
fn a_read_only_file_system_is_told() {
    let Some((mut fixture, mount)) = on_tmpfs("size=4m") else { return };
    fixture.put("/file", b"before").unwrap();
    let kept = fixture.cut_short("/file", b"12345", 10);
    assert!(kept.is_resumable);
    mount.remount("remount,ro");
    assert_eq!(fixture.put("/file", b"after").unwrap_err(), UploadError::ReadOnly);
    let error = fixture.uploads.resume_destination(&plan("/file", Some(10)), 5, &limits()).unwrap_err();
    assert_eq!(error, UploadError::ReadOnly);
    assert_eq!(fixture.uploads.delete(&name("/file"), None, &limits()), Err(UploadError::ReadOnly));
    assert_eq!(fixture.read("file").unwrap(), b"before");
    fixture.restart();
    mount.remount("remount,rw");
    fixture.put("/file", b"after").unwrap();
    assert_eq!(fixture.read("file").unwrap(), b"after");
}

#[test]
fn uploads_to_another_mount_lie_beside_their_destination() {
    let Some((mut fixture, mount)) = with_mount() else { return };
    let content = pattern(1000);
    assert!(fixture.put("/mnt/file", &content).unwrap().created);
    assert_eq!(fixture.read("mnt/file").unwrap(), content);
    assert_eq!(names(&mount.0), [".streamd-uploads", "file"]);
    assert_eq!(fixture.partials(), ["homes"]);
    // The upload is continued after a restart, which finds the staging directory by the list.
    let mut writer = fixture.uploads.create(&plan("/mnt/other", Some(1000)), &limits()).unwrap();
    let upload = writer.resource();
    writer.write(&content[..400]).unwrap();
    assert_eq!(names(&mount.0.join(".streamd-uploads")), [upload.id.to_string()]);
    assert_eq!(upload.path_below("/"), format!("/mnt/.streamd-uploads/{}", upload.id));
    assert_eq!(fixture.uploads.status(&UploadResource::of_root(upload.id)), Err(UploadError::NotFound));
    writer.crash();
    fixture.restart();
    if let Ok(mut writer) = fixture.uploads.resume(&upload, 400, None, &limits()) {
        writer.write(&content[400..]).unwrap();
        writer.publish(&Publication::default()).unwrap();
        assert_eq!(fixture.read("mnt/other").unwrap(), content);
    } else {
        println!("skipped: no extended attributes on tmpfs");
    }
    fixture.uploads.sweep(Duration::ZERO);
    // An empty staging directory isn't kept over a restart.
    fixture.restart();
    assert_eq!(names(&mount.0), ["file", "other"]);
    assert!(std::fs::read(fixture.staging().join("homes")).unwrap().is_empty());
    fixture.put("/mnt/file", b"again").unwrap();
}

#[test]
fn on_another_mount_directories_are_made_with_the_name_too() {
    let Some((mut fixture, mount)) = with_mount() else { return };
    let limits = UploadLimits { create_dirs: true, ..limits() };
    let plan = plan("/mnt/new/deep/file", Some(10));
    let mut writer = fixture.uploads.create(&plan, &limits).unwrap();
    let upload = writer.resource();
    writer.write(b"12345").unwrap();
    // The staging directory lies beside the last directory that exists.
    assert_eq!(upload.path_below("/"), format!("/mnt/.streamd-uploads/{}", upload.id));
    assert_eq!(names(&mount.0), [".streamd-uploads"]);
    writer.keep().unwrap();
    fixture.restart();
    if let Ok(mut writer) = fixture.uploads.resume(&upload, 5, None, &limits) {
        writer.write(b"67890").unwrap();
        assert_eq!(names(&mount.0), [".streamd-uploads"]);
        writer.publish(&Publication::default()).unwrap();
        assert_eq!(fixture.read("mnt/new/deep/file").unwrap(), b"1234567890");
    } else {
        println!("skipped: no extended attributes on tmpfs");
    }
}

#[test]
fn a_sweep_comes_to_the_staging_directories_on_other_mounts() {
    let Some((fixture, mount)) = with_mount() else { return };
    fixture.cut_short("/mnt/file", b"12345", 10);
    let staging = mount.0.join(".streamd-uploads");
    let left = staging.join("0".repeat(32));
    std::fs::write(&left, "left behind").unwrap();
    let file = std::fs::File::options().write(true).open(&left).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    assert_eq!(fixture.uploads.sweep(Duration::ZERO).partials, 2);
    assert!(names(&staging).is_empty());
}

#[test]
fn what_cannot_be_renamed_is_copied_beside_its_destination() {
    let Some((mut fixture, mount)) = with_mount() else { return };
    // The layout is one where two directories of one mount don't let files be renamed between them.
    let destination = Destination::resolve(&fixture.root, &name("/mnt/file"), &limits()).unwrap();
    let (_, staging_mount, _) = identify(destination.directory()).unwrap();
    fixture.rearrange(|storage| storage.staging_mount = staging_mount);
    let content = pattern(LONG);
    let digests = digests_of(&content);
    let publication =
        Publication { digests: [digests, Digests::default()], is_new: true, ..Publication::default() };
    let published = fixture.put_if("/mnt/file", &content, &publication).unwrap();
    assert!(published.created);
    assert_eq!(fixture.etag("/mnt/file").unwrap(), published.etag);
    assert!(fixture.read("mnt/file").unwrap() == content);
    assert_eq!(fixture.partials(), ["homes"]);
    assert!(names(&mount.0.join(".streamd-uploads")).is_empty());
    assert_eq!(
        fixture.put_if("/mnt/file", b"late", &publication),
        Err(UploadError::DigestMismatch {
            algorithm: Algorithm::Sha256,
            computed: digests_of(b"late"),
            is_of_request: false
        })
    );
    // The next upload knows that from the start.
    let writer = fixture.uploads.create(&plan("/mnt/file", None), &limits()).unwrap();
    assert_eq!(names(&mount.0.join(".streamd-uploads")), [writer.id().to_string()]);
}

#[test]
fn a_copy_that_finds_no_room_leaves_both_directories_clean() {
    let Some((mut fixture, mount)) = with_mount() else { return };
    fixture.put("/mnt/file", b"before").unwrap();
    let destination = Destination::resolve(&fixture.root, &name("/mnt/file"), &limits()).unwrap();
    let (_, staging_mount, _) = identify(destination.directory()).unwrap();
    drop(destination);
    fixture.rearrange(|storage| {
        storage.staging_mount = staging_mount;
        storage.staging_directories = Default::default();
    });
    std::fs::write(mount.0.join("filler"), vec![7; 63 << 20]).unwrap();
    assert_eq!(fixture.put("/mnt/file", &pattern(LONG)), Err(UploadError::NoSpace(Shortage::Disk)));
    assert_eq!(fixture.read("mnt/file").unwrap(), b"before");
    assert!(names(&mount.0.join(".streamd-uploads")).is_empty());
    assert_eq!(fixture.partials(), ["homes"]);
}

#[test]
fn a_sync_that_fails_fails_the_upload_for_good() {
    let outer = tempfile::tempdir().unwrap();
    let [small, path] = ["small", "root"].map(|name| outer.path().join(name));
    std::fs::create_dir(&small).unwrap();
    std::fs::create_dir(&path).unwrap();
    let Some(small) = Mounted::tmpfs(small, "size=16m") else { return };
    let Some(mount) = Mounted::failing(path.clone(), &small) else { return };
    let fixture = Fixture::at(path, outer);
    let durable = UploadLimits { is_durable: true, ..limits() };
    let put = |bytes: &[u8]| {
        let mut writer = fixture.uploads.begin(&plan("/file", Some(bytes.len() as u64)), &durable)?;
        bytes.chunks(256 << 10).try_for_each(|chunk| writer.write(chunk))?;
        writer.publish(&Publication::default())
    };
    put(b"before").unwrap();
    // The first length is too short for the pieces of write-back, so that the sync at the end finds the fault; the
    // second finds it on the way.
    std::fs::write(small.0.join("filler"), pattern(14 << 20)).ok();
    for length in [6 << 20, 40 << 20] {
        let error = put(&pattern(length)).unwrap_err();
        // The loop device passes on the error of its image's file system.
        assert!(
            matches!(error, UploadError::NoSpace(_) | UploadError::Failed { .. } | UploadError::ReadOnly),
            "{error}"
        );
        assert_eq!(fixture.read("file").unwrap(), b"before");
        assert_eq!(fixture.uploads.usage(), UploadUsage::default());
    }
    drop((mount, small));
}
