//! The harness that the tests share: daemons to talk to, clients to talk with, files to ask for.

mod client;
mod daemon;
mod disk;
mod faulty;
mod files;
mod haproxy;
mod manager;
mod mounts;
mod multipart;
mod network;
mod nginx;
mod nodes;
mod process;
mod random;
mod sockets;
mod target;
mod upload;
pub(crate) mod uploads;

use std::time::{Duration, Instant};

pub(crate) use client::{Connection, Response, get, request, request_text};
pub(crate) use daemon::{TestDaemon, driver_names, drivers, every_engine_and_driver, settings};
pub(crate) use disk::{Disk, Loss, Platter};
pub(crate) use faulty::{Caching, FaultyFs, Operation};
pub(crate) use files::{COLD_TRIES_MAX, Fixture, pages_in_memory, pattern, settle, sha256, sha256_of};
pub(crate) use haproxy::HaProxy;
pub(crate) use manager::{Manager, StoppedThread, copy_of, with_sockets};
pub(crate) use mounts::{
    Mountpoint, make_btrfs, make_ext4, make_vfat, make_xfs, mount_fuse, or_skip, repair_ext4,
};
pub(crate) use multipart::{Part, parts};
pub(crate) use network::with_addresses;
pub(crate) use nginx::Nginx;
pub(crate) use process::{
    Process, TEST_FLAGS, command, json, lines_with, refusing, run_streamd, set_test_variables,
};
pub(crate) use random::Random;
pub(crate) use sockets::{Sockets, curl, curl_text};
pub(crate) use target::{Target, frame_size};
pub(crate) use upload::{MIB, chunked, each_uploading, partials, put, put_text, send, uploading, write_text};

/// The time for anything that should happen; long enough for a loaded machine, and only ever waited for in full by
/// a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Waits until `condition` holds, and panics with `what` where it doesn't within [`DEADLINE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
