//! Tests of the memory of answers that nobody reads: bounded while they wait, given back when their readers have
//! gone.

use std::io::Read;
use std::net::SocketAddr;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use crate::harness::{
    Connection, DEADLINE, Fixture, Process, driver_names, get, json, request, request_text, wait_until,
};

const MIB: u64 = 1 << 20;

/// The memory that a daemon may keep after its use, in bytes: buffers of threads that had not run before, and the
/// parts of arenas that glibc holds.
const KEPT_BYTES_MAX: u64 = 8 * MIB;

/// The memory that answers may take while they wait, in bytes: less than a tenth of their length.
const HELD_BYTES_MAX: u64 = 16 * MIB;

/// The number of names of one long listing.
const NAMES: usize = 10_000;

/// The time for which memory has to stay as it is.
const SETTLED: Duration = Duration::from_millis(700);

fn large_directory() -> Fixture {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path().join("large")).unwrap();
    for number in 0..NAMES {
        let name = format!("large/IMG_2026_{number:05}_holiday_photo.jpeg");
        std::fs::File::create(fixture.path().join(name)).unwrap();
    }
    fixture
}

/// Sends a request, and reads enough to see an answer with this status.
fn ask(address: SocketAddr, path: &str, status: u16) -> Connection {
    // The buffer is the least that there is (tcp(7), SO_RCVBUF): bytes in the kernel aren't the daemon's memory.
    let mut connection = Connection::open_slow(address, 2048);
    connection.send(request_text("GET", path, ""));
    assert_eq!(connection.receive(12), format!("HTTP/1.1 {status}").as_bytes());
    connection
}

/// Returns the resident memory once it has stopped growing.
fn settled_memory_bytes(process: &Process) -> u64 {
    let (mut memory, mut since) = (process.memory_bytes(), Instant::now());
    let end = Instant::now() + DEADLINE;
    while since.elapsed() < SETTLED && Instant::now() < end {
        park_timeout(Duration::from_millis(50));
        let now = process.memory_bytes();
        if now > memory + MIB / 4 {
            (memory, since) = (now, Instant::now());
        }
    }
    memory
}

/// Holds `count` answers that nobody reads, twice, and looks at memory and descriptors while and after.
fn hold(process: &Process, what: &str, count: usize, ask: impl Fn() -> Connection) {
    let (memory, descriptors) = (settled_memory_bytes(process), process.descriptors());
    for round in 1..=2 {
        let held: Vec<Connection> = (0..count).map(|_| ask()).collect();
        let grown = settled_memory_bytes(process).saturating_sub(memory);
        eprintln!("{what}, round {round}: {} KiB more while {count} wait", grown >> 10);
        assert!(grown <= HELD_BYTES_MAX, "{what}, round {round}: {grown} bytes more while {count} wait");
        drop(held);
        wait_until(&format!("{what}, round {round}: descriptors given back"), || {
            process.descriptors() <= descriptors
        });
        wait_until(&format!("{what}, round {round}: memory given back"), || {
            process.memory_bytes() <= memory + KEPT_BYTES_MAX
        });
    }
}

#[test]
fn listings_that_nobody_reads_take_little_and_give_it_back() {
    let root = large_directory();
    for driver in driver_names() {
        let root = root.path().to_str().unwrap();
        let process = Process::start(&["--driver", driver, "--workers", "2", "--root", root, "--listing"]);
        let whole = get(process.data(), "/large/", "");
        assert_eq!(whole.text().matches("<tr>").count(), NAMES + 1);
        hold(&process, driver, 100, || ask(process.data(), "/large/", 200));
        assert_eq!(process.metric("streamd_waiting_bytes"), 0, "{driver}");
    }
}

#[test]
fn a_long_listing_that_is_only_asked_about_or_left_ends_there() {
    let root = large_directory();
    for driver in driver_names() {
        let root = root.path().to_str().unwrap();
        let process = Process::start(&["--driver", driver, "--workers", "1", "--root", root, "--listing"]);
        let descriptors = process.descriptors();
        for _ in 0..3 {
            assert_eq!(request(process.data(), "HEAD", "/large/", "").status, 200, "{driver}");
            drop(ask(process.data(), "/large/", 200));
        }
        assert_eq!(get(process.data(), "/large/", "").status, 200, "{driver}");
        wait_until("the directories to be closed", || process.descriptors() <= descriptors);
        assert_eq!(process.metric("streamd_waiting_bytes"), 0, "{driver}");
    }
}

