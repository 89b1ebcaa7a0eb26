//! The host of a run: the facts by which its figures are comparable with others', or not.

use std::fs;

use serde::{Deserialize, Serialize};

/// Facts about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// The processor's model name.
    pub cpu: String,
    /// Cores that the bench may run on.
    pub cores: usize,
    /// Frequency governor of the first core; `none` where it has none, as in most virtual machines.
    pub governor: String,
    /// TCP congestion control that sockets get by default.
    pub congestion_control: String,
    /// Cores that the server was pinned to.
    pub server_cores: Vec<usize>,
    /// Cores that the client was pinned to.
    pub client_cores: Vec<usize>,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Host {
    /// Reads the facts; what can't be read is `unknown`.
    pub fn observe(server_cores: &[usize], client_cores: &[usize]) -> Host {
        Host {
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| UNKNOWN.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .map_or_else(|_| "none".to_owned(), |text| text.trim().to_owned()),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            server_cores: server_cores.to_vec(),
            client_cores: client_cores.to_vec(),
            memory_bytes: memory_bytes(),
        }
    }
}

const UNKNOWN: &str = "unknown";

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn memory_bytes() -> u64 {
    let total = field("/proc/meminfo", "MemTotal");
    let kib = total.and_then(|text| text.strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok()));
    kib.map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn this_host_has_a_kernel_and_cores() {
        let host = Host::observe(&[0], &[1]);
        assert!(host.kernel.contains('.'), "{host:?}");
        assert!(host.cores >= 1 && host.memory_bytes > 0, "{host:?}");
    }
}
