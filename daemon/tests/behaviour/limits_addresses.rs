//! Tests of the shares of one address, and that the address which holds most makes room for the others.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use streamd::config::Settings;
use streamd::telemetry::{Limit, Outcome};

use crate::harness::{Connection, Fixture, TestDaemon, drivers, get, settings, wait_until, with_addresses};

/// Addresses that nobody has (RFC 5737).
const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

const ABSENT: &str = "GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n";

const SMALL_BUFFER: usize = 64 << 10;

/// A time long enough for an answer that should not come.
const WHILE: Duration = Duration::from_millis(300);

/// Runs `test` on each driver, with these changes of the settings, in a network with both addresses.
fn each(change: impl Fn(Settings) -> Settings + Sync, test: impl Fn(&TestDaemon, &Settings, &str) + Sync) {
    with_addresses(&[ONE, OTHER], || {
        for driver in drivers() {
            let settings = Settings { driver, ..change(settings()) };
            test(&TestDaemon::start(settings.clone()), &settings, &format!("{driver:?}"));
        }
    });
}

fn open(source: &str, address: SocketAddr) -> Connection {
    Connection::open_slow_from(source, address, SMALL_BUFFER)
}

/// Begins an upload of two bytes of which one comes.
fn begin_upload(source: &str, daemon: &TestDaemon, name: &str) -> Connection {
    let mut upload = open(source, daemon.data());
    upload.send(format!("PUT /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na"));
    upload
}

fn limited(daemon: &TestDaemon, limit: Limit) -> u64 {
    daemon.count(|worker| worker.limited.get(limit)) + daemon.telemetry().control.limited.get(limit)
}

fn is_served(connection: &mut Connection) -> bool {
    connection.send_in_vain(ABSENT);
    // An end, in order or by a reset, is no byte.
    let came = loop {
        match connection.stream().peek(&mut [0]) {
            // A ring that this thread has just dropped interrupts it: the probe of a daemon that starts.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            came => break came,
        }
    };
    matches!(came, Ok(1)) && connection.response_to("GET").status == 404
}

#[test]
fn one_address_holds_no_more_connections_than_its_share_on_both_planes_together() {
    each(
        |settings| Settings { address_connections_max: 3, ..settings },
        |daemon, settings, driver| {
            let mut held = [ONE, ONE].map(|source| open(source, daemon.data()));
            assert!(held.iter_mut().all(is_served), "{driver}");
            let mut control = open(ONE, daemon.control());
            assert!(is_served(&mut control), "{driver}");
            for address in [daemon.data(), daemon.control()] {
                assert!(!is_served(&mut open(ONE, address)), "{driver}");
                assert!(is_served(&mut open(OTHER, address)), "{driver}: another address");
                let mut local: Vec<Connection> = (0..5).map(|_| Connection::open(address)).collect();
                assert!(local.iter_mut().all(is_served), "{driver}: loopback is everybody on this host");
            }
            assert_eq!(limited(daemon, Limit::AddressConnections), 2, "{driver}");
            daemon.reload(Settings { address_connections_max: 4, ..settings.clone() });
            let mut fourth = open(ONE, daemon.data());
            assert!(is_served(&mut fourth), "{driver}: after a reload");
            drop(held);
            wait_until("what was held is given back", || is_served(&mut open(ONE, daemon.data())));
            assert!(is_served(&mut control) && is_served(&mut fourth), "{driver}");
        },
    );
}

#[test]
fn the_address_that_holds_most_connections_makes_room_with_its_slowest() {
    each(
        |settings| Settings { connections_max: 4, workers: 1, ..settings },
        |daemon, _, driver| {
            let mut held = [ONE, ONE, ONE, OTHER].map(|source| open(source, daemon.data()));
            held.iter_mut().for_each(|connection| connection.send("GET / HTTP/1.1\r\n"));
            wait_until("all are there", || daemon.telemetry().connections_open() == 4);
            // The connections are at work, so a newcomer waits, unless another address holds more.
            let mut further: [_; 20] = std::array::from_fn(|_| open(ONE, daemon.data()));
            assert!(further[19].is_silent_for(WHILE), "{driver}");
            // All but one of the connections go on sending.
            let is_ended = |connection: &mut Connection| !connection.is_silent_for(Duration::from_millis(1));
            for _ in 0..30 {
                held[..2]
                    .iter_mut()
                    .for_each(|connection| connection.send("X: some bytes of a long head\r\n"));
                std::thread::park_timeout(Duration::from_millis(50));
            }
            let mut newcomer = open(OTHER, daemon.data());
            assert!(is_served(&mut newcomer), "{driver}");
            assert_eq!(held.each_mut().map(is_ended), [false, false, true, false], "{driver}");
            assert!(limited(daemon, Limit::Connections) >= 1, "{driver}");
        },
    );
}

