//! Tests of sockets that a service manager passes: who accepts from them, what is refused, and that nothing is
//! lost while the daemon restarts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use streamd::config::Settings;

use crate::harness::{
    Connection, DEADLINE, Fixture, Process, TEST_FLAGS, TestDaemon, command, copy_of, driver_names, drivers,
    get, json, or_skip, pattern, request, set_test_variables, settings, sha256, wait_until, with_sockets,
};

/// Makes a socket of a service manager, and returns its address.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Makes a `streamd` that was passed these sockets by these names.
fn streamd_with(sockets: Vec<OwnedFd>, names: &str, arguments: &[&str]) -> Command {
    let mut wrapped = with_sockets(sockets, names, &command(arguments));
    set_test_variables(&mut wrapped);
    wrapped
}

fn spawn_with(sockets: Vec<OwnedFd>, names: &str, arguments: &[&str]) -> Process {
    Process::spawn_with_output(streamd_with(sockets, names, arguments))
}

#[test]
fn passed_sockets_are_listened_on_and_their_addresses_win() {
    let ((data, data_address), (control, control_address)) = (listener(), listener());
    let sockets = || vec![copy_of(&control), copy_of(&data)];
    let ports = [data_address.to_string(), control_address.to_string()];
    let by_port = ["--data-listen", &ports[0], "--control-listen", &ports[1]];
    for (names, flags) in [("control:data", &[][..]), ("streamd.socket:streamd.socket", &by_port)] {
        let process = spawn_with(sockets(), names, flags);
        assert_eq!([process.data(), process.control()], [data_address, control_address], "{names}");
        assert_eq!(json(&process.wait_for_line("listening"))["inherited"], "data and control");
        assert_eq!(get(data_address, "/absent", "").status, 404, "{names}");
        assert_eq!(get(control_address, "/health", "").status, 200, "{names}");
        assert_eq!(request(control_address, "POST", "/stream?size=1MiB", "").status, 200, "{names}");
        // The daemon listens on the passed sockets alone, and keeps none besides: 3 and 4 are these two.
        process.signal(Signal::HUP);
        process.wait_for_line("\"reloaded\"");
        let log = process.stop();
        assert!(!log.iter().any(|line| line.contains("needs restart")), "{log:#?}");
    }
    let process = spawn_with(vec![copy_of(&data)], "data", &[]);
    assert_eq!(process.data(), data_address);
    assert_ne!(process.control(), control_address);
    assert_eq!(json(&process.wait_for_line("listening"))["inherited"], "data");
    assert_eq!(get(process.control(), "/health", "").status, 200);
    process.stop();
}

#[test]
fn sockets_of_another_process_are_not_touched() {
    let flags = [&TEST_FLAGS[..], &["--connections-max", "500"]].concat();
    let mut command = command(&flags);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "data:control");
    let process = Process::spawn(command);
    assert_eq!(json(&process.wait_for_line("listening"))["inherited"], "none");
    assert_eq!(get(process.control(), "/health", "").status, 200);
    process.stop();
}

/// Returns the exit code and the message of a daemon that must not start.
fn refusal(mut streamd: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = streamd.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn sockets_that_can_not_be_used_are_configuration_faults() {
    let takes = "streamd takes listening stream sockets (ListenStream=PORT, ADDRESS:PORT or PATH, Accept=no)";
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        refusal(streamd_with(vec![datagrams.into()], "data", &[])),
        (
            Some(78),
            format!("streamd: socket activation: passed socket 1 (\"data\") doesn't speak TCP: {takes}\n")
        )
    );
    let (stray, address) = listener();
    let (code, text) = refusal(streamd_with(vec![stray.into()], "streamd.socket", &[]));
    let expected = format!(
        "streamd: socket activation: passed socket 1 (\"streamd.socket\") on {address} is for neither plane, since \
         data_listen is 127.0.0.1:0 and control_listen is 127.0.0.1:0: set FileDescriptorName=data or control, the \
         name of a [[listen]], or one of these addresses\n"
    );
    assert_eq!((code, text), (Some(78), expected));
    let mut announced = streamd_with(Vec::new(), "", &[]);
    announced.env("LISTEN_FDS", "many");
    assert_eq!(
        refusal(announced),
        (
            Some(78),
            "streamd: socket activation: LISTEN_FDS is \"many\", which is no count of sockets up to 16\n"
                .to_owned()
        )
    );
}

