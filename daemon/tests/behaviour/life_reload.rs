//! Tests that a reload is in force when it is told.

use rustix::process::Signal;

use crate::harness::{Connection, Fixture, Process, driver_names, wait_until};

#[test]
fn what_was_reloaded_is_in_force_when_it_is_told() {
    let files = Fixture::new();
    for driver in driver_names() {
        let configure = |frame_bytes_max: u64| {
            files.write("streamd.toml", format!("frame_bytes_max = {frame_bytes_max}\n").as_bytes())
        };
        let config = configure(1_000);
        let flags = ["--driver", driver, "--workers", "2", "--config", config.to_str().unwrap()];
        let process = Process::start(&flags);
        for reload in 1..=10 {
            let is_allowed = reload % 2 == 0;
            configure(if is_allowed { 1_000 } else { 10 });
            // Either worker has taken some of these connections by then.
            let mut connections: Vec<Connection> = (0..4).map(|_| Connection::open(process.data())).collect();
            process.signal(Signal::HUP);
            wait_until("the reload to be told", || {
                process.log().iter().filter(|line| line.contains("\"reloaded\"")).count() == reload
            });
            for connection in &mut connections {
                connection.send([&100_u64.to_le_bytes()[..], &[7; 100]].concat());
                connection.finish();
            }
            for connection in &mut connections {
                let expected = if is_allowed { &b"done"[..] } else { b"" };
                assert_eq!(connection.receive_what_comes(), expected, "{driver}: reload {reload}");
            }
        }
    }
}
