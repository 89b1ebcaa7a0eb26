//! Tests that nobody's work for a disk holds up another's: long work, slow disks, and mounts that don't answer.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use streamd::config::Settings;
use streamd::telemetry::{DiskState, LaneState};

use crate::harness::uploads::{put, taking_uploads};
use crate::harness::{
    Caching, Connection, FaultyFs, Mountpoint, Operation, Process, TestDaemon, driver_names, drivers, get,
    make_ext4, or_skip, request_text, settings, wait_until,
};

/// The longest of waits that a host under load may stretch.
const PATIENCE: Duration = Duration::from_secs(60);

fn lane(state: &DiskState, name: &str) -> LaneState {
    *state.lanes.iter().find(|lane| lane.name == name).unwrap()
}

/// The time after which a mount counts as silent, in seconds. The root's own disk is one that all tests write to, and
/// may take a second or two for a read while others have their files synced.
const SILENCE_SECONDS: u32 = 5;

/// Makes a directory with a mount below it that hangs when it is told to, and a file of each.
fn fixture() -> Option<(FaultyFs, std::path::PathBuf)> {
    let file_system = FaultyFs::mount(Caching::Through)?;
    let root = file_system.path().parent().unwrap().to_owned();
    for name in ["cold", "dead"] {
        std::fs::write(file_system.path().join(name), vec![b'x'; 300_000]).unwrap();
    }
    std::fs::write(root.join("hot"), "hot").unwrap();
    std::fs::write(root.join("long"), vec![b'y'; 3 << 20]).unwrap();
    Some((file_system, root))
}

/// Starts the daemon in a process of its own: a child of this one would close the files of the mount that it has
/// open, and hang there.
fn start(root: &Path, driver: &str, uploads: bool) -> Process {
    let root = root.to_str().unwrap();
    let silence_ms = (SILENCE_SECONDS * 1000).to_string();
    let mut arguments =
        vec!["--root", root, "--driver", driver, "--disk-timeout-ms", &silence_ms, "--listing"];
    arguments.extend(["--drain-timeout-ms", "1000"]);
    arguments.extend(uploads.then_some("--uploads"));
    Process::start(&arguments)
}

