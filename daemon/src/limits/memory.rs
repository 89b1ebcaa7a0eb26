//! The memory that this process may have, into which everything that is held for others has to fit.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::system::sysinfo;

/// The files of a cgroup that limit its memory, the first of version 1. Above `memory.high` nothing is killed, but its
/// processes wait for what is reclaimed from them (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).
const FILES_V1: &[&str] = &["memory.limit_in_bytes"];
const FILES_V2: &[&str] = &["memory.max", "memory.high"];

/// Returns the least of the host's memory and the limits of this process's cgroup and each one above it, in bytes.
/// A limit that can't be read doesn't count. Reads files, so it is called at the start alone.
pub fn memory_limit_bytes() -> u64 {
    let host = sysinfo();
    let host_bytes = u64::from(host.mem_unit).saturating_mul(host.totalram);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let directories = cgroups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let limits = directories.iter().flat_map(|(directory, files)| {
        files.iter().filter_map(|file| limit(&fs::read_to_string(directory.join(file)).ok()?))
    });
    limits.chain([host_bytes]).min().unwrap_or(host_bytes)
}

/// Parses the content of a limit's file; None where it is `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Returns the directories of the process's cgroups, up to where their hierarchies are mounted, and the files that
/// limit memory there, by /proc/self/cgroup (cgroups(7)) and /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn cgroups(of_process: &str, mounts: &str) -> Vec<(PathBuf, &'static [&'static str])> {
    let mut directories = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let path = of_process.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let has_memory = controllers.split(',').any(|controller| controller == "memory");
            (if mount.is_v2 { controllers.is_empty() } else { has_memory }).then_some(path)
        });
        let Some(path) = path else { continue };
        let files = if mount.is_v2 { FILES_V2 } else { FILES_V1 };
        // A container has its own cgroup mounted alone, and with a namespace the path begins there too.
        let below = Path::new(path).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let is_plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let below = if is_plain { below } else { Path::new("") };
        directories.extend(below.ancestors().map(|step| (Path::new(mount.point).join(step), files)));
    }
    directories
}

/// A mount of a hierarchy that limits memory.
struct Mount<'a> {
    is_v2: bool,
    /// The directory of the hierarchy that is mounted.
    root: &'a str,
    /// The mount point.
    point: &'a str,
}

impl Mount<'_> {
    /// Parses a line; None for other mounts.
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
        let has_memory = options.split(',').any(|option| option == "memory");
        match kind {
            "cgroup2" => Some(Mount { is_v2: true, root, point }),
            "cgroup" if has_memory => Some(Mount { is_v2: false, root, point }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FILES_V1, FILES_V2, cgroups, limit, memory_limit_bytes};

    fn directories(of_process: &str, mounts: &str) -> Vec<(String, usize)> {
        let found = cgroups(of_process, mounts).into_iter();
        found
            .map(|(path, files)| (path.to_str().unwrap().trim_end_matches('/').to_owned(), files.len()))
            .collect()
    }

    fn expected(paths: &[&str], files: &[&str]) -> Vec<(String, usize)> {
        paths.iter().map(|path| ((*path).to_owned(), files.len())).collect()
    }

    #[test]
    fn the_cgroup_and_those_above_it_are_found() {
        let v2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                  32 23 0:29 / /proc rw - proc proc rw\n";
        let service = "0::/system.slice/streamd.service\n";
        let paths =
            ["/sys/fs/cgroup/system.slice/streamd.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"];
        assert_eq!(directories(service, v2), expected(&paths, FILES_V2));
        assert_eq!(directories("0::/\n", v2), expected(&["/sys/fs/cgroup"], FILES_V2));
        // The path is seen from outside of the namespace.
        assert_eq!(directories("0::/../other\n", v2), expected(&["/sys/fs/cgroup"], FILES_V2));

        let v1 = "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                  35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let both = "8:pids:/a\n4:memory:/a/b\n1:cpu:/c\n0::/\n";
        let paths = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"];
        assert_eq!(directories(both, v1), expected(&paths, FILES_V1));
        // A container of version 1 sees the host's path, and its own directory alone.
        let own = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(
            directories("4:memory:/docker/abc\n", own),
            expected(&["/sys/fs/cgroup/memory"], FILES_V1)
        );
        assert_eq!(directories("4:memory:/other\n", own), expected(&["/sys/fs/cgroup/memory"], FILES_V1));
        assert_eq!(directories("", ""), []);
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!((limit("67108864\n"), limit("max\n"), limit("")), (Some(67_108_864), None, None));
        assert!(memory_limit_bytes() > 1 << 20);
    }
}