#[test]
fn lists_of_streams_that_nobody_reads_take_little_and_give_it_back() {
    let root = Fixture::new();
    for driver in driver_names() {
        let root = root.path().to_str().unwrap();
        let process = Process::start(&["--driver", driver, "--workers", "2", "--root", root]);
        // The paths are nearly as long as a target may be.
        for number in 0..256 {
            let path = format!("/stream?path=/{}", format!("{number:05}").repeat(1_600));
            let failed = request(process.control(), "POST", &path, "");
            assert_eq!(failed.status, 404, "{}", failed.text());
        }
        hold(&process, driver, 300, || ask(process.control(), "/streams", 200));
        let list = get(process.control(), "/streams", "");
        let list: Vec<serde_json::Value> = serde_json::from_slice(&list.body).unwrap();
        assert_eq!(list.len(), 256);
        for (stream, number) in list.iter().zip((0..256).rev()) {
            let source = stream["source"].as_str().unwrap();
            assert!(source.starts_with(&format!("/{number:05}")), "{source}");
            assert!(source.len() <= 1024 && source.ends_with('\u{2026}'), "{source}");
        }
    }
}

#[test]
fn heads_of_one_address_that_do_not_end_leave_room_for_the_others() {
    for driver in driver_names() {
        let mut arguments = vec!["--driver", driver, "--head-timeout-ms", "60000"];
        arguments.extend(["--waiting-bytes-max", "1MiB", "--trusted-proxies", "127.0.0.0/8"]);
        arguments.extend(["--proxy-protocol", "optional"]);
        let process = Process::start(&arguments);
        let open = |client: &str| {
            let mut connection = Connection::open(process.data());
            connection.send(format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n"));
            connection
        };
        // Each counts for 32 KiB, as much as a head may take.
        let mut held: Vec<Connection> = (0..40)
            .map(|_| {
                let mut connection = open("192.0.2.1");
                connection.send(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(8_000)));
                connection
            })
            .collect();
        let refused = "streamd_limited_total{limit=\"waiting_bytes_of_address\"}";
        wait_until("its share to be used up", || process.metric(refused) == 24);
        assert_eq!(process.metric("streamd_waiting_bytes"), 512 << 10, "{driver}");
        let mut other = open("192.0.2.2");
        other.send(format!("GET /absent HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(8_000)));
        wait_until("another's head to be counted", || process.metric("streamd_waiting_bytes") == 544 << 10);
        other.send("\r\n\r\n");
        assert_eq!(other.response_to("GET").status, 404, "{driver}");
        let is_refused = |connection: &mut Connection| !connection.is_silent_for(Duration::from_millis(1));
        let mut refused: Vec<&mut Connection> =
            held.iter_mut().filter_map(|connection| is_refused(connection).then_some(connection)).collect();
        assert_eq!(refused.len(), 24, "{driver}");
        let response = refused[0].response_to("GET");
        assert_eq!(response.status, 503, "{driver}");
        assert!(response.text().contains("half of waiting_bytes_max"), "{driver}: {}", response.text());
        drop(held);
        wait_until("all to be given back", || process.metric("streamd_waiting_bytes") < 512 << 10);
    }
}

#[test]
fn beyond_the_limit_answers_are_refused_and_metrics_are_not() {
    let root = large_directory();
    for driver in driver_names() {
        let root = root.path().to_str().unwrap();
        let arguments = ["--driver", driver, "--root", root, "--listing", "--waiting-bytes-max", "1MiB"];
        let process = Process::start(&arguments);
        let mut held = Vec::new();
        let refused = loop {
            let mut connection = Connection::open_slow(process.data(), 2048);
            connection.send(request_text("GET", "/large/", ""));
            match connection.receive(12).as_slice() {
                b"HTTP/1.1 200" => held.push(connection),
                other => break String::from_utf8(other.to_vec()).unwrap(),
            }
            assert!(held.len() < 100, "{driver}: none is refused");
        };
        assert_eq!(refused, "HTTP/1.1 503", "{driver}");
        // The held bytes are the names of the directory, which all share, and a piece for each.
        assert!((5..20).contains(&held.len()), "{driver}: {}", held.len());
        let answer = get(process.data(), "/large/", "");
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")), "{driver}");
        assert!(answer.problem().contains("waiting_bytes_max"), "{driver}: {}", answer.problem());
        let line = json(&process.wait_for_line("waiting_bytes_max"));
        assert_eq!((&line["status"], &line["outcome"]), (&503.into(), &"refused".into()), "{driver}: {line}");
        assert!(process.metric("streamd_waiting_refused_total") >= 2, "{driver}");
        assert!(process.metric("streamd_waiting_bytes") > MIB / 2, "{driver}");
        assert_eq!(get(process.control(), "/streams", "").status, 200, "{driver}");
        // A reader that leaves makes room.
        drop(held);
        wait_until("room for a listing", || get(process.data(), "/large/", "").status == 200);
    }
}

#[test]
fn a_reader_that_takes_its_time_gets_all() {
    let root = large_directory();
    for driver in driver_names() {
        let root = root.path().to_str().unwrap();
        let process = Process::start(&["--driver", driver, "--root", root, "--listing"]);
        let mut slow = Connection::open_slow(process.data(), 64 << 10);
        slow.send("GET /large/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut received = vec![0; 100_000];
        for part in received.chunks_mut(10_000) {
            slow.stream().read_exact(part).unwrap();
            park_timeout(Duration::from_millis(20));
        }
        received.extend(slow.receive_to_end());
        assert!(received.ends_with(b"\r\n0\r\n\r\n"), "{driver}");
        let names = String::from_utf8(received).unwrap().matches("_holiday_photo.jpeg\"").count();
        assert_eq!(names, NAMES, "{driver}");
    }
}

#[test]
fn heads_that_do_not_end_are_counted_too() {
    for driver in driver_names() {
        let arguments = ["--driver", driver, "--waiting-bytes-max", "1MiB", "--head-timeout-ms", "60000"];
        let process = Process::start(&arguments);
        let part = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {}", "c".repeat(8 << 10));
        let mut held = Vec::new();
        let answer = loop {
            let counted = process.metric("streamd_waiting_bytes");
            let mut connection = Connection::open(process.data());
            connection.send(&part);
            wait_until("the head to be counted or refused", || {
                let refused = process.metric("streamd_waiting_refused_total");
                refused > 0 || process.metric("streamd_waiting_bytes") > counted
            });
            if process.metric("streamd_waiting_refused_total") > 0 {
                break connection.response_to("GET");
            }
            held.push(connection);
            assert!(held.len() < 100, "{driver}: none is refused");
        };
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")), "{driver}");
        assert!(answer.problem().contains("waiting_bytes_max"), "{driver}: {}", answer.problem());
        // A usual head isn't held up by them.
        assert_eq!(get(process.data(), "/absent", "").status, 404, "{driver}");
        drop(held);
        wait_until("all to be given back", || process.metric("streamd_waiting_bytes") == 0);
    }
}

#[test]
fn short_bodies_that_nobody_reads_are_counted() {
    let root = Fixture::new();
    // The bodies have several lengths: the rest that a socket leaves of one may be too little to be counted.
    const LENGTHS: usize = 8;
    for number in 0..LENGTHS {
        root.write(&format!("short-{number}"), &vec![7; (32 << 10) - number * 1_500]);
    }
    for driver in driver_names() {
        let root = root.path().to_str().unwrap();
        let arguments = ["--driver", driver, "--root", root, "--waiting-bytes-max", "1MiB"];
        let process = Process::start(&arguments);
        let mut held = Vec::new();
        for number in 0..200 {
            // The requests are so many that no socket holds all answers.
            let requests = request_text("GET", &format!("/short-{}", number % LENGTHS), "").repeat(200);
            let mut connection = Connection::open_slow(process.data(), 2048);
            connection.send_in_vain(requests);
            held.push(connection);
        }
        wait_until("one to be broken off", || process.metric("streamd_waiting_refused_total") > 0);
        assert!(process.metric("streamd_waiting_bytes") <= MIB, "{driver}");
        let line = json(&process.wait_for_line("waiting_bytes_max"));
        assert_eq!(line["outcome"], "refused", "{driver}: {line}");
        // A client that reads isn't held up.
        assert_eq!(get(process.data(), "/short-0", "").body.len(), 32 << 10, "{driver}");
        drop(held);
        wait_until("all to be given back", || process.metric("streamd_waiting_bytes") == 0);
    }
}