/// Returns a gauge of each lane.
fn of_lanes(daemon: &Process, name: &str) -> Vec<f64> {
    let text = get(daemon.control(), "/metrics", "").text();
    let prefix = format!("{name}{{lane=");
    let of_lane = text.lines().filter(|line| line.starts_with(&prefix));
    of_lane.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

/// Asserts that requests which don't need the mount are served as ever.
fn assert_others_are_served(daemon: &Process, root: &Path, context: &str, number: usize) {
    let began = Instant::now();
    let text = |path: &str| get(daemon.data(), path, "").text();
    assert_eq!(text("/hot"), "hot", "{context}");
    assert_eq!(get(daemon.data(), "/absent", "").status, 404, "{context}");
    let name = format!("new-{number}");
    std::fs::write(root.join(&name), "new").unwrap();
    assert_eq!(text(&format!("/{name}")), "new", "{context}");
    let long = std::fs::File::open(root.join("long")).unwrap();
    long.sync_all().unwrap();
    rustix::fs::fadvise(&long, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let read = get(daemon.data(), "/long", "");
    assert_eq!((read.status, read.body.len()), (200, 3 << 20), "{context}, {:?}", began.elapsed());
    // The bound is far longer than they take, and shorter than anybody waits for the mount.
    assert!(began.elapsed() < PATIENCE / 2, "{context}: {:?}", began.elapsed());
}

#[test]
fn a_mount_that_does_not_answer_costs_only_who_asks_for_it() {
    for driver in driver_names() {
        for uploads in [false, true] {
            let context = format!("{driver}, uploads {uploads}");
            let Some((file_system, root)) = fixture() else { return };
            let daemon = start(&root, driver, uploads);
            let _healed = file_system.healed_at_end();
            let mounted = file_system.path().file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(get(daemon.data(), &format!("/{mounted}/cold"), "").body.len(), 300_000, "{context}");
            assert_eq!(get(daemon.control(), "/health", "").body, b"OK");
            file_system.stall(Operation::Read);
            let mut asking: Vec<_> = (0..40).map(|_| Connection::open(daemon.data())).collect();
            for connection in &mut asking {
                connection.send(request_text("GET", &format!("/{mounted}/dead"), "").as_bytes());
            }
            wait_until("the mount to hang", || file_system.is_stalled());
            for number in 0..5 {
                assert_others_are_served(&daemon, &root, &context, number);
            }
            if uploads {
                assert_eq!(put(daemon.data(), "/up", b"content").status, 201, "{context}");
            }
            for connection in &mut asking {
                let response = connection.response_to("GET");
                assert_eq!(response.status, 503, "{context}: {response:?}");
                let said = String::from_utf8_lossy(&response.body).into_owned();
                assert!(said.contains(&format!("the disk of /{mounted} doesn't answer")), "{said}");
                assert!(response.field("Retry-After").is_some(), "{context}");
            }
            let oldest =
                of_lanes(&daemon, "streamd_disk_oldest_task_seconds").into_iter().fold(0.0, f64::max);
            assert!(oldest >= f64::from(SILENCE_SECONDS), "{context}: {oldest}");
            let held: f64 = of_lanes(&daemon, "streamd_disk_tasks_running").iter().sum();
            assert!((1.0..=8.0).contains(&held), "{context}: {held} of 16 threads");
            daemon.wait_for_line("a mount doesn't answer");
            let health = get(daemon.control(), "/health", "");
            let text = String::from_utf8(health.body).unwrap();
            assert_eq!(health.status, 200, "{context}");
            let expected = format!("OK\nmount {} doesn't answer", file_system.path().display());
            assert!(text.starts_with(&expected), "{context}: {text}");
            // A client that comes now needn't wait.
            let began = Instant::now();
            assert_eq!(get(daemon.data(), &format!("/{mounted}/dead"), "").status, 503, "{context}");
            assert!(began.elapsed() < PATIENCE, "{context}");
            assert_others_are_served(&daemon, &root, &context, 99);
            drop(asking);
            wait_until("connections to be gone", || daemon.metric("streamd_connections_open") == 0);
            file_system.heal();
            wait_until("the mount to answer", || {
                get(daemon.data(), &format!("/{mounted}/dead"), "").body.len() == 300_000
            });
            wait_until("nothing to be left of it", || {
                let names = ["streamd_disk_tasks_waiting", "streamd_disk_tasks_running"];
                names.iter().flat_map(|name| of_lanes(&daemon, name)).sum::<f64>() < 1.0
            });
            daemon.wait_for_line("a mount answers again");
            assert_eq!(get(daemon.control(), "/health", "").body, b"OK");
        }
    }
}

/// The name says nothing of the mount, so it is the links that tell, before anything there is opened.
#[test]
fn a_mount_that_does_not_answer_costs_only_who_asks_for_it_by_a_link_too() {
    for driver in driver_names() {
        let Some((file_system, root)) = fixture() else { return };
        let daemon = start(&root, driver, true);
        let _healed = file_system.healed_at_end();
        let mounted = file_system.path().file_name().unwrap().to_str().unwrap().to_owned();
        symlink(format!("./{mounted}/cold"), root.join("to-cold")).unwrap();
        symlink(&mounted, root.join("to-mount")).unwrap();
        symlink("to-mount/new", root.join("to-new")).unwrap();
        symlink("hot", root.join("to-hot")).unwrap();
        // The links are as many as there are threads for look-ups, and more.
        let names: Vec<String> = (0..40)
            .map(|number| {
                file_system.add_file(&format!("new-{number}"));
                if number == 0 { "to-new".to_owned() } else { format!("to-mount/new-{number}") }
            })
            .collect();
        assert_eq!(get(daemon.data(), "/to-cold", "").body.len(), 300_000, "{driver}");
        assert_eq!(get(daemon.data(), "/to-hot", "").body, b"hot", "{driver}");
        file_system.stall(Operation::LookUp);
        let mut asking: Vec<_> = names.iter().map(|_| Connection::open(daemon.data())).collect();
        for (connection, name) in asking.iter_mut().zip(&names) {
            connection.send(request_text("GET", &format!("/{name}"), "").as_bytes());
        }
        let mut sending: Vec<_> = (0..20).map(|_| Connection::open(daemon.data())).collect();
        for (number, connection) in sending.iter_mut().enumerate() {
            let name = format!("/to-mount/up-{number}");
            connection.send(request_text("PUT", &name, "Content-Length: 7\r\n") + "content");
        }
        wait_until("the mount to hang", || file_system.is_stalled());
        for number in 0..5 {
            assert_others_are_served(&daemon, &root, driver, number);
            assert_eq!(put(daemon.data(), &format!("/up-{number}"), b"content").status, 201, "{driver}");
        }
        for connection in &mut asking {
            let response = connection.response_to("GET");
            assert_eq!(response.status, 503, "{driver}: {response:?}");
            let said = String::from_utf8_lossy(&response.body).into_owned();
            assert!(said.contains(&format!("the disk of /{mounted} doesn't answer")), "{driver}: {said}");
        }
        let held: f64 = of_lanes(&daemon, "streamd_disk_tasks_running").iter().sum();
        assert!((1.0..=8.0).contains(&held), "{driver}: {held} of 16 threads");
        daemon.wait_for_line("a mount doesn't answer");
        for number in 5..10 {
            assert_others_are_served(&daemon, &root, driver, number);
            assert_eq!(put(daemon.data(), &format!("/up-{number}"), b"content").status, 201, "{driver}");
        }
        drop(sending);
        file_system.heal();
        wait_until("the mount to answer", || get(daemon.data(), "/to-mount/new-1", "").status == 200);
    }
}

/// A file system that can be read and not written, thawed when this is dropped.
struct Frozen<'a>(&'a Path);

impl Frozen<'_> {
    fn freeze(path: &Path) -> Option<Frozen<'_>> {
        let frozen = std::process::Command::new("fsfreeze").arg("--freeze").arg(path).status();
        frozen.is_ok_and(|status| status.success()).then(|| Frozen(path))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("fsfreeze").arg("--unfreeze").arg(self.0).status();
    }
}

