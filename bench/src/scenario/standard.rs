//! The standard set: what every run measures, so that runs can be compared.

use std::path::Path;

use anyhow::Result;

use super::{File, Plan};
use crate::fixture::Fixture;
use crate::result::Work;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of small bodies.
const SMALL_BODIES: [u64; 4] = [KIB, 10 * KIB, 100 * KIB, MIB];

/// Connections of small bodies.
const SMALL_CONNECTIONS: usize = 64;

/// Connections of large bodies.
const LARGE_CONNECTIONS: [usize; 3] = [1, 16, 256];

/// Cold pulls beside hot requests.
const COLD_PULLS: [usize; 3] = [0, 2, 64];

/// Hot connections beside cold pulls.
const MIXED_CONNECTIONS: usize = 8;

/// Bytes of all cold files of a scenario together: at 50 MiB a second they last for ten seconds, so that none is read
/// to its end, and hot from then on, while the clock runs.
const COLD_BYTES: u64 = 512 * MIB;

/// Fewest bytes of a cold file.
const COLD_FILE_BYTES_MIN: u64 = 16 * MIB;

/// Bytes as people write them.
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
    /// Short and unique: `pull-1GiB-16c`.
    pub id: String,
    title: String,
    work: Work,
    /// Size of the hot file that is asked for.
    hot_bytes: Option<u64>,
}

/// The standard set; the mixed scenarios need a slow device.
pub fn outlines(with_slow_device: bool) -> Vec<Outline> {
    let mut outlines = Vec::new();
    outlines.extend(LARGE_CONNECTIONS.map(|connections| pull(GIB, connections, true)));
    outlines.extend(SMALL_BODIES.map(|body_bytes| pull(body_bytes, SMALL_CONNECTIONS, true)));
    outlines.push(pull(KIB, SMALL_CONNECTIONS, false));
    outlines.extend([stream(169, 16), stream(MIB, 16), stream(GIB, 1), push(GIB, 1), idle(10_000)]);
    if with_slow_device {
        outlines.extend(COLD_PULLS.map(mixed));
    }
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
                Fixture::make(root, slow.unwrap_or_default(), &name, bytes).map(File::from)
            })
            .collect::<Result<_>>()?;
        let files = hot.map(File::from).into_iter().collect();
        Ok(Plan { id: self.id, title: self.title, work: self.work, files, cold_files })
    }
}

/// `1 connection`, `2 connections`.
fn count(connections: usize) -> String {
    if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") }
}

/// GET of one hot file.
fn pull(body_bytes: u64, connections: usize, keep_alive: bool) -> Outline {
    let size = describe_bytes(body_bytes);
    let (mark, kind) = if keep_alive { ("", "") } else { ("-new", ", a new one for each request") };
    Outline {
        id: format!("pull{mark}-{}-{connections}c", size.replace(' ', "")),
        title: format!("GET {size}, {}{kind}", count(connections)),
        work: Work::Pull { body_bytes, connections, keep_alive, rate_per_s: None },
        hot_bytes: Some(body_bytes),
    }
}

/// POST /stream.
fn stream(body_bytes: u64, connections: usize) -> Outline {
    let size = describe_bytes(body_bytes);
    Outline {
        id: format!("stream-{}-{connections}c", size.replace(' ', "")),
        title: format!("POST /stream {size}, {}", count(connections)),
        work: Work::Stream { body_bytes, connections },
        hot_bytes: None,
    }
}

/// Frames in.
fn push(body_bytes: u64, connections: usize) -> Outline {
    let size = describe_bytes(body_bytes);
    Outline {
        id: format!("push-{}-{connections}c", size.replace(' ', "")),
        title: format!("frames of {size} in, {}", count(connections)),
        work: Work::Push { body_bytes, connections },
        hot_bytes: None,
    }
}

/// Idle connections, and a probe of 1 KiB meanwhile.
fn idle(connections: usize) -> Outline {
    Outline {
        id: format!("idle-{connections}c"),
        title: format!("{connections} idle connections, a probe of 1 KiB meanwhile"),
        work: Work::Connections { connections, read_bytes_per_s: None },
        hot_bytes: Some(KIB),
    }
}

/// Hot requests beside cold pulls.
fn mixed(cold_pulls: usize) -> Outline {
    Outline {
        id: format!("mixed-{cold_pulls}"),
        title: format!("GET 1 KiB, {}, beside {cold_pulls} cold pulls", count(MIXED_CONNECTIONS)),
        work: Work::Mixed { body_bytes: KIB, connections: MIXED_CONNECTIONS, cold_pulls, rate_per_s: None },
        hot_bytes: Some(KIB),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{describe_bytes, outlines};

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
        let all = outlines(true);
        let ids: BTreeSet<&str> = all.iter().map(|outline| outline.id.as_str()).collect();
        assert_eq!((all.len(), ids.len()), (16, 16));
        assert!(
            ids.contains("pull-1GiB-256c") && ids.contains("stream-169B-16c") && ids.contains("mixed-64")
        );
        assert_eq!(outlines(false).len(), 13);
    }
}