#[test]
fn a_passed_socket_opens_nothing_to_others_without_a_token() {
    let root = Fixture::new();
    let token_file = root.write("token", b"secret");
    let path = root.path().to_str().unwrap();
    let uploads = ["--uploads", "--root", path];
    for (name, flags, fault) in [
        (
            "control",
            &[][..],
            "streamd: control_listen: ADDRESS can be reached from other hosts: set token_file, or listen on 127.0.0.1",
        ),
        (
            "data",
            &uploads,
            "streamd: uploads: data_listen ADDRESS can be reached from other hosts: set token_file, or listen on \
             127.0.0.1 (--uploads)",
        ),
    ] {
        let open = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = open.local_addr().unwrap().to_string();
        let note = "streamd: the addresses of passed sockets (ListenStream= of the socket unit) win over data_listen \
                    and control_listen";
        assert_eq!(
            refusal(streamd_with(vec![copy_of(&open)], name, flags)),
            (Some(78), format!("{}\n{note}\n", fault.replace("ADDRESS", &address)))
        );
        let with_token = [flags, &["--token-file", token_file.to_str().unwrap()]].concat();
        spawn_with(vec![copy_of(&open)], name, &with_token).stop();
    }
    // The other way round, the socket is the guard.
    let (local, address) = listener();
    let process =
        spawn_with(vec![copy_of(&local)], "data", &[&uploads[..], &["--data-listen", "0.0.0.0:0"]].concat());
    assert_eq!(process.data(), address);
    process.stop();
}

#[test]
fn all_workers_accept_from_a_passed_listener() {
    const WORKERS: usize = 3;
    const CLIENTS: usize = 12;
    const CONNECTIONS: usize = 50;
    for driver in drivers() {
        let (data, address) = listener();
        let passed = vec![("data", OwnedFd::from(data))];
        let daemon = TestDaemon::start_on(passed, Settings { driver, workers: WORKERS, ..settings() });
        assert_eq!(daemon.data(), address);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    // Some connections stay open meanwhile, so that a worker that has many doesn't get away with
                    // it.
                    let mut kept = Vec::new();
                    for number in 0..CONNECTIONS {
                        let mut connection = Connection::open(address);
                        connection.send("GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n");
                        assert_eq!(connection.response_to("GET").status, 404);
                        if number % 5 == 0 {
                            kept.push(connection);
                        }
                    }
                });
            }
        });
        let accepted: Vec<u64> =
            daemon.telemetry().workers.iter().map(|worker| worker.connections_accepted.get()).collect();
        assert_eq!(accepted.iter().sum::<u64>(), (CLIENTS * CONNECTIONS) as u64, "{driver:?}: {accepted:?}");
        assert!(accepted.iter().all(|count| *count > 0), "{driver:?}: {accepted:?}");
        eprintln!("{driver:?}: connections by worker: {accepted:?}");
    }
}

#[test]
fn workers_that_wait_for_a_passed_listener_do_not_spin() {
    const TICKS: u64 = 200;
    for driver in driver_names() {
        let (data, address) = listener();
        let process = spawn_with(vec![copy_of(&data)], "data", &["--driver", driver, "--workers", "4"]);
        let mut open: Vec<Connection> = (0..20).map(|_| Connection::open(address)).collect();
        for connection in &mut open {
            connection.send("GET /absent HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(connection.response_to("GET").status, 404, "{driver}");
        }
        let before = process.cpu_ticks();
        std::thread::park_timeout(Duration::from_millis(TICKS * 10));
        let used = process.cpu_ticks() - before;
        assert!(used < TICKS / 4, "{driver}: {used} of {TICKS} ticks");
        process.stop();
    }
}

/// The answers and faults that clients of short connections saw.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    refused: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

const SMALL: &str = "what every client asks for";
const HEALTH: [&str; 2] = ["\r\n\r\nOK", "\r\n\r\ndraining"];

impl Seen {
    /// Opens one connection after the other, each with one request, until it is over. An answer that holds one of
    /// `good` counts as good.
    fn keep_connecting(&self, address: SocketAddr, path: &str, good: &[&str], is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            match ask_once(address, path, good) {
                Ok(()) => _ = self.answers.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.failures.lock().unwrap().push(error.to_string()),
            }
        }
    }
}

