//! Tests of the room that stored frames take of the spool and of its file system: as much as came, never as much
//! as was announced.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;

use streamd::config::{Settings, SinkChoice};
use streamd::telemetry::{FrameRefusal, SpaceRefusal};

use crate::harness::uploads::connect;
use crate::harness::{
    Connection, Fixture, Mountpoint, Process, TestDaemon, driver_names, drivers, lines_with, or_skip,
    settings, wait_until,
};
use crate::proxies::{PROXY, TRUSTED};

/// The least bytes that a stored frame takes, on all file systems that hosts of these tests have.
const BLOCK_BYTES: usize = 4096;

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u64).to_le_bytes(), payload].concat()
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Runs `test` on each driver with a spool below `directory`. There is one worker, so that an answer to anybody
/// means that everything before it has been seen.
fn each_daemon(directory: &Path, change: impl Fn(Settings) -> Settings, test: impl Fn(&TestDaemon, &Path)) {
    for driver in drivers() {
        let spool = tempfile::tempdir_in(directory).unwrap();
        let settings = Settings {
            driver,
            workers: 1,
            sink: SinkChoice::Store,
            spool: Some(spool.path().to_owned()),
            min_free_bytes: 0,
            min_free_inodes: 0,
            ..settings()
        };
        test(&TestDaemon::start(change(settings)), spool.path());
    }
}

/// Whether a frame is acknowledged, on a connection of its own.
fn is_taken(daemon: &TestDaemon, payload: &[u8]) -> bool {
    let mut stream = connect(daemon.data()).unwrap();
    // The frame may be refused before all of it is sent.
    let _ = stream.write_all(&frame(payload));
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer == b"done"
}

fn refusals(daemon: &TestDaemon, reason: SpaceRefusal) -> u64 {
    daemon.count(|worker| worker.space_refusals.get(reason))
}

#[test]
fn headers_that_name_the_whole_spool_keep_no_frame_out() {
    const SPOOL_BYTES: usize = 1 << 20;
    let fixture = Fixture::new();
    let small = |settings| Settings { spool_bytes_max: SPOOL_BYTES as u64, ..settings };
    each_daemon(fixture.path(), small, |daemon, spool| {
        let mut holders: Vec<Connection> = (0..50).map(|_| Connection::open(daemon.data())).collect();
        for (number, holder) in holders.iter_mut().enumerate() {
            holder.send((SPOOL_BYTES as u64).to_le_bytes());
            holder.send(vec![b'x'; number % 2]);
        }
        for _ in 0..4 {
            assert!(is_taken(daemon, b"hello"));
        }
        assert!(is_taken(daemon, &vec![b'x'; SPOOL_BYTES - 4 * BLOCK_BYTES]), "all that is left");
        assert!(!is_taken(daemon, b"hello"));
        // The bytes of one of them find no room any more, and leave nothing.
        holders[0].send_in_vain(vec![b'x'; SPOOL_BYTES]);
        assert!(holders[0].ends());
        drop(holders);
        wait_until("what came to be gone", || files(spool) == 5);
        // There are two at least: a header that is seen only once something is stored is refused at once.
        assert!(refusals(daemon, SpaceRefusal::SpoolBytes) >= 2);
    });
}

#[test]
fn empty_frames_fill_a_spool() {
    let fixture = Fixture::new();
    let small = |settings| Settings { spool_bytes_max: 100 * BLOCK_BYTES as u64, ..settings };
    each_daemon(fixture.path(), small, |daemon, spool| {
        let mut connection = Connection::open(daemon.data());
        connection.send(frame(b"").repeat(200));
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"done".repeat(100));
        assert_eq!(files(spool), 100);
        assert_eq!(daemon.count(|worker| worker.frames_refused.get(FrameRefusal::NoRoom)), 1);
    });
    let few = |settings| Settings { spool_files_max: 10, ..settings };
    each_daemon(fixture.path(), few, |daemon, spool| {
        let mut connection = Connection::open(daemon.data());
        connection.send(frame(b"").repeat(20));
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"done".repeat(10));
        assert_eq!(files(spool), 10);
        assert_eq!(refusals(daemon, SpaceRefusal::SpoolFiles), 1);
    });
}

