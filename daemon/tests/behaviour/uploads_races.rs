//! Tests of uploads to one name at once, and of downloads of it meanwhile.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use streamd::config::{DriverChoice, Durability, Settings};

use crate::harness::uploads::{partials, put, taking_uploads, try_put_chunked};
use crate::harness::{Connection, Fixture, Random, TestDaemon, drivers, get, put_text, request_text, sha256};

const PAIRS: usize = 50;

/// Starts a daemon without durability: the race is for the name, and a disk would only slow it down.
fn start(driver: DriverChoice, fixture: &Fixture) -> TestDaemon {
    TestDaemon::start(Settings { driver, durability: Durability::None, ..taking_uploads(fixture.path()) })
}

/// The longest of the uploads that race, in bytes: some buffers' worth, so that they take turns on the way.
const RACING_BYTES_MAX: usize = 1 << 20;

#[test]
fn of_two_uploads_at_once_one_wins_whole() {
    let mut random = Random::seeded();
    for driver in drivers() {
        let fixture = Fixture::new();
        let daemon = start(driver, &fixture);
        let address = daemon.data();
        for pair in 0..PAIRS {
            let bodies = [(); 2].map(|()| {
                let length = random.below(RACING_BYTES_MAX);
                random.bytes(length)
            });
            let barrier = Barrier::new(2);
            let upload = |body: &[u8]| {
                barrier.wait();
                // Every third pair has no lengths.
                if pair % 3 == 0 {
                    try_put_chunked(address, "/file", body)
                } else {
                    Ok(put(address, "/file", body))
                }
            };
            let statuses = std::thread::scope(|scope| {
                let uploads = bodies.each_ref().map(|body| scope.spawn(|| upload(body).unwrap().status));
                uploads.map(|upload| upload.join().unwrap())
            });
            let mut expected = vec![204, 204];
            if pair == 0 {
                expected = vec![201, 204];
            }
            let mut sorted = statuses.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, expected, "{driver:?}, pair {pair}");
            let found = std::fs::read(fixture.path().join("file")).unwrap();
            assert!(bodies.contains(&found), "{driver:?}, pair {pair}: neither the one nor the other");
            assert!(get(address, "/file", "").body == found, "{driver:?}, pair {pair}");
        }
        assert!(partials(fixture.path()).is_empty(), "{driver:?}");
    }
}

#[test]
fn of_many_that_create_one_does() {
    const AT_ONCE: usize = 12;
    for driver in drivers() {
        let fixture = Fixture::new();
        let daemon = start(driver, &fixture);
        let address = daemon.data();
        for round in 0..10 {
            let (path, barrier) = (format!("/file{round}"), Barrier::new(AT_ONCE));
            let create = |number: usize| {
                barrier.wait();
                let body = [u8::try_from(number).unwrap(); 10_000];
                crate::harness::uploads::try_put(address, &path, "If-None-Match: *\r\n", &body)
                    .unwrap()
                    .status
            };
            let statuses: Vec<_> = std::thread::scope(|scope| {
                let create = &create;
                let uploads: Vec<_> =
                    (0..AT_ONCE).map(|number| scope.spawn(move || create(number))).collect();
                uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
            });
            let winners: Vec<_> = (0..AT_ONCE).filter(|number| statuses[*number] == 201).collect();
            assert_eq!(winners.len(), 1, "{driver:?}: {statuses:?}");
            assert!(statuses.iter().all(|status| [201, 412].contains(status)), "{driver:?}: {statuses:?}");
            let found = std::fs::read(fixture.path().join(&path[1..])).unwrap();
            assert_eq!(found, [u8::try_from(winners[0]).unwrap(); 10_000], "{driver:?}");
        }
    }
}

/// Downloads `/file` again and again on one connection until told to stop; returns how often.
fn download(address: SocketAddr, whole: &HashSet<String>, is_over: &AtomicBool, fields: &str) -> usize {
    let mut connection = Connection::open(address);
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        connection.send(request_text("GET", "/file", fields));
        let response = connection.response_to("GET");
        assert_eq!(response.status, 200);
        assert!(whole.contains(&sha256(&response.body)), "{} bytes of neither", response.body.len());
        count += 1;
    }
    count
}

