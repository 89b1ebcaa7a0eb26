//! A network of a test's own, in which clients of several addresses are on this host. Most hosts let root alone make
//! one; where it can't be had that is printed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A process that keeps the network until it is dropped.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `test` on a thread whose network has these addresses besides those of loopback, and so have the threads and
/// processes that it starts. Traffic stays on the network's own loopback device.
pub(crate) fn with_addresses(addresses: &[&str], test: impl FnOnce() + Send) {
    let keeper = match keep(addresses) {
        Ok(keeper) => keeper,
        Err(reason) => {
            eprintln!("skipped: no network of its own: {}", reason.trim());
            return;
        }
    };
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let network = File::open(format!("/proc/{}/ns/net", keeper.0.id())).unwrap();
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn keep(addresses: &[&str]) -> Result<Keeper, String> {
    let added = addresses.iter().map(|address| format!("ip address add {address}/32 dev lo && "));
    let script = format!("ip link set lo up && {}echo ready && exec cat", added.collect::<String>());
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut keeper = Keeper(command.spawn().map_err(|error| format!("unshare: {error}"))?);
    let mut line = String::new();
    let _ = BufReader::new(keeper.0.stdout.take().unwrap()).read_line(&mut line);
    if line == "ready\n" {
        return Ok(keeper);
    }
    let mut reason = String::new();
    let _ = keeper.0.stderr.take().unwrap().read_to_string(&mut reason);
    Err(reason)
}
