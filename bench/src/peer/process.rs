//! A server's processes: found, started pinned and apart, and ended without a trace.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::tree;

/// The directories where Debian keeps servers, which are not on an ordinary user's PATH.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The time between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The time in which a server must end by itself. Requests are over when it is stopped, so that a longer wait is a
/// fault.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The time in which the kernel must end killed processes; those with gigabytes to free need some.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

/// The time in which a program must print something about itself, as its version, and end.
const PRINT_TIME_MAX: Duration = Duration::from_secs(10);

/// The most bytes that are read of a log.
const LOG_BYTES_MAX: usize = 64 << 10;

/// The most characters that are shown of a line.
const LINE_CHARACTERS_MAX: usize = 300;

/// The limit of open files that servers get where there is none; some allocate for as many as they may open.
const OPEN_FILES_DEFAULT: u64 = 65_536;

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the server in a session of its own, with nothing of the bench's environment but PATH, so that a
    /// STREAMD_* variable doesn't set up a peer by accident.
    ///
    /// A service manager starts servers so too: Ctrl-C in the terminal reaches only the bench, and the scheduler's
    /// autogroups (sched(7)) share a core between server and client. As one group, a server and a client that wake
    /// each other all the time keep the kernel's own threads, which complete reads, off their core for up to 3.9 s
    /// (Linux 6.18; `perf bench sched pipe` alone: 0.24 s).
    pub(super) fn start(
        command_line: &[String],
        environment: &[(&'static str, String)],
        directory: &Path,
        log: &Path,
    ) -> io::Result<Process> {
        let [program, arguments @ ..] = command_line else { return Err(io::ErrorKind::InvalidInput.into()) };
        let output = File::create(log)?;
        let child = in_own_session(program)
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", directory)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// Returns the id of the main process and of its group. It isn't given to another process before this is
    /// dropped, because the child is not waited for earlier.
    pub(super) fn leader(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    pub(super) fn is_running(&self) -> bool {
        tree::read(self.leader()).is_some_and(|process| process.lives())
    }

    /// Returns the line of its output that tells the fault, with the name of the log.
    pub(super) fn complaint(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(LOG_BYTES_MAX)]).into_owned();
        let line = complaint(&text).unwrap_or_else(|| "it printed nothing".to_owned());
        format!("{line} (log: {})", self.log.display())
    }

    fn signal_all(&self, which: Signal) {
        for process in tree::of(self.leader()) {
            signal(process.id, which);
        }
    }

    fn wait_until_gone(&self, time_max: Duration) -> bool {
        let deadline = Instant::now() + time_max;
        while tree::of(self.leader()).iter().any(|process| process.lives()) {
            if Instant::now() >= deadline {
                return false;
            }
            pause();
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            signal(self.leader(), Signal::TERM);
        } else {
            // No parent is left that would tell them.
            self.signal_all(Signal::TERM);
        }
        if !self.wait_until_gone(STOP_TIME_MAX) {
            self.signal_all(Signal::KILL);
            self.wait_until_gone(KILL_TIME_MAX);
        }
        // Only now may the kernel use its id again. A process that not even SIGKILL ended is left, instead of
        // waited for.
        let _ = self.child.try_wait();
    }
}

/// Makes a command that runs in a session of its own. setsid(1) becomes the program without a fork, since a new
/// child leads no process group. Where it is missing, a group keeps Ctrl-C away.
fn in_own_session(program: &str) -> Command {
    if let Ok(setsid) = find_program("setsid", &program_directories()) {
        let mut command = Command::new(setsid);
        command.arg(program);
        return command;
    }
    let mut command = Command::new(program);
    command.process_group(0);
    command
}

/// Waits a moment before a condition is looked at again.
pub(super) fn pause() {
    std::thread::park_timeout(POLL_INTERVAL);
}

/// Returns the directories of PATH, then those of the system's servers.
pub(super) fn program_directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(PathBuf::from)).collect()
}

pub(super) fn find_program(name: &str, directories: &[PathBuf]) -> Result<PathBuf, String> {
    let mut candidates = directories.iter().map(|directory| directory.join(name));
    candidates
        .find(|path| path.is_absolute() && path.is_file())
        .ok_or_else(|| format!("{name} is not installed: scripts/install-peers.sh installs it"))
}