#[test]
fn a_trusted_proxy_is_not_one_address_wherever_it_comes() {
    each(
        |settings| Settings {
            trusted_proxies: vec![ONE.to_owned()],
            address_connections_max: 2,
            connections_max: 4,
            workers: 1,
            ..settings
        },
        |daemon, _, driver| {
            let mut control: [_; 4] = std::array::from_fn(|_| open(ONE, daemon.control()));
            for connection in &mut control {
                connection.send_in_vain("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
                assert_eq!(connection.response_to("GET").status, 200, "{driver}");
            }
            // None of these can be closed for a newcomer, and they are more than a worker takes from the queue.
            let mut held: [_; 4] = std::array::from_fn(|_| Connection::open(daemon.data()));
            held.iter_mut().for_each(|connection| connection.send("GET / HTTP/1.1\r\n"));
            wait_until("all are there", || daemon.telemetry().connections_open() == 4);
            let mut newcomers: [_; 12] = std::array::from_fn(|_| open(ONE, daemon.data()));
            assert!(newcomers[11].is_silent_for(WHILE), "{driver}");
            for newcomer in &mut newcomers {
                assert!(newcomer.is_silent_for(Duration::from_millis(1)), "{driver}");
            }
            assert_eq!(limited(daemon, Limit::Connections), 0, "{driver}");
            assert_eq!(limited(daemon, Limit::AddressConnections), 0, "{driver}");
        },
    );
}

#[test]
fn one_address_has_no_more_uploads_than_its_share() {
    let root = Fixture::new();
    let path = root.path().to_owned();
    each(
        |settings| Settings { address_uploads_max: 2, uploads: true, root: Some(path.clone()), ..settings },
        |daemon, _, driver| {
            let begin = |source: &str, name: &str| begin_upload(source, daemon, &format!("{driver}{name}"));
            let mut held = ["1", "2"].map(|name| begin(ONE, name));
            wait_until("both are written to", || daemon.telemetry().uploads.writers.get() == 2);
            let refused = begin(ONE, "3").response_to("PUT");
            assert_eq!(refused.status, 429, "{driver}");
            assert!(refused.problem().contains("address_uploads_max"), "{driver}: {}", refused.problem());
            assert!(refused.field("Retry-After").is_some(), "{driver}");
            let mut others = [begin(OTHER, "4"), begin("127.0.0.1", "5")];
            for upload in held.iter_mut().chain(&mut others) {
                upload.send("b");
                assert_eq!(upload.response_to("PUT").status, 201, "{driver}");
            }
            assert_eq!(limited(daemon, Limit::AddressUploads), 1, "{driver}");
            let mut again = begin(ONE, "6");
            again.send("b");
            assert_eq!(again.response_to("PUT").status, 201, "{driver}: the share is given back");
        },
    );
}

#[test]
fn the_address_with_most_uploads_makes_room() {
    let root = Fixture::new();
    let path = root.path().to_owned();
    each(
        |settings| Settings { uploads_max: 3, uploads: true, root: Some(path.clone()), ..settings },
        |daemon, _, driver| {
            let begin = |source: &str, name: &str| begin_upload(source, daemon, &format!("{driver}{name}"));
            let held = ["1", "2", "3"].map(|name| begin(ONE, name));
            wait_until("all are written to", || daemon.telemetry().uploads.writers.get() == 3);
            assert_eq!(begin(ONE, "4").response_to("PUT").status, 429, "{driver}: of the same address");
            let mut other = begin(OTHER, "5");
            other.send("b");
            assert_eq!(other.response_to("PUT").status, 201, "{driver}");
            assert_eq!(limited(daemon, Limit::Uploads), 1, "{driver}");
            let mut answers = Vec::new();
            for mut upload in held {
                if upload.is_silent_for(Duration::from_millis(1)) {
                    upload.send("b");
                }
                answers.push(upload.response_to("PUT").status);
            }
            answers.sort_unstable();
            assert_eq!(answers, [201, 201, 429], "{driver}");
        },
    );
}

#[test]
fn one_address_is_sent_no_more_listings_than_its_share() {
    /// The number of names whose page, of nine characters for each in a name, is more than both buffers take.
    const NAMES: usize = 3_000;
    let root = Fixture::new();
    for number in 0..NAMES {
        root.write(&format!("{number}{}", "\"".repeat(240)), b"");
    }
    let path = root.path().to_owned();
    each(
        |settings| Settings { address_listings_max: 1, listing: true, root: Some(path.clone()), ..settings },
        |daemon, _, driver| {
            let ask = |source: &str| {
                let mut asking = open(source, daemon.data());
                asking.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                asking
            };
            let mut unread = ask(ONE);
            assert_eq!(unread.receive(12), b"HTTP/1.1 200", "{driver}");
            let refused = ask(ONE).response_to("GET");
            assert_eq!(refused.status, 429, "{driver}");
            assert!(refused.problem().contains("address_listings_max"), "{driver}: {}", refused.problem());
            assert_eq!(ask(OTHER).response_to("GET").status, 200, "{driver}");
            assert_eq!(get(daemon.data(), "/", "").status, 200, "{driver}");
            drop(unread);
            wait_until("the share is given back", || ask(ONE).response_to("GET").status == 200);
            assert!(limited(daemon, Limit::AddressListings) >= 1, "{driver}");
        },
    );
}

#[test]
fn streams_have_shares_and_the_slowest_of_the_fullest_address_makes_room() {
    each(
        |settings| Settings { targets_allowed: vec!["127.0.0.1:*".to_owned()], streams_max: 3, ..settings },
        |daemon, settings, driver| {
            // The listener takes connections into its queue, and reads nothing.
            let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
            let silent = TcpListener::bind(target.unwrap()).unwrap();
            let begin = |source: &str| {
                let mut asking = open(source, daemon.control());
                let target = silent.local_addr().unwrap();
                asking.send(format!(
                    "POST /stream?size=1GiB&protocol=raw&target={target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                ));
                asking
            };
            let running = || daemon.telemetry().control.streams_running.get();
            let mut held = [begin(ONE), begin(ONE), begin(ONE)];
            wait_until("all run", || running() == 3);
            let further = begin(ONE).response_to("POST");
            assert_eq!(further.status, 429, "{driver}");
            assert!(further.problem().contains("streams_max"), "{driver}");
            let mut other = begin(OTHER);
            wait_until("one has made room", || limited(daemon, Limit::Streams) == 1);
            assert!(other.is_silent_for(WHILE), "{driver}: it runs");
            let ended = held.each_mut().map(|asking| !asking.is_silent_for(Duration::from_millis(1)));
            assert_eq!(ended.iter().filter(|ended| **ended).count(), 1, "{driver}");
            let ended = ended.iter().position(|ended| *ended).unwrap();
            let response = held[ended].response_to("POST");
            assert_eq!(response.status, 429, "{driver}");
            assert!(response.problem().contains("made room"), "{driver}: {}", response.problem());
            assert_eq!(daemon.telemetry().control.streams.get(Outcome::Evicted), 1, "{driver}");
            wait_until("its transfer is ended", || {
                daemon.count(|worker| worker.transfers.get(Outcome::Evicted)) == 1
            });
            assert_eq!(running(), 3, "{driver}");
            daemon.reload(Settings { address_streams_max: 1, streams_max: 9, ..settings.clone() });
            let refused = begin(OTHER).response_to("POST");
            assert_eq!(refused.status, 429, "{driver}");
            assert!(refused.problem().contains("address_streams_max"), "{driver}: {}", refused.problem());
            assert_eq!(limited(daemon, Limit::AddressStreams), 1, "{driver}");
            drop((held, other));
            wait_until("all are given back", || running() == 0);
        },
    );
}
