//! The standard set, which every run measures, so that runs can be compared.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{statfs, statvfs};

use super::plan::{Plan, ServedFile};
use super::upload_names::UploadTo;
use crate::fixture::Fixture;
use crate::result::Work;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The sizes of small bodies, in bytes.
const SMALL_BODIES: [u64; 4] = [KIB, 10 * KIB, 100 * KIB, MIB];

/// The connections of small bodies.
const SMALL_CONNECTIONS: usize = 64;

/// The connections of large bodies.
const LARGE_CONNECTIONS: [usize; 3] = [1, 16, 256];

/// The cold pulls beside hot requests.
const COLD_PULLS: [usize; 3] = [0, 2, 64];

/// The hot connections beside cold pulls.
const MIXED_CONNECTIONS: usize = 8;

/// The bytes of all cold files of a scenario together: at 50 MiB a second they last for ten seconds, so that none
/// is read to its end, and hot from then on, while the clock runs.
const COLD_BYTES: u64 = 512 * MIB;

/// The least bytes of a cold file.
const COLD_FILE_BYTES_MIN: u64 = 16 * MIB;

/// The uploads beside hot requests, and the bytes of each.
const MIXED_UPLOADS: [usize; 2] = [0, 4];
const MIXED_UPLOAD_BYTES: u64 = 256 * MIB;

/// The bytes and connections of uploads that have the server to themselves.
const UPLOADS: [(u64, usize); 2] = [(GIB, 1), (16 * MIB, 64)];

/// The bytes that must stay free where uploads go to.
const FREE_BYTES_MIN: u64 = 256 * MIB;

/// Writes bytes as people do.
pub fn describe_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(GIB) => format!("{} GiB", bytes / GIB),
        _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}

/// A scenario before its files are made.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The id, short and unique: `pull-1GiB-16c`.
    pub id: String,
    title: String,
    work: Work,
    /// The size of the hot file that is asked for.
    hot_bytes: Option<u64>,
    /// The directory that uploads go to.
    uploads: Option<UploadTo>,
}

/// A directory that uploads go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDirectory {
    /// Its name below the root.
    pub name: String,
    /// The name of its file system.
    pub file_system: &'static str,
}

impl PutDirectory {
    /// Inspects the directory `name` below `root`, which is made where it doesn't exist.
    pub fn look(root: &Path, name: &str) -> Result<PutDirectory> {
        let path = root.join(name);
        if Path::new(name).file_name().is_none_or(|last| last != name) {
            bail!("--put-directory {name:?} is no name of a directory below {}", root.display());
        }
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        // The numbers are those of statfs(2).
        let file_system = match statfs(&path)?.f_type {
            0x0102_1994 => MEMORY,
            0xef53 => "ext4",
            0x5846_5342 => "xfs",
            0x9123_683e => "btrfs",
            0x794c_7630 => "overlayfs",
            _ => "another file system",
        };
        Ok(PutDirectory { name: name.to_owned(), file_system })
    }

    /// Returns the name without a `put-` at its beginning, which is in the scenario's id already.
    fn short_name(&self) -> &str {
        self.name.strip_prefix("put-").unwrap_or(&self.name)
    }
}

/// The file system that has no disk.
const MEMORY: &str = "tmpfs";

/// Returns the standard set; the mixed scenarios need a slow device, uploads need directories.
pub fn outlines(slow: Option<&str>, put_directories: &[PutDirectory]) -> Vec<Outline> {
    let mut outlines = Vec::new();
    outlines.extend(LARGE_CONNECTIONS.map(|connections| pull(GIB, connections, true)));
    outlines.extend(SMALL_BODIES.map(|body_bytes| pull(body_bytes, SMALL_CONNECTIONS, true)));
    outlines.push(pull(KIB, SMALL_CONNECTIONS, false));
    outlines.extend([stream(169, 16), stream(MIB, 16), stream(GIB, 1), push(GIB, 1), idle(10_000)]);
    if slow.is_some() {
        outlines.extend(COLD_PULLS.map(mixed));
    }
    for directory in put_directories {
        outlines
            .extend(UPLOADS.map(|(body_bytes, connections)| put(body_bytes, connections, false, directory)));
    }
    if let (Some(slow), [_, ..]) = (slow, put_directories) {
        outlines.extend(MIXED_UPLOADS.map(|uploads| mixed_put(uploads, slow)));
    }
    let disks = put_directories.iter().filter(|directory| directory.file_system != MEMORY);
    outlines.extend(disks.map(|directory| put(GIB, 1, true, directory)));
    outlines
}