fn ask_once(address: SocketAddr, path: &str, good: &[&str]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut received = String::new();
    stream.read_to_string(&mut received)?;
    let is_good = good.iter().any(|good| received.ends_with(good));
    is_good.then_some(()).ok_or_else(|| std::io::Error::other(format!("{path}: {received:?}")))
}

/// Restarts a daemon three times while clients connect. During each restart, a download that was begun before is
/// read to its end.
fn restart_under_load(driver: &str, root: &Path, content: &[u8], [seen, checked]: &[Seen; 2]) {
    const RESTARTS: usize = 3;
    const CONNECTIONS_MIN: usize = 2_000;
    let ((data, data_address), (control, control_address)) = (listener(), listener());
    let start = || {
        let flags = ["--driver", driver, "--workers", "2", "--root", root.to_str().unwrap()];
        spawn_with(vec![copy_of(&data), copy_of(&control)], "data:control", &flags)
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut process = start();
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| seen.keep_connecting(data_address, "/small", &[SMALL], &is_over)))
            .collect();
        let checks = scope.spawn(|| checked.keep_connecting(control_address, "/health", &HEALTH, &is_over));
        for restart in 1..=RESTARTS {
            let some = restart * CONNECTIONS_MIN / (RESTARTS + 1);
            wait_until("some connections", || seen.answers.load(Ordering::Relaxed) > some);
            let mut download = Connection::open(data_address);
            download.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let head = download.head();
            process.signal(Signal::TERM);
            process.wait_for_line("draining");
            assert_eq!(sha256(&download.receive(head.content_length())), sha256(content), "{driver}");
            assert_eq!(process.wait().code(), Some(0), "{driver}");
            // No daemon runs, and yet a client can connect and be answered later.
            let mut waiting = Connection::open(data_address);
            waiting.send("GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n");
            process = start();
            assert_eq!(waiting.response_to("GET").text(), SMALL, "{driver}");
        }
        wait_until("all connections", || seen.answers.load(Ordering::Relaxed) >= CONNECTIONS_MIN);
        is_over.store(true, Ordering::Relaxed);
        // The last clients still need a daemon that answers.
        clients.into_iter().chain([checks]).for_each(|client| client.join().unwrap());
        process.stop();
    });
}

#[test]
fn a_restart_on_passed_sockets_loses_no_connection() {
    let root = Fixture::new();
    let content = pattern(64 << 20);
    root.write("large", &content);
    root.write("small", SMALL.as_bytes());
    for driver in driver_names() {
        let seen = <[Seen; 2]>::default();
        restart_under_load(driver, root.path(), &content, &seen);
        for (seen, plane) in seen.into_iter().zip(["data", "control"]) {
            let failures = seen.failures.into_inner().unwrap();
            let (answers, refused) = (seen.answers.into_inner(), seen.refused.into_inner());
            let failed = failures.len();
            eprintln!(
                "{driver}: {plane}: 3 restarts: {answers} answered, {refused} refused, {failed} failed"
            );
            assert_eq!(refused, 0, "{driver}: {plane}");
            assert_eq!(failures, [] as [String; 0], "{driver}: {plane}");
        }
    }
}

#[test]
fn what_systemd_passes_is_taken() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    let found = Path::new(ACTIVATE).exists().then_some(()).ok_or_else(|| format!("{ACTIVATE} isn't there"));
    let Some(()) = or_skip(found) else { return };
    // systemd binds by itself, so these are free unless another program is quicker.
    let [data, control] = [listener().1, listener().1];
    let streamd = command(&[&TEST_FLAGS[..], &["--connections-max", "500"]].concat());
    let mut activate = Command::new(ACTIVATE);
    activate.args(["--listen", &data.to_string(), "--listen", &control.to_string()]);
    activate.arg("--fdname=data:control").arg(streamd.get_program()).args(streamd.get_args());
    // systemd starts the daemon when the first client comes.
    let first = std::thread::spawn(move || {
        let mut answer = None;
        wait_until("somebody to listen", || {
            answer = TcpStream::connect(data).ok().map(|_| get(data, "/absent", ""));
            answer.is_some()
        });
        answer.unwrap().status
    });
    let process = Process::spawn(activate);
    assert_eq!(first.join().unwrap(), 404);
    assert_eq!([process.data(), process.control()], [data, control]);
    assert_eq!(json(&process.wait_for_line("listening"))["inherited"], "data and control");
    assert_eq!(get(control, "/health", "").status, 200);
    process.stop();
}
