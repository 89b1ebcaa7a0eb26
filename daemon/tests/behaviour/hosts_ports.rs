//! A host without local ports for connections of its own.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::harness::{Process, command, driver_names, get, or_skip, request, set_test_variables};

/// Makes a `streamd` in a network in which it is alone; the error says why that can't be had.
fn in_own_network(arguments: &[&str]) -> Result<Command, String> {
    const SCRIPT: &str = "ip link set lo up && exec \"$0\" \"$@\"";
    let wrap = |streamd: &Command| {
        let mut wrapped = Command::new("unshare");
        wrapped.args(["--net", "sh", "-c", SCRIPT]).arg(streamd.get_program()).args(streamd.get_args());
        set_test_variables(&mut wrapped);
        wrapped
    };
    let trial = wrap(&command(&["--version"])).output().map_err(|error| format!("unshare: {error}"))?;
    if !trial.status.success() {
        return Err(format!("a network of its own: {}", String::from_utf8_lossy(&trial.stderr).trim()));
    }
    Ok(wrap(&command(arguments)))
}

#[test]
fn no_local_port_is_this_hosts_fault_and_not_the_targets() {
    for driver in driver_names() {
        let flags = ["--driver", driver, "--targets-allowed", "127.0.0.1:*"];
        let Some(streamd) = or_skip(in_own_network(&flags)) else { return };
        let process = Process::spawn(streamd);
        let pid = process.pid().as_raw_nonzero();
        let network = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let process = &process;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&network),
                    Some(LinkNameSpaceType::Network),
                )
                .unwrap();
                let target = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = target.local_addr().unwrap();
                std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50001").unwrap();
                let _held = [(); 2].map(|()| TcpStream::connect(address).unwrap());
                let path = format!("/stream?size=1KiB&target={address}");
                let answer = request(process.control(), "POST", &path, "");
                let detail = answer.problem();
                assert_eq!(answer.status, 503, "{driver}: {detail}");
                let expected = format!(
                    "this host has no free local port for {address}: widen net.ipv4.ip_local_port_range"
                );
                assert!(detail.starts_with(&expected), "{driver}: {detail}");
                let metrics = get(process.control(), "/metrics", "").text();
                for family in ["streams", "transfers"] {
                    let sample = format!("streamd_{family}_total{{outcome=\"no_local_port\"}} 1\n");
                    assert!(metrics.contains(&sample), "{driver}: no {sample}");
                }
                let answer = request(process.control(), "POST", "/stream?size=1KiB", "");
                assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
            });
        });
        let line = process.wait_for_line("\"STREAM\"");
        assert!(line.contains("no_local_port") && line.contains("ip_local_port_range"), "{line}");
    }
}