#[test]
fn a_spool_leaves_inodes_and_bytes_of_its_file_system_free() {
    // One inode is for the root, one for each spool.
    let Some(disk) = or_skip(Mountpoint::tmpfs("size=16m,nr_inodes=40")) else { return };
    let inodes = |settings| Settings { min_free_inodes: 20, ..settings };
    let counts = std::cell::RefCell::new(Vec::new());
    each_daemon(disk.path(), inodes, |daemon, spool| {
        let mut connection = Connection::open(daemon.data());
        connection.send(frame(b"").repeat(40));
        connection.finish();
        let answer = connection.receive_to_end();
        assert_eq!(answer, b"done".repeat(files(spool)));
        counts.borrow_mut().push(files(spool));
        assert_eq!(refusals(daemon, SpaceRefusal::MinFreeInodes), 1);
        assert_eq!(rustix::fs::statvfs(spool).unwrap().f_favail, 20);
    });
    assert!(counts.borrow().iter().all(|count| *count == 18), "{counts:?}");
    // No inode is left free, so the file system itself says that there are no more.
    each_daemon(
        disk.path(),
        |settings| settings,
        |daemon, spool| {
            let mut connection = Connection::open(daemon.data());
            connection.send(frame(b"").repeat(60));
            connection.finish();
            assert_eq!(connection.receive_to_end(), b"done".repeat(38));
            assert_eq!(refusals(daemon, SpaceRefusal::Disk), 1);
            // The daemon's temporary file is gone, and the spool goes on once there is room.
            let any = std::fs::read_dir(spool).unwrap().next().unwrap().unwrap();
            std::fs::remove_file(any.path()).unwrap();
            wait_until("an inode", || is_taken(daemon, b"hello"));
        },
    );
    let bytes = |settings| Settings { min_free_bytes: 8 << 20, ..settings };
    each_daemon(disk.path(), bytes, |daemon, spool| {
        assert!(!is_taken(daemon, &vec![b'x'; 9 << 20]));
        assert_eq!(files(spool), 0);
        assert!(is_taken(daemon, &vec![b'x'; 7 << 20]));
        assert!(!is_taken(daemon, &vec![b'x'; 2 << 20]));
        assert_eq!(refusals(daemon, SpaceRefusal::MinFreeBytes), 2);
        assert_eq!(files(spool), 1);
    });
}

#[test]
fn a_full_spool_refuses_and_takes_again_once_there_is_room() {
    for driver in driver_names() {
        let spool = Fixture::new();
        let path = spool.path().to_str().unwrap();
        let flags = ["--driver", driver, "--sink", "store", "--spool", path, "--spool-bytes-max", "16384"];
        let process = Process::start(&flags);
        // This frame takes room and gives it back.
        let mut connection = Connection::open(process.data());
        connection.send(&frame(&[7; 16_384])[..500]);
        connection.finish();
        assert_eq!(connection.receive_to_end(), b"", "{driver}");
        let mut connection = Connection::open(process.data());
        connection.send(frame(&[7; 9_000]));
        assert_eq!(connection.receive(4), b"done", "{driver}");
        connection.send(frame(&[7; 4_097]));
        assert!(connection.ends(), "{driver}");
        let mut connection = Connection::open(process.data());
        connection.send(frame(&[7; 4_096]));
        assert_eq!(connection.receive(4), b"done", "{driver}");
        assert_eq!(process.metric("streamd_frames_refused_total{reason=\"no_room\"}"), 1, "{driver}");
        let refusals = "streamd_space_refusals_total{reason=\"spool_bytes_max\"}";
        assert_eq!(process.metric(refusals), 1, "{driver}");
        let log = process.stop();
        let full: Vec<String> = lines_with(&log, "message", "transfer failed")
            .iter()
            .map(|line| line["error"].to_string())
            .collect();
        let words = "8192 more bytes would pass spool_bytes_max (12288 of 16384 are used): let the frames be consumed";
        assert!(full.len() == 1 && full[0].contains(words), "{driver}: {full:?}");
        let reasons = lines_with(&log, "outcome", "sink_failed");
        assert!(reasons.iter().any(|line| line["reason"].to_string().contains(words)), "{driver}: {log:#?}");
        assert_eq!(files(spool.path()), 2, "{driver}");
    }
}

#[test]
fn what_is_taken_is_told_and_is_right_after_a_kill() {
    let spool = Fixture::new();
    let flags = ["--sink", "store", "--spool", spool.path().to_str().unwrap()];
    let gauges = ["bytes", "files", "incoming_bytes", "incoming_files"];
    let told = |process: &Process| gauges.map(|name| process.metric(&format!("streamd_spool_{name}")));
    let mut process = Process::start(&flags);
    let mut connection = Connection::open(process.data());
    connection.send(frame(b"hello"));
    connection.send(frame(b""));
    assert_eq!(connection.receive(8), b"donedone");
    connection.send(&frame(&vec![7; 1 << 20])[..8 + (600 << 10)]);
    // Gathered bytes go to the disk by 256 KiB.
    wait_until("the gauges", || told(&process) == [8192, 2, 512 << 10, 1]);
    process.signal(rustix::process::Signal::KILL);
    process.wait();
    assert_eq!(files(spool.path()), 3);
    let process = Process::start(&flags);
    wait_until("the gauges after the kill", || told(&process) == [8192, 2, 0, 0]);
}