impl Outline {
    /// Makes the files below `root`, the cold ones in its directory `slow`.
    pub fn plan(self, root: &Path, slow: Option<&str>) -> Result<Plan> {
        let hot = self
            .hot_bytes
            .map(|bytes| Fixture::make(root, "", &format!("hot-{bytes}"), bytes))
            .transpose()?;
        let cold_pulls = if let Work::Mixed { cold_pulls, .. } = self.work { cold_pulls } else { 0 };
        let cold_files = (0..cold_pulls)
            .map(|number| {
                let bytes = COLD_FILE_BYTES_MIN.max(COLD_BYTES / cold_pulls as u64);
                let name = format!("cold-{bytes}-{number}");
                Fixture::make(root, slow.unwrap_or_default(), &name, bytes).map(ServedFile::from)
            })
            .collect::<Result<_>>()?;
        let files = hot.map(ServedFile::from).into_iter().collect();
        if let Some(to) = &self.uploads {
            check_room(&root.join(&to.directory), self.work)?;
        }
        Ok(Plan { id: self.id, title: self.title, work: self.work, files, cold_files, uploads: self.uploads })
    }
}

/// Checks that there is room for two bodies of each name, since the second arrives while the first exists.
fn check_room(directory: &Path, work: Work) -> Result<()> {
    let bytes = match work {
        Work::Put { body_bytes, connections, .. } => body_bytes * connections as u64,
        Work::MixedPut { uploads, upload_bytes, .. } => upload_bytes * uploads as u64,
        _ => 0,
    };
    let wanted = 2 * bytes + FREE_BYTES_MIN;
    let disk = statvfs(directory).with_context(|| directory.display().to_string())?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < wanted {
        bail!("{}: uploads want {wanted} bytes and only {free} are free", directory.display());
    }
    Ok(())
}