/// The file has two sizes: one is answered from the daemon's memory, the other sent from the file with much left
/// to be sent.
#[test]
fn a_download_is_of_the_old_or_the_new_file_and_never_of_both() {
    const REPLACEMENTS: usize = 40;
    let mut random = Random::seeded();
    for driver in drivers() {
        for length in [5_000, 6 << 20] {
            let fixture = Fixture::new();
            let daemon = start(driver, &fixture);
            let address = daemon.data();
            // One body is longer, and two differ only in their content.
            let bodies = [length, length, length + 1].map(|length| random.bytes(length));
            let whole: HashSet<String> = bodies.iter().map(|body| sha256(body)).collect();
            assert_eq!(put(address, "/file", &bodies[0]).status, 201);
            let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for fields in ["", "", "Accept-Encoding: identity\r\n"] {
                    let (whole, is_over, count) = (&whole, &is_over, &count);
                    scope.spawn(move || {
                        count.fetch_add(download(address, whole, is_over, fields), Ordering::Relaxed)
                    });
                }
                // This stops the others also where an assertion fails.
                let _stop = Stop(&is_over);
                for replacement in 1..=REPLACEMENTS {
                    assert_eq!(put(address, "/file", &bodies[replacement % 3]).status, 204, "{driver:?}");
                }
            });
            assert!(count.into_inner() > 3, "{driver:?}: nothing was downloaded");
        }
    }
}

/// The rule holds also where a client had asked between the new name and the answer, when not all was known of the
/// file.
#[test]
fn the_tag_of_the_answer_is_that_of_whoever_asks_after_it() {
    const UPLOADS: usize = 40;
    for driver in drivers() {
        let fixture = Fixture::new();
        let daemon = start(driver, &fixture);
        let address = daemon.data();
        assert_eq!(put(address, "/file", &[0; 6_000]).status, 201);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut connection = Connection::open(address);
                    while !is_over.load(Ordering::Relaxed) {
                        connection.send(request_text("GET", "/file", ""));
                        assert_eq!(connection.response_to("GET").status, 200);
                    }
                });
            }
            let _stop = Stop(&is_over);
            for _ in 0..UPLOADS {
                let part = |fields: &str| {
                    let mut connection = Connection::open(address);
                    connection.send(put_text("/file", fields, &[0; 3_000]));
                    connection.response_to("PUT")
                };
                let begun = part("Content-Range: bytes 0-2999/6000\r\n");
                let id = begun.field("Upload-Id").unwrap();
                let last = part(&format!("Content-Range: bytes 3000-5999/6000\r\nUpload-Id: {id}\r\n"));
                assert_eq!(last.status, 204, "{driver:?}: {}", last.text());
                let mut connection = Connection::open(address);
                connection.send(request_text("HEAD", "/file", ""));
                assert_eq!(connection.response_to("HEAD").field("ETag"), last.field("ETag"), "{driver:?}");
            }
        });
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whoever_asks_after_the_answer_gets_the_new_file_from_every_worker() {
    const CONNECTIONS: usize = 16;
    for driver in drivers() {
        let fixture = Fixture::new();
        let daemon = start(driver, &fixture);
        let address = daemon.data();
        // The kernel spreads them over the workers; each asks so often that its worker knows the file.
        let mut readers: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(address)).collect();
        for round in 0..30_u8 {
            // The contents have one length and, mostly, one second.
            let body = [round; 3000];
            assert!([201, 204].contains(&put(address, "/file", &body).status), "{driver:?}");
            for _ in 0..2 {
                for reader in &mut readers {
                    reader.send(request_text("GET", "/file", ""));
                }
                for reader in &mut readers {
                    assert!(reader.response_to("GET").body == body, "{driver:?}, round {round}: an old file");
                }
            }
        }
    }
}
