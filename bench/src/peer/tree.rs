//! The processes of a server: its main process, those that it started, and those of its process group.

use std::fs;

/// One process, from proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// Process id.
    pub(super) id: i32,
    /// The state; `Z` for a process that has ended and was not waited for yet.
    pub(super) state: char,
    /// The CPU time, in clock ticks, of its children that have ended and were waited for, and of their children.
    pub(super) children_cpu_ticks: u64,
    parent: i32,
    group: i32,
    threads: u64,
}

impl ProcessStat {
    /// Whether the process lives. A main thread that has ended is shown as a zombie while others still run, or
    /// still free what they have open.
    pub(super) fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') || self.threads > 1
    }
}

/// Reads one process; None when it doesn't exist any more.
pub(super) fn read(id: i32) -> Option<ProcessStat> {
    parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Whether the process exists and hasn't ended.
pub fn is_running(id: u32) -> bool {
    i32::try_from(id).ok().and_then(read).is_some_and(|process| process.lives())
}

/// Returns all processes of `leader`'s group and all its descendants, itself included, living or not yet waited
/// for.
///
/// The group catches a worker whose parent has died; descent catches one that has left the group.
pub(super) fn of(leader: i32) -> Vec<ProcessStat> {
    let (mut tree, mut rest): (Vec<_>, Vec<_>) =
        all().into_iter().partition(|process| process.id == leader || process.group == leader);
    loop {
        let is_child = |process: &ProcessStat| tree.iter().any(|parent| parent.id == process.parent);
        let (children, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_child);
        if children.is_empty() {
            return tree;
        }
        tree.extend(children);
        rest = others;
    }
}

fn all() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(read).collect()
}

/// Parses the line. The second field is the program's name in parentheses; it may hold spaces and parentheses
/// itself.
fn parse(text: &str) -> Option<ProcessStat> {
    let (id, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields 3, 4, 5, 16, 17 and 20 of proc_pid_stat(5).
    Some(ProcessStat {
        id: id.parse().ok()?,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        children_cpu_ticks: fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?,
        threads: fields.get(17)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{ProcessStat, of, parse};

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 40 40 0 -1 4194560 1 2 3 4 11 12 130 17 20 0 1 0 99 1 1";
        let expected =
            ProcessStat { id: 42, state: 'S', children_cpu_ticks: 147, parent: 7, group: 40, threads: 1 };
        assert_eq!(parse(line), Some(expected));
        assert!(!ProcessStat { state: 'Z', ..expected }.lives());
        assert!(ProcessStat { state: 'Z', threads: 2, ..expected }.lives());
        assert_eq!(parse("42 (cut off"), None);
    }

    #[test]
    fn this_process_is_in_its_own_tree() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of(own).iter().any(|process| process.id == own && process.lives()));
    }
}