/// Writes `1 connection` or `2 connections`.
fn count(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

/// Outlines a GET of one hot file.
fn pull(body_bytes: u64, connections: usize, keep_alive: bool) -> Outline {
    let size = describe_bytes(body_bytes);
    let (mark, kind) = if keep_alive { ("", "") } else { ("-new", ", a new one for each request") };
    Outline {
        id: format!("pull{mark}-{}-{connections}c", size.replace(' ', "")),
        title: format!("GET {size}, {}{kind}", count(connections)),
        work: Work::Pull { body_bytes, connections, keep_alive, rate_per_s: None },
        hot_bytes: Some(body_bytes),
        uploads: None,
    }
}

/// Outlines POST /stream.
fn stream(body_bytes: u64, connections: usize) -> Outline {
    let size = describe_bytes(body_bytes);
    Outline {
        id: format!("stream-{}-{connections}c", size.replace(' ', "")),
        title: format!("POST /stream {size}, {}", count(connections)),
        work: Work::Stream { body_bytes, connections },
        hot_bytes: None,
        uploads: None,
    }
}

/// Outlines incoming frames.
fn push(body_bytes: u64, connections: usize) -> Outline {
    let size = describe_bytes(body_bytes);
    Outline {
        id: format!("push-{}-{connections}c", size.replace(' ', "")),
        title: format!("frames of {size} in, {}", count(connections)),
        work: Work::Push { body_bytes, connections },
        hot_bytes: None,
        uploads: None,
    }
}

/// Outlines idle connections, and a probe of 1 KiB meanwhile.
fn idle(connections: usize) -> Outline {
    Outline {
        id: format!("idle-{connections}c"),
        title: format!("{connections} idle connections, a probe of 1 KiB meanwhile"),
        work: Work::Connections { connections, read_bytes_per_s: None },
        hot_bytes: Some(KIB),
        uploads: None,
    }
}

/// Outlines hot requests beside cold pulls.
fn mixed(cold_pulls: usize) -> Outline {
    Outline {
        id: format!("mixed-{cold_pulls}"),
        title: format!("GET 1 KiB, {}, beside {cold_pulls} cold pulls", count(MIXED_CONNECTIONS)),
        work: Work::Mixed { body_bytes: KIB, connections: MIXED_CONNECTIONS, cold_pulls, rate_per_s: None },
        hot_bytes: Some(KIB),
        uploads: None,
    }
}

/// Outlines PUT, each connection to a name of its own.
fn put(body_bytes: u64, connections: usize, durable: bool, directory: &PutDirectory) -> Outline {
    let size = describe_bytes(body_bytes);
    let (mark, kind) = if durable { ("fsync-", ", synced") } else { ("", "") };
    let short_size = size.replace(' ', "");
    Outline {
        id: format!("put-{mark}{short_size}-{connections}c-{}", directory.short_name()),
        title: format!("PUT {size}, {}, {}{kind}", count(connections), directory.file_system),
        work: Work::Put { body_bytes, connections, durable },
        hot_bytes: None,
        uploads: Some(UploadTo::directory(&directory.name)),
    }
}

/// Outlines hot requests beside uploads to the slow device.
fn mixed_put(uploads: usize, slow: &str) -> Outline {
    let connections = MIXED_CONNECTIONS;
    Outline {
        id: format!("mixed-put-{uploads}"),
        title: format!("GET 1 KiB, {}, beside {uploads} uploads", count(connections)),
        work: Work::MixedPut { body_bytes: KIB, connections, uploads, upload_bytes: MIXED_UPLOAD_BYTES },
        hot_bytes: Some(KIB),
        uploads: Some(UploadTo::directory(slow)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{PutDirectory, describe_bytes, outlines};
    use crate::scenario::Serving;

    #[test]
    fn sizes_are_written_as_people_do() {
        for (bytes, text) in
            [(0, "0 B"), (169, "169 B"), (1 << 10, "1 KiB"), (100 << 10, "100 KiB"), (1 << 30, "1 GiB")]
        {
            assert_eq!(describe_bytes(bytes), text);
        }
    }

    #[test]
    fn the_standard_set_has_unique_ids_and_mixed_only_on_a_slow_device() {
        let all = outlines(Some("slow"), &[]);
        let ids: BTreeSet<&str> = all.iter().map(|outline| outline.id.as_str()).collect();
        assert_eq!((all.len(), ids.len()), (16, 16));
        assert!(
            ids.contains("pull-1GiB-256c") && ids.contains("stream-169B-16c") && ids.contains("mixed-64")
        );
        assert_eq!(outlines(None, &[]).len(), 13);
    }

    #[test]
    fn uploads_go_to_each_directory_and_are_synced_only_where_there_is_a_disk() {
        let of = |name: &str, file_system| PutDirectory { name: name.to_owned(), file_system };
        let directories = [of("put-tmpfs", "tmpfs"), of("elsewhere", "ext4")];
        let ids = |slow| -> Vec<String> {
            let uploads =
                outlines(slow, &directories).into_iter().filter(|outline| outline.uploads.is_some());
            uploads.map(|outline| outline.id).collect()
        };
        let expected = [
            "put-1GiB-1c-tmpfs",
            "put-16MiB-64c-tmpfs",
            "put-1GiB-1c-elsewhere",
            "put-16MiB-64c-elsewhere",
            "put-fsync-1GiB-1c-elsewhere",
        ];
        assert_eq!(ids(None), expected);
        assert_eq!(ids(Some("slow"))[4..6], ["mixed-put-0", "mixed-put-4"]);
        let root = tempfile::tempdir().unwrap();
        for name in ["..", "a/b", "", "/tmp"] {
            assert!(PutDirectory::look(root.path(), name).is_err(), "{name}");
        }
        let found = PutDirectory::look(root.path(), "put-disk").unwrap();
        let outline = outlines(None, &[found]).into_iter().find(|outline| outline.id.starts_with("put-1GiB"));
        let plan = outline.unwrap().plan(root.path(), None).unwrap();
        assert_eq!(plan.serving(), Serving::Uploads);
        assert_eq!(plan.uploads.unwrap().path, "/put-disk/put");
    }
}
