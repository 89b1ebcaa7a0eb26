//! The daemon as its users run it: a process with arguments, signals, a log and an exit code.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{DEADLINE, get, wait_until};

/// A running `streamd`, killed when the test ends.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// The thread that reads the log, which ends with the process's standard error.
    log_reader: Option<JoinHandle<()>>,
}

/// The flags that give a `streamd` of a test free ports and a log that can be read back.
pub(crate) const TEST_FLAGS: [&str; 6] =
    ["--data-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--log-format", "json"];

/// Makes a `streamd` with arguments and no variables of its own from outside.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamd"));
    let is_its_own = |name: &str| {
        ["STREAMD_", "LISTEN_", "WATCHDOG_", "NOTIFY_"].iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars().filter(|(name, _)| is_its_own(name)) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Makes a `streamd` whose system call `number` fails with `errno`, a name; libc has the numbers as `SYS_*`.
pub(crate) fn refusing(number: i64, errno: &str, arguments: &[&str]) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/refusing.py");
    let streamd = command(arguments);
    let mut wrapped = Command::new("python3");
    wrapped.args([script, &number.to_string(), errno]).arg(streamd.get_program()).args(streamd.get_args());
    wrapped.env("STREAMD_CONNECTIONS_MAX", "100");
    wrapped
}

/// Sets free ports and a log that can be read back, as [`TEST_FLAGS`] do, but so that flags can still override
/// them, and a limit of connections as in [`Process::start`].
pub(crate) fn set_test_variables(command: &mut Command) {
    command.env("STREAMD_DATA_LISTEN", "127.0.0.1:0").env("STREAMD_CONTROL_LISTEN", "127.0.0.1:0");
    command.env("STREAMD_LOG_FORMAT", "json").env("STREAMD_CONNECTIONS_MAX", "500");
}

/// Runs `streamd` to its end.
pub(crate) fn run_streamd(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

impl Process {
    /// Starts on free ports, with a JSON log, and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Process {
        let mut command = command(&TEST_FLAGS);
        // The limit is below any usual one of open files, so that no host adds a warning of its own; a flag
        // overrides it.
        command.env("STREAMD_CONNECTIONS_MAX", "500").args(arguments);
        Process::spawn(command)
    }

    /// Starts any command that becomes a `streamd` with a JSON log.
    pub(crate) fn spawn(mut command: Command) -> Process {
        command.stdout(Stdio::null());
        Process::spawn_with_output(command)
    }

    /// Starts as [`Process::spawn`] does, with the standard output that the command has.
    pub(crate) fn spawn_with_output(mut command: Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // This closes whatever the command holds open for its child, listeners for example.
        drop(command);
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        let log_reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        let process = Process { child, log, log_reader: Some(log_reader) };
        process.wait_for_line("listening");
        process
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line that contains `text`, and returns the first.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(Instant::now() < end, "no log line with {text:?} within {DEADLINE:?}: {log:#?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The address of the data plane, as logged.
    pub(crate) fn data(&self) -> SocketAddr {
        json(&self.wait_for_line("listening"))["data"].as_str().unwrap().parse().unwrap()
    }

    /// The address of the control plane, as logged.
    pub(crate) fn control(&self) -> SocketAddr {
        json(&self.wait_for_line("listening"))["control"].as_str().unwrap().parse().unwrap()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the end of streamd", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ends it by SIGTERM and returns its whole log.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{:#?}", self.log());
        self.whole_log()
    }

    /// Returns the log of a process that has ended, to its last line.
    pub(crate) fn whole_log(&mut self) -> Vec<String> {
        if let Some(reader) = self.log_reader.take() {
            reader.join().unwrap();
        }
        self.log()
    }

    /// Returns the value of the metric whose line begins with `name`, labels included.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = get(self.control(), "/metrics", "").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
    }

    /// Returns how many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Returns the processor time that it has used so far, in clock ticks of 10 ms (proc_pid_stat(5)).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name stands in parentheses and may hold spaces; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Returns the memory that it has resident now, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Returns the most memory that it has had resident so far, in bytes (VmHWM, proc_pid_status(5)).
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses a line of the JSON log.
pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Returns the lines of a JSON log whose field `name` is `value`.
pub(crate) fn lines_with(log: &[String], name: &str, value: &str) -> Vec<Value> {
    log.iter().map(|line| json(line)).filter(|line| line[name] == value).collect()
}
