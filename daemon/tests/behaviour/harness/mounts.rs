//! File systems of a test's own. Most hosts let root alone mount them; where one can't be had that is printed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, Filesystem};

/// The seconds that a command of the system may take: none of these needs one, but a file system that hangs would
/// hang the test with it.
const COMMAND_SECONDS_MAX: &str = "30";

/// The beginning of the directories' names, before the id of the process that made them.
const PREFIX: &str = "mount-";

/// The time for which a file system may stay in use by threads that a daemon leaves to themselves when it ends.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// A directory with a file system mounted at it; both are gone when it is dropped.
pub(crate) struct Mountpoint {
    path: PathBuf,
    /// The directory, which outlives the mount.
    _directory: tempfile::TempDir,
}

impl Mountpoint {
    /// Makes a directory at which nothing is mounted yet.
    pub(crate) fn new() -> Mountpoint {
        static STALE_REMOVED: Once = Once::new();
        STALE_REMOVED.call_once(remove_stale);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("mounted");
        std::fs::create_dir(&path).unwrap();
        Mountpoint { path, _directory: directory }
    }

    /// Mounts a tmpfs.
    pub(crate) fn tmpfs(options: &str) -> Result<Mountpoint, String> {
        let mountpoint = Mountpoint::new();
        run("mount", ["-t", "tmpfs", "-o", options, "none"].map(OsStr::new), &mountpoint.path)?;
        Ok(mountpoint)
    }

    /// Mounts the ext4 in an image ([`Mountpoint::of_image`]).
    pub(crate) fn ext4(image: &Path, options: &str) -> Result<Mountpoint, String> {
        Mountpoint::of_image("ext4", image, options)
    }

    /// Mounts the file system in an image, on a loop device that goes with the mount.
    pub(crate) fn of_image(kind: &str, image: &Path, options: &str) -> Result<Mountpoint, String> {
        let mountpoint = Mountpoint::new();
        let options = format!("loop,{options}");
        let arguments = ["-t".as_ref(), kind.as_ref(), "-o".as_ref(), options.as_ref(), image.as_os_str()];
        run("mount", arguments, &mountpoint.path)?;
        Ok(mountpoint)
    }

    /// Mounts an overlayfs that shows the content of `lower`.
    pub(crate) fn overlay(lower: &Path) -> Result<Mountpoint, String> {
        let mountpoint = Mountpoint::new();
        // One layer alone makes no overlayfs: an empty one lies above it.
        let above = mountpoint.path.with_file_name("above");
        std::fs::create_dir(&above).unwrap();
        let options = format!("lowerdir={}:{}", above.display(), lower.display());
        run("mount", ["-t", "overlay", "-o", &options, "overlay"].map(OsStr::new), &mountpoint.path)?;
        Ok(mountpoint)
    }

    /// Shows another directory there.
    pub(crate) fn bind(&self, directory: &Path) -> Result<(), String> {
        run("mount", [OsStr::new("--bind"), directory.as_os_str()], &self.path)
    }

    /// Returns the mount point.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the options of the mount.
    pub(crate) fn remount(&self, options: &str) -> Result<(), String> {
        let options = format!("remount,{options}");
        run("mount", ["-o", &options].map(OsStr::new), &self.path)
    }

    /// Returns the block device that is mounted, without its directory.
    pub(crate) fn device(&self) -> String {
        let output = command("findmnt").args(["--noheadings", "--output", "SOURCE"]).arg(&self.path).output();
        let device = String::from_utf8(output.unwrap().stdout).unwrap();
        device.trim().rsplit('/').next().unwrap().to_owned()
    }

    /// Unmounts the file system; false where somebody still uses it, and then it is gone from the directory and
    /// goes with its last user.
    pub(crate) fn unmount(&self) -> bool {
        unmount(&self.path)
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn unmount(path: &Path) -> bool {
    let quietly = |arguments: &[&str]| command("umount").args(arguments).arg(path).output();
    let end = Instant::now() + BUSY_MAX;
    while is_mounted(path) {
        if quietly(&[]).is_ok_and(|output| output.status.success()) {
            return true;
        }
        if Instant::now() > end {
            // With FUSE the first step ends calls that wait for an answer (umount(2), MNT_FORCE).
            let _ = quietly(&["--force"]);
            let _ = quietly(&["--lazy"]);
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    true
}

fn is_mounted(path: &Path) -> bool {
    mounted().any(|mounted| mounted == path)
}

/// Returns the mount points, the newest first, which may lie on an older one.
fn mounted() -> impl Iterator<Item = PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    paths.collect::<Vec<_>>().into_iter().rev()
}

/// Unmounts file systems that an aborted earlier run left.
fn remove_stale() {
    for path in mounted() {
        let Ok(below) = path.strip_prefix(env!("CARGO_TARGET_TMPDIR")) else { continue };
        let Some(name) = below.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let owner = name.split('-').next().unwrap();
        if !Path::new("/proc").join(owner).exists() {
            unmount(&path);
            // The unmount has emptied it, but for the directory itself.
            let _ = std::fs::remove_dir(&path).and_then(|()| std::fs::remove_dir(path.parent().unwrap()));
        }
    }
}

/// Mounts a file system that this process serves; None, with a line that says so, where the host doesn't allow it.
pub(crate) fn mount_fuse(
    file_system: impl Filesystem,
    mountpoint: &Mountpoint,
    config: &Config,
) -> Option<BackgroundSession> {
    or_skip(
        fuser::spawn_mount(file_system, mountpoint.path(), config).map_err(|error| format!("FUSE: {error}")),
    )
}

/// Writes an empty ext4 of `bytes` into `image`.
pub(crate) fn make_ext4(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    // The image is wholly initialised: nothing but the test writes to it later.
    run("mkfs.ext4", ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"].map(OsStr::new), image)
}

/// Writes an empty xfs of `bytes` into `image`.
pub(crate) fn make_xfs(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run("mkfs.xfs", ["-q"].map(OsStr::new), image)
}

/// Writes an empty btrfs of `bytes` into `image`; it takes no less than 109 MiB.
pub(crate) fn make_btrfs(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run("mkfs.btrfs", ["-q"].map(OsStr::new), image)
}

/// Writes an empty FAT of `bytes` into `image`.
pub(crate) fn make_vfat(image: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run("mkfs.vfat", [], image)
}

/// Repairs the ext4 in an image as after a crash.
pub(crate) fn repair_ext4(image: &Path) {
    let output = command("e2fsck").arg("-fy").arg(image).output().unwrap();
    // e2fsck(8): 1 is "errors corrected", which the replay of the journal counts as; from 4 on there are some left.
    assert!(output.status.code().is_some_and(|code| code <= 1), "{output:?}");
}

/// Returns the value; None, with a line that says so, where it can't be had on this host.
pub(crate) fn or_skip<T>(result: Result<T, String>) -> Option<T> {
    result.map_err(|reason| eprintln!("skipped: {reason}")).ok()
}

fn command(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([COMMAND_SECONDS_MAX, program]);
    // Debian installs some of these programs where an ordinary user's PATH doesn't look.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>, last: &Path) -> Result<(), String> {
    let output =
        command(program).args(arguments).arg(last).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", last.display(), String::from_utf8_lossy(&output.stderr).trim()))
}