/// Opens a connection of the client that a trusted proxy names.
fn open_as(client: &str, process: &Process) -> Connection {
    let mut connection = Connection::open_from(PROXY, process.data());
    let (family, proxy) = if client.contains(':') { ("6", "2001:db8:2::1") } else { ("4", "203.0.113.1") };
    connection.send(format!("PROXY TCP{family} {client} {proxy} 4711 443\r\n"));
    connection
}

/// Returns how many of `number` empty frames of this connection are taken.
fn taken_of(number: usize, mut connection: Connection) -> usize {
    connection.send_in_vain(frame(b"").repeat(number));
    let _ = connection.stream().shutdown(Shutdown::Write);
    let answer = connection.receive_to_end();
    assert_eq!(answer, b"done".repeat(answer.len() / 4));
    answer.len() / 4
}

/// Runs a daemon behind a proxy with these limits, where one client may have four frames, and checks how many each
/// gets.
fn clients_have_their_shares(flags: &[&str], reason: &str, words: &str) {
    for driver in driver_names() {
        let spool = Fixture::new();
        let path = spool.path().to_str().unwrap();
        let own = ["--driver", driver, "--sink", "store", "--spool", path, "--access-log"];
        let process = Process::start(&[&own[..], &TRUSTED, flags].concat());
        let what = format!("{driver} {flags:?}");
        assert_eq!(taken_of(9, open_as("192.0.2.7", &process)), 4, "{what}: one client");
        assert_eq!(taken_of(9, open_as("192.0.2.7", &process)), 0, "{what}: on another connection");
        assert_eq!(taken_of(3, open_as("192.0.2.8", &process)), 3, "{what}: another client");
        assert_eq!(taken_of(3, open_as("2001:db8::1", &process)), 3, "{what}: a network of version 6");
        assert_eq!(taken_of(9, open_as("2001:db8::2", &process)), 1, "{what}: the same network");
        // The proxy and loopback may stand for anybody, so they have no share.
        assert_eq!(taken_of(9, Connection::open_from(PROXY, process.data())), 9, "{what}: the proxy itself");
        assert_eq!(taken_of(9, Connection::open(process.data())), 9, "{what}: loopback");
        assert_eq!(files(spool.path()), 4 + 3 + 3 + 1 + 9 + 9, "{what}");
        let refused = process.metric(&format!("streamd_space_refusals_total{{reason=\"{reason}\"}}"));
        assert_eq!(refused, 3, "{what}");
        assert_eq!(process.metric("streamd_frames_refused_total{reason=\"no_room\"}"), 3, "{what}");
        // Consumed frames make room for their senders, once the directory is counted again.
        std::fs::read_dir(spool.path())
            .unwrap()
            .for_each(|item| std::fs::remove_file(item.unwrap().path()).unwrap());
        wait_until("room for the client", || taken_of(1, open_as("192.0.2.7", &process)) == 1);
        let lines = lines_with(&process.stop(), "outcome", "refused");
        let reasons: Vec<String> = lines.iter().map(|line| line["reason"].to_string()).collect();
        assert!(
            reasons.len() >= 3 && reasons.iter().all(|reason| reason.contains(words)),
            "{what}: {reasons:?}"
        );
        assert_eq!(lines[0]["peer"], "192.0.2.7:4711", "{what}");
    }
}

#[test]
fn one_client_of_a_proxy_stores_no_more_bytes_than_its_share() {
    let share = (4 * BLOCK_BYTES).to_string();
    clients_have_their_shares(
        &["--address-spool-bytes-max", &share],
        "address_spool_bytes_max",
        "4096 more bytes would pass address_spool_bytes_max (this address has 16384 of 16384)",
    );
}

#[test]
fn one_client_of_a_proxy_stores_no_more_frames_than_its_share() {
    let words = "one more frame would pass address_spool_files_max (this address has 4 of 4)";
    clients_have_their_shares(&["--address-spool-files-max", "4"], "address_spool_files_max", words);
}

#[test]
fn one_client_of_a_proxy_leaves_half_of_the_frames_to_others() {
    for driver in driver_names() {
        let spool = Fixture::new();
        let path = spool.path().to_str().unwrap();
        let own = ["--driver", driver, "--sink", "store", "--spool", path, "--spool-files-max", "10"];
        let process = Process::start(&[&own[..], &TRUSTED].concat());
        assert_eq!(taken_of(20, open_as("192.0.2.7", &process)), 5, "{driver}");
        assert_eq!(taken_of(4, open_as("192.0.2.8", &process)), 4, "{driver}");
        assert_eq!(taken_of(4, Connection::open(process.data())), 1, "{driver}: of all together");
        assert_eq!(files(spool.path()), 10, "{driver}");
    }
}