#[test]
fn a_root_that_takes_no_writes_keeps_nobody_waiting_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let made = make_ext4(&image, 256 << 20).and_then(|()| Mountpoint::ext4(&image, "noatime"));
    let Some(mountpoint) = or_skip(made) else { return };
    let root = mountpoint.path();
    std::fs::write(root.join("long"), vec![b'y'; 3 << 20]).unwrap();
    rustix::fs::sync();
    for durability in ["none", "fsync"] {
        let arguments = ["--root", root.to_str().unwrap(), "--uploads", "--durability", durability];
        // Writes have ten times as long: 5 s.
        let arguments =
            [&arguments[..], &["--disk-timeout-ms", "500", "--drain-timeout-ms", "1000"]].concat();
        let daemon = Process::start(&arguments);
        assert_eq!(put(daemon.data(), &format!("/before-{durability}"), b"x").status, 201);
        // The file is old enough for its digest to be recorded.
        wait_until("the file is too old to be changed within its times", || {
            let changed = std::fs::metadata(root.join("long")).unwrap().modified().unwrap();
            changed.elapsed().is_ok_and(|age| age > Duration::from_secs(3))
        });
        let Some(frozen) = Frozen::freeze(root) else { return };
        let answer = get(daemon.data(), "/long", "Want-Repr-Digest: sha-256=5\r\n");
        assert_eq!(answer.body.len(), 3 << 20);
        assert!(answer.field("Repr-Digest").is_some(), "{durability}: it waits for its record");
        let mut sending: Vec<_> = (0..20).map(|_| Connection::open(daemon.data())).collect();
        for (number, connection) in sending.iter_mut().enumerate() {
            let name = format!("/{durability}-{number}");
            connection.send(request_text("PUT", &name, "Content-Length: 1\r\n") + "x");
        }
        for connection in &mut sending {
            assert_eq!(connection.response_to("PUT").status, 503, "{durability}");
        }
        let began = Instant::now();
        let refused = put(daemon.data(), &format!("/late-{durability}"), b"x");
        assert_eq!(refused.status, 503, "{durability}");
        assert_eq!(refused.field("Retry-After"), Some("30"), "{durability}: it was told that it is silent");
        assert!(began.elapsed() < Duration::from_secs(4), "{durability}: {:?}", began.elapsed());
        drop(frozen);
        wait_until("the root to take writes", || {
            put(daemon.data(), &format!("/after-{durability}"), b"x").status < 300
        });
    }
}

