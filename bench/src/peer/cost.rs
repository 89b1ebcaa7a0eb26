//! Costs of servers and of the bench itself: CPU time and memory, over all their processes.
//!
//! CPU time comes from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds, all threads, those that have
//! ended and io_uring's `iou-wrk-*` included. The other sources fall short: utime + stime of /proc/PID/stat are the
//! same sum in steps of 10 ms, and /proc/PID/task/*/schedstat forgets threads that have ended. Of a thread that
//! runs at this very moment the clock shows the state of its last timer tick (Linux 6.18, `thread_group_cputime`),
//! so a figure may lack up to one tick, 1 to 10 ms, for each core.
//!
//! Processes that have ended are counted once their parent has waited for them, by the parent's cutime + cstime;
//! those steps of 10 ms matter only for servers that start processes while they serve, and none here does.
//! Softirq work that the kernel does on a core's behalf, as loopback receive is, counts for whoever was running there.

use std::fs;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use super::tree;

/// The cost of processes up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// CPU seconds in user and kernel mode since they started.
    pub cpu_s: f64,
    /// The most memory that they had resident (VmHWM), in bytes, summed over them: pages that processes share count
    /// for each.
    pub memory_peak_bytes: u64,
    /// Memory that they have resident now, in bytes, with shared pages divided by their users (Pss). Socket buffers
    /// are the kernel's and not in it.
    pub memory_bytes: u64,
}

/// Returns the cost of the bench itself, in all its threads, without its peers.
pub fn own_cost() -> Cost {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Cost {
        cpu_s: seconds(cpu.tv_sec, cpu.tv_nsec),
        memory_peak_bytes: memory_peak_bytes("self"),
        memory_bytes: memory_bytes("self"),
    }
}

/// Returns the cost of a server that the bench didn't start, by its process id.
pub fn cost_of_tree(leader: u32) -> Cost {
    i32::try_from(leader).map_or_else(|_| Cost::default(), of_tree)
}

/// Returns the cost of a process, its group and its descendants.
pub(super) fn of_tree(leader: i32) -> Cost {
    let mut sum = Cost::default();
    let mut ticks = 0;
    for process in tree::of(leader) {
        let id = process.id.to_string();
        sum.cpu_s += cpu_s(process.id);
        sum.memory_peak_bytes += memory_peak_bytes(&id);
        sum.memory_bytes += memory_bytes(&id);
        ticks += process.children_cpu_ticks;
    }
    sum.cpu_s += ticks as f64 / clock_ticks_per_second() as f64;
    sum
}

/// Makes VmHWM start again from the memory that is resident now.
pub(super) fn reset_memory_peak(leader: i32) {
    for process in tree::of(leader) {
        // This is refused for processes of other users; then the peak stays that of their whole life.
        let _ = fs::write(format!("/proc/{}/clear_refs", process.id), "5");
    }
}

/// Returns the CPU seconds of one process; 0 when it is gone.
fn cpu_s(id: i32) -> f64 {
    let time = clock_getcpuclockid(Pid::from_raw(id)).and_then(nix::time::clock_gettime);
    time.map_or(0.0, |time| seconds(time.tv_sec(), time.tv_nsec()))
}

fn seconds(whole: i64, nanoseconds: i64) -> f64 {
    whole as f64 + nanoseconds as f64 / 1e9
}

fn memory_peak_bytes(process: &str) -> u64 {
    field_bytes(&format!("/proc/{process}/status"), "VmHWM:").unwrap_or(0)
}

/// Returns the memory of a process, by smaps_rollup (Linux 4.14) or, as that is closed to other users, by VmRSS.
fn memory_bytes(process: &str) -> u64 {
    field_bytes(&format!("/proc/{process}/smaps_rollup"), "Pss:")
        .or_else(|| field_bytes(&format!("/proc/{process}/status"), "VmRSS:"))
        .unwrap_or(0)
}

/// Returns the value of a line such as `Pss:   123 kB`.
fn field_bytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{field_bytes, of_tree, own_cost};
    use crate::peer::process;

    #[test]
    fn a_busy_child_that_was_waited_for_counts_for_its_parent() {
        // The shell waits for a child that uses 0.2 s, then stays.
        let script = "timeout --preserve-status 5 \
                      sh -c 'while [ $(cut -d\" \" -f14 /proc/$$/stat) -lt 20 ]; do :; done'; echo; read x";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let cost = of_tree(i32::try_from(child.id()).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(cost.cpu_s >= 0.19, "{cost:?}");
        assert!(cost.memory_bytes > 0 && cost.memory_peak_bytes > 0, "{cost:?}");
    }

    #[test]
    fn a_busy_process_costs_what_its_own_account_says() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while of_tree(id).cpu_s < 0.5 && std::time::Instant::now() < deadline {
            process::pause();
        }
        // The process is stopped, so that both values are read in the same state.
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(id).unwrap(),
            rustix::process::Signal::STOP,
        )
        .unwrap();
        while super::tree::read(id).unwrap().state != 'T' {
            process::pause();
        }
        let cost = of_tree(id).cpu_s;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields: Vec<u64> = stat.split(' ').skip(13).take(2).map(|field| field.parse().unwrap()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let account = (fields[0] + fields[1]) as f64 / 100.0;
        assert!(cost >= 0.5 && (cost - account).abs() < 0.021, "{cost} against {account}");
    }

    #[test]
    fn own_cost_grows_with_own_work() {
        let before = own_cost();
        let mut sum = 0_u64;
        while own_cost().cpu_s - before.cpu_s < 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(own_cost().memory_peak_bytes >= before.memory_peak_bytes && before.memory_bytes > 0);
    }

    #[test]
    fn absent_fields_are_none() {
        assert_eq!(field_bytes("/proc/self/status", "NoSuchField:"), None);
        assert_eq!(field_bytes("/proc/0/status", "VmHWM:"), None);
    }
}
