//! Other file systems: small ones that fill up, read-only ones, and ones mounted below the root. Mounting needs root.

use std::process::Command;

use super::super::destination::{Destination, identify};
use super::*;

/// A tmpfs, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None, with a line that says so, where the process may not mount.
    fn mount(path: PathBuf, options: &str) -> Option<Tmpfs> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Tmpfs(path)),
            result => {
                println!("skipped: mounting a tmpfs: {result:?}");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", options]).arg(&self.0).status().unwrap();
        assert!(status.success(), "{options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A fixture whose root is a tmpfs.
fn on_tmpfs(options: &str) -> Option<(Fixture, Tmpfs)> {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("root");
    std::fs::create_dir(&path).unwrap();
    let mount = Tmpfs::mount(path.clone(), options)?;
    Some((Fixture::at(path, outer), mount))
}

/// A fixture with a tmpfs at `mnt`.
fn with_mount() -> Option<(Fixture, Tmpfs)> {
    let fixture = Fixture::new();
    let path = fixture.path.join("mnt");
    std::fs::create_dir(&path).unwrap();
    let mount = Tmpfs::mount(path, "size=64m")?;
    Some((fixture, mount))
}

#[test]
fn a_full_disk_is_told_before_the_body_where_its_length_is_known() {
    let Some((fixture, _mount)) = on_tmpfs("size=4m") else { return };
    fixture.put("/file", b"before").unwrap();
    let error = fixture.uploads.begin(&plan("/file", Some(8 << 20)), &limits()).unwrap_err();
    assert_eq!(error, UploadError::NoSpace);
    fixture.assert_clean();
    // Two that fit one by one.
    let first = fixture.uploads.begin(&plan("/file", Some(3 << 20)), &limits()).unwrap();
    let error = fixture.uploads.begin(&plan("/file", Some(3 << 20)), &limits()).unwrap_err();
    assert_eq!(error, UploadError::NoSpace);
    drop(first);
    assert!(fixture.put("/file", &pattern(3 << 20)).is_ok());
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
        assert_eq!(error, UploadError::NoSpace);
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
    // Below what is allocated ahead, so that only the writes tell.
    let mut writer = fixture.uploads.begin(&plan("/file", Some((1 << 20) - 1)), &limits());
    if let Ok(writer) = &mut writer {
        std::fs::write(fixture.path.join("filler"), pattern(512 << 10)).unwrap();
        let error = pattern((1 << 20) - 1).chunks(1 << 16).find_map(|chunk| writer.write(chunk).err());
        assert_eq!(error, Some(UploadError::NoSpace));
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
    // Continued after a restart, which finds the home by the list.
    let mut writer = fixture.uploads.create(&plan("/mnt/other", Some(1000)), &limits()).unwrap();
    let id = writer.id();
    writer.write(&content[..400]).unwrap();
    assert_eq!(names(&mount.0.join(".streamd-uploads")), [id.to_string()]);
    writer.crash();
    fixture.restart();
    if let Ok(mut writer) = fixture.uploads.resume(id, 400, None, &limits()) {
        writer.write(&content[400..]).unwrap();
        writer.publish(&Publication::default()).unwrap();
        assert_eq!(fixture.read("mnt/other").unwrap(), content);
    } else {
        println!("skipped: no extended attributes on tmpfs");
    }
    fixture.uploads.sweep(Duration::ZERO);
    // An empty home isn't kept over a restart.
    fixture.restart();
    assert_eq!(names(&mount.0), ["file", "other"]);
    assert!(std::fs::read(fixture.home().join("homes")).unwrap().is_empty());
    fixture.put("/mnt/file", b"again").unwrap();
}

#[test]
fn a_sweep_comes_to_the_homes_on_other_mounts() {
    let Some((fixture, mount)) = with_mount() else { return };
    fixture.cut_short("/mnt/file", b"12345", 10);
    let home = mount.0.join(".streamd-uploads");
    let left = home.join("0".repeat(32));
    std::fs::write(&left, "left behind").unwrap();
    let file = std::fs::File::options().write(true).open(&left).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    assert_eq!(fixture.uploads.sweep(Duration::ZERO).partials, 2);
    assert!(names(&home).is_empty());
}

#[test]
fn what_cannot_be_renamed_is_copied_beside_its_destination() {
    let Some((mut fixture, mount)) = with_mount() else { return };
    // As where two directories of one mount don't let files be renamed between them.
    let destination = Destination::resolve(&fixture.root, "mnt/file", &limits()).unwrap();
    let (_, home_mount) = identify(destination.directory()).unwrap();
    Arc::get_mut(&mut fixture.uploads).unwrap().home_mount = home_mount;
    let content = pattern(LONG);
    let digests = digests_of(&content);
    let publication = Publication { digests, is_new: true, ..Publication::default() };
    let published = fixture.put_if("/mnt/file", &content, &publication).unwrap();
    assert!(published.created);
    assert_eq!(fixture.etag("/mnt/file").unwrap(), published.etag);
    assert!(fixture.read("mnt/file").unwrap() == content);
    assert_eq!(fixture.partials(), ["homes"]);
    assert!(names(&mount.0.join(".streamd-uploads")).is_empty());
    assert_eq!(
        fixture.put_if("/mnt/file", b"late", &publication),
        Err(UploadError::DigestMismatch { algorithm: super::super::super::digest::Algorithm::Sha256 })
    );
    // The next one knows.
    let writer = fixture.uploads.create(&plan("/mnt/file", None), &limits()).unwrap();
    assert_eq!(names(&mount.0.join(".streamd-uploads")), [writer.id().to_string()]);
}

#[test]
fn a_copy_that_finds_no_room_leaves_both_directories_clean() {
    let Some((mut fixture, mount)) = with_mount() else { return };
    fixture.put("/mnt/file", b"before").unwrap();
    let destination = Destination::resolve(&fixture.root, "mnt/file", &limits()).unwrap();
    let (_, home_mount) = identify(destination.directory()).unwrap();
    drop(destination);
    let uploads = Arc::get_mut(&mut fixture.uploads).unwrap();
    uploads.home_mount = home_mount;
    uploads.homes = Default::default();
    std::fs::write(mount.0.join("filler"), vec![7; 63 << 20]).unwrap();
    assert_eq!(fixture.put("/mnt/file", &pattern(LONG)), Err(UploadError::NoSpace));
    assert_eq!(fixture.read("mnt/file").unwrap(), b"before");
    assert!(names(&mount.0.join(".streamd-uploads")).is_empty());
    assert_eq!(fixture.partials(), ["homes"]);
}
