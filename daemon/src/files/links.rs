//! The mount to which symbolic links lead a name, found before anything there is opened.

use std::os::fd::AsFd;

use rustix::fs::readlinkat;
use rustix::io::Errno;

use super::mounts::{MountId, Mounts};

/// The most links that are followed, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Returns the first mount on the way of `path` that is neither the root's own nor one of `known`; None where
/// there is none, or no way. It reads the links on the way one by one, and so asks no other mount for anything.
/// Waits for the disk.
pub(super) fn lead_to(root: impl AsFd, mounts: &Mounts, path: &[u8], known: &[MountId]) -> Option<MountId> {
    // `parts` holds the rest of the way, the next part last; `here` is the path so far, without links.
    let mut parts: Vec<Vec<u8>> = parts_of(path).collect();
    let mut here = Vec::new();
    let mut links = 0;
    while let Some(part) = parts.pop() {
        if part == b".." {
            // The way leads above the root, where nothing is found.
            let end = if here.is_empty() { return None } else { memchr::memrchr(b'/', &here).unwrap_or(0) };
            here.truncate(end);
            continue;
        }
        let parent = here.len();
        if parent > 0 {
            here.push(b'/');
        }
        here.extend_from_slice(&part);
        let mount = mounts.of_path(&here);
        if mount != mounts.root() && !known.contains(&mount) {
            return Some(mount);
        }
        match readlinkat(&root, here.as_slice(), Vec::new()) {
            // An absolute link leads outside.
            Ok(target) if target.as_bytes().starts_with(b"/") => return None,
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                here.truncate(parent);
                parts.extend(parts_of(target.as_bytes()));
            }
            // This part is no link.
            Err(Errno::INVAL) => {}
            Err(_) => return None,
        }
    }
    None
}

/// Returns the parts of a path, the last first.
fn parts_of(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').rev();
    parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{MountId, Mounts, lead_to};

    #[test]
    fn links_lead_to_the_first_other_mount_on_their_way() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("own/deep")).unwrap();
        std::fs::write(at("own/file"), "").unwrap();
        for (link, target) in [
            ("to-data", "data"),
            ("own/up", "../data/x"),
            ("own/deep/two", "../../own/up/../y"),
            ("chain", "own/deep/../up"),
            ("to-other", "data/../other"),
            ("absolute", "/data"),
            ("outside", "../data"),
            ("loop", "loop"),
            ("inside", "own/./file"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let root_mount = MountId::numbered(1);
        let [data, other] = [2, 3].map(MountId::numbered);
        let mounts = Mounts::of_points(root_mount, &[("data", data), ("other", other)]);
        let root = std::fs::File::open(directory.path()).unwrap();
        for (path, known, leads) in [
            ("data/x", &[][..], Some(data)),
            ("to-data", &[], Some(data)),
            ("to-data/x", &[root_mount], Some(data)),
            ("own/up", &[], Some(data)),
            ("own/deep/two", &[], Some(data)),
            ("chain/x", &[], Some(data)),
            // The way leads through the mount that is known, which has to be asked then.
            ("to-other", &[], Some(data)),
            ("other/x", &[data], Some(other)),
            ("own/file", &[], None),
            ("inside", &[], None),
            ("absent", &[], None),
            ("absolute", &[], None),
            ("outside", &[], None),
            ("loop", &[], None),
        ] {
            assert_eq!(lead_to(&root, &mounts, path.as_bytes(), known), leads, "{path}");
        }
    }
}