/// Returns the words before a server's own command line, which end it with the bench and pin it to its cores.
pub(super) fn wrappers(cores: &[usize], directories: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    if let Ok(setpriv) = find_program("setpriv", directories) {
        words.extend([setpriv.display().to_string(), "--pdeathsig".to_owned(), "TERM".to_owned()]);
    }
    if cores.is_empty() {
        return Ok(words);
    }
    let taskset = find_program("taskset", directories).map_err(|_| {
        "taskset, which pins it to its cores, is not installed (package util-linux)".to_owned()
    })?;
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    words.extend([taskset.display().to_string(), "--cpu-list".to_owned(), cores]);
    Ok(words)
}

/// Returns the first line that a program prints when it is asked for its version.
pub(super) fn version(program: &Path, arguments: &[&str], directory: &Path) -> Result<String, String> {
    let text = output(program, arguments, directory)?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(shown).ok_or_else(|| format!("{} {} printed nothing", program.display(), arguments.join(" ")))
}

/// Returns the output of a program that ends by itself, as far as a log is read.
pub(super) fn output(program: &Path, arguments: &[&str], directory: &Path) -> Result<String, String> {
    let log = directory.join("output");
    let mut command_line = vec![program.display().to_string()];
    command_line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let process = Process::start(&command_line, &[], directory, &log)
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !process.wait_until_gone(PRINT_TIME_MAX) {
        return Err(format!("{} did not end within {PRINT_TIME_MAX:?}", command_line.join(" ")));
    }
    let text = fs::read(&log).unwrap_or_default();
    Ok(String::from_utf8_lossy(&text[..text.len().min(LOG_BYTES_MAX)]).into_owned())
}

/// The files that servers get to open where the bench may raise its own hard limit: lighttpd takes half as many
/// connections, and 10,000 and a probe must fit.
const OPEN_FILES_WANTED: u64 = 65_536;

/// Lets this process, and the servers that it starts, open as many files as it may.
pub(super) fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map(|maximum| maximum.max(OPEN_FILES_WANTED));
    // A hard limit is raised by root alone (CAP_SYS_RESOURCE); the soft one is refused only by a sandbox, and then
    // the step that needs more descriptors says so.
    for maximum in [wanted, limit.maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
            return;
        }
    }
}

/// Returns the most files that a server may have open.
pub(super) fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(OPEN_FILES_DEFAULT)
}

fn signal(id: i32, which: Signal) {
    if let Some(pid) = Pid::from_raw(id) {
        // The process may have ended meanwhile.
        let _ = kill_process(pid, which);
    }
}

/// Returns the first line that speaks of a fault, or the first line. Servers print notices before they fail.
fn complaint(text: &str) -> Option<String> {
    const WORDS: [&str; 6] = ["emerg", "error", "fail", "cannot", "can't", "unknown"];
    let speaks_of_fault = |line: &&str| {
        let line = line.to_lowercase();
        WORDS.iter().any(|word| line.contains(word))
    };
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find(speaks_of_fault).or_else(|| lines().next()).map(shown)
}

/// Makes a line safe for a terminal, and short.
fn shown(line: &str) -> String {
    let replace = |character: char| if character.is_control() { '?' } else { character };
    line.chars().map(replace).take(LINE_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{complaint, find_program, shown, wrappers};

    #[test]
    fn the_line_of_the_fault_is_shown_not_the_notice_before_it() {
        assert_eq!(complaint("a notice\n\n2026 [emerg] no port\n").unwrap(), "2026 [emerg] no port");
        assert_eq!(complaint("\n  only this\n").unwrap(), "only this");
        assert_eq!(complaint("\n"), None);
    }

    #[test]
    fn lines_of_servers_can_not_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a?[2Jb");
        assert_eq!(shown(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn a_program_is_searched_only_where_it_may_be() {
        assert!(find_program("sh", &[]).unwrap_err().contains("sh is not installed"));
        assert_eq!(find_program("sh", &[PathBuf::from("/bin")]).unwrap(), PathBuf::from("/bin/sh"));
        assert!(find_program("sh", &[PathBuf::from("bin")]).is_err());
    }

    #[test]
    fn pinning_without_taskset_is_refused() {
        assert_eq!(wrappers(&[], &[]), Ok(Vec::new()));
        assert!(wrappers(&[0], &[]).unwrap_err().contains("util-linux"));
    }
}
