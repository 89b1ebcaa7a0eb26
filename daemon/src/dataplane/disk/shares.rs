//! How many threads each lane has for itself, and how many it may take.

use super::lane::Lane;

/// The number of threads from which on a quarter, but two at least, are for long work alone; fewer do everything by
/// turns.
const THREADS_TO_DIVIDE_MIN: usize = 5;

/// The work that a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Work that somebody waits for right now.
    Prompt,
    /// Digests and listings: it takes the processor and the disk when nobody else wants them.
    Patient,
}

impl Kind {
    pub(super) const ALL: [Kind; 2] = [Kind::Prompt, Kind::Patient];
}

/// The threads of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) kind: Kind,
    /// So many no other lane can take.
    pub(super) min: usize,
    /// More it never takes.
    pub(super) max: usize,
}

/// The threads of all lanes.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    lanes: [Share; Lane::ALL.len()],
    threads: [usize; Kind::ALL.len()],
}

impl Shares {
    /// Divides so many threads.
    pub(super) fn of(threads: usize) -> Shares {
        let patient = if threads < THREADS_TO_DIVIDE_MIN { 0 } else { (threads / 4).max(2) };
        let prompt = threads - patient;
        let kind_of = |lane| match lane {
            Lane::Digest | Lane::Listing if patient > 0 => Kind::Patient,
            _ => Kind::Prompt,
        };
        let min_of = |lane| match (lane, kind_of(lane)) {
            (_, Kind::Patient) => 1,
            // The fewer there are the fewer lanes have one: whoever looks up or reads is waited for most.
            (Lane::LookUp, _) if prompt >= 2 => (prompt / 6).max(1),
            (Lane::Read, _) if prompt >= 3 => (prompt / 6).max(1),
            (Lane::Write, _) if prompt >= 3 && patient > 0 || prompt >= 4 => (prompt / 6).max(1),
            _ => 0,
        };
        let share_of = |lane: Lane| {
            let kind = kind_of(lane);
            let of_kind = if kind == Kind::Prompt { prompt } else { patient };
            let others = Lane::ALL.into_iter().filter(|other| *other != lane && kind_of(*other) == kind);
            let left = of_kind - others.map(min_of).sum::<usize>();
            // Reads and writes may take all that is left: they are what a disk is busy with.
            let max = match (lane, kind) {
                (Lane::Read | Lane::Write, _) | (_, Kind::Patient) => left,
                _ => left.min((of_kind / 2).max(1)),
            };
            Share { kind, min: min_of(lane), max }
        };
        Shares { lanes: Lane::ALL.map(share_of), threads: [prompt, patient] }
    }

    pub(super) fn lane(&self, lane: Lane) -> Share {
        self.lanes[lane as usize]
    }

    pub(super) fn threads(&self, kind: Kind) -> usize {
        self.threads[kind as usize]
    }

    /// How many of a lane tasks for one mount may hold: threads in a call that never returns can't be had back.
    pub(super) fn of_mount(&self, lane: Lane, is_root_mount: bool) -> usize {
        let max = self.lane(lane).max;
        if is_root_mount { max } else { (max / 2).max(1) }
    }

    /// How many of all threads of a kind tasks for one mount may hold. The root's own keeps one from what is mounted
    /// below it, where there are some; any other half of them.
    pub(super) fn of_mount_in_all(&self, kind: Kind, is_root_mount: bool) -> usize {
        let threads = self.threads(kind);
        let most = if is_root_mount { threads.saturating_sub(1) } else { threads / 2 };
        most.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Lane, Shares};

    #[test]
    fn each_lane_has_a_thread_and_what_the_others_need_is_left() {
        for threads in 1..=1024 {
            let shares = Shares::of(threads);
            assert_eq!(shares.threads.iter().sum::<usize>(), threads);
            for kind in Kind::ALL {
                let lanes = || Lane::ALL.into_iter().filter(|lane| shares.lane(*lane).kind == kind);
                let reserved: usize = lanes().map(|lane| shares.lane(lane).min).sum();
                assert!(reserved <= shares.threads(kind), "{threads}: {shares:?}");
                for lane in lanes() {
                    let share = shares.lane(lane);
                    assert!(share.max >= 1 && share.max >= share.min, "{threads} {lane:?}: {share:?}");
                    let left = shares.threads(kind) - (reserved - share.min);
                    assert!(share.max <= left, "{threads} {lane:?}: {share:?}");
                    assert!(threads < 5 || share.min >= 1, "{threads} {lane:?}: {share:?}");
                    assert!(shares.of_mount(lane, false) <= share.max);
                }
            }
        }
    }

    #[test]
    fn long_work_never_has_the_last_thread_where_there_are_two() {
        for threads in 2..=64 {
            let shares = Shares::of(threads);
            let long = shares.lane(Lane::Digest).max.max(shares.lane(Lane::Listing).max);
            assert!(long < threads, "{threads}: {shares:?}");
            assert!(shares.lane(Lane::LookUp).min >= 1, "{threads}: {shares:?}");
        }
    }
}