#[test]
fn uploads_to_a_mount_that_does_not_answer_leave_the_places_to_the_others() {
    for driver in driver_names() {
        let Some((file_system, root)) = fixture() else { return };
        let mut arguments = vec!["--root", root.to_str().unwrap(), "--driver", driver, "--uploads"];
        arguments.extend(["--uploads-max", "8", "--disk-timeout-ms", "200", "--drain-timeout-ms", "1000"]);
        let daemon = Process::start(&arguments);
        let _healed = file_system.healed_at_end();
        let mounted = file_system.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(put(daemon.data(), &format!("/{mounted}/up"), b"a").status, 201, "{driver}");
        file_system.stall(Operation::Create);
        let mut asking: Vec<_> = (0..12).map(|_| Connection::open(daemon.data())).collect();
        for (number, connection) in asking.iter_mut().enumerate() {
            let name = format!("/{mounted}/up-{number}");
            connection.send(request_text("PUT", &name, "Content-Length: 1\r\n") + "a");
        }
        wait_until("the mount to hang", || file_system.is_stalled());
        wait_until("its share to be used up", || {
            daemon.metric("streamd_limited_total{limit=\"uploads_of_mount\"}") == 8
        });
        let others: Vec<_> = (0..4).map(|number| format!("/other-{number}")).collect();
        assert!(others.iter().all(|name| put(daemon.data(), name, b"a").status == 201), "{driver}");
        let mut statuses: Vec<_> =
            asking.iter_mut().map(|connection| connection.response_to("PUT").status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [[429; 8].as_slice(), &[503; 4]].concat(), "{driver}");
        // Threads still hang with the work of uploads that were answered.
        assert!(of_lanes(&daemon, "streamd_disk_tasks_running").iter().sum::<f64>() >= 1.0, "{driver}");
        wait_until("the places to be given back", || daemon.metric("streamd_uploads_running") == 0);
        let began = Instant::now();
        assert_eq!(put(daemon.data(), &format!("/{mounted}/new"), b"a").status, 503, "{driver}");
        // Writes are waited for ten times as long, but not by newcomers.
        assert!(began.elapsed() < Duration::from_secs(2), "{driver}: {:?}", began.elapsed());
        file_system.heal();
        wait_until("the mount to answer", || {
            put(daemon.data(), &format!("/{mounted}/new"), b"a").status < 300
        });
    }
}

#[test]
fn nobody_is_hashed_for_who_has_left_and_other_names_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let huge = std::fs::File::create(directory.path().join("huge")).unwrap();
    huge.set_len(20 << 30).unwrap();
    std::fs::write(directory.path().join("hot"), "hot").unwrap();
    for driver in drivers() {
        for disk_threads in [1, 2, 16] {
            let context = format!("{driver:?}, {disk_threads} threads");
            let daemon = TestDaemon::start(Settings {
                root: Some(directory.path().to_owned()),
                driver,
                disk_threads,
                ..settings()
            });
            let mut asking: Vec<_> = (0..80).map(|_| Connection::open(daemon.data())).collect();
            for connection in &mut asking {
                let wish = "Want-Repr-Digest: sha-256=5\r\n";
                connection.send(request_text("HEAD", "/huge", wish).as_bytes());
            }
            wait_until("a digest to be made", || {
                let digest = lane(&daemon.telemetry().disk(), "digest");
                digest.waiting + digest.running > 0
            });
            let began = Instant::now();
            for number in 0..20 {
                assert_eq!(get(daemon.data(), &format!("/absent-{number}"), "").status, 404, "{context}");
            }
            assert!(began.elapsed() < PATIENCE / 2, "{context}: {:?}", began.elapsed());
            drop(asking);
            wait_until("the digests to be given up", || {
                let digest = lane(&daemon.telemetry().disk(), "digest");
                digest.waiting + digest.running == 0
            });
        }
    }
}

/// The script's own limits are for a host that does nothing else; these are a tenth of the values before lanes.
#[test]
fn who_presses_a_slow_disk_presses_nobody_else() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/press-disk.py");
    let output = std::process::Command::new(script)
        .args(["--streamd", env!("CARGO_BIN_EXE_streamd"), "--directory", env!("CARGO_TARGET_TMPDIR")])
        .args(["--seconds", "8", "--hot-floor-ms", "3000", "--new-ms", "4000", "--cold-ratio", "0.3"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => {}
        Some(77) => eprintln!("not tested: {said}"),
        _ => panic!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_hot_file_with_uploads_on_needs_no_disk_thread_however_young_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for driver in drivers() {
        let daemon =
            TestDaemon::start(Settings { driver, cache_valid_ms: 0, ..taking_uploads(directory.path()) });
        for number in 0..20 {
            let name = format!("{driver:?}-{number}");
            std::fs::write(directory.path().join(&name), "young").unwrap();
            let tasks = || daemon.telemetry().disk().lanes.iter().map(|lane| lane.ended).sum::<u64>();
            let before = tasks();
            assert_eq!(get(daemon.data(), &format!("/{name}"), "").body, b"young");
            assert_eq!(tasks(), before, "{name} went to a disk thread");
        }
    }
}
