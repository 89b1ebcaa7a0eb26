//! Which task is next: a matter of lanes, then of mounts, then of addresses, each in turn. Knows no threads.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::lane::{Lane, Owner};
use super::shares::{Kind, Shares};
use crate::files::MountId;
use crate::limits::AddressGroup;

/// Tasks of one mount in one lane that may wait, besides those of what is under way: some hundred milliseconds of work
/// for one disk. Each mount has as many, so that what waits for one that is slow or dead keeps nobody from another.
pub(super) const WAITING_MAX: usize = 1024;

/// Most digests that wait for one mount, each of which may read a whole file: the answer without one needn't wait at
/// all.
pub(super) const DIGESTS_WAITING_MAX: usize = 32;

/// How many of a mount in a lane may wait.
fn waiting_max(lane: Lane) -> usize {
    if lane == Lane::Digest { DIGESTS_WAITING_MAX } else { WAITING_MAX }
}

/// How many of them may be of one address: the others find room.
pub(super) fn waiting_of_address_max(lane: Lane) -> usize {
    waiting_max(lane) / 2
}

/// How long a mount that has ended nothing counts on the threads that it holds, when those of a lane are counted.
const ABSENT_AFTER: Duration = Duration::from_secs(1);

/// Turns of a lane against those of others where threads are shared.
fn weight(lane: Lane) -> u64 {
    match lane {
        Lane::LookUp => 8,
        Lane::Read | Lane::Write => 4,
        Lane::Listing => 2,
        Lane::Digest => 1,
    }
}

/// The cost of a turn to a lane of weight 1.
const STRIDE: u64 = 8;

/// Tasks that wait, and how many run of which.
pub(super) struct Queue<T> {
    shares: Shares,
    root_mounts: Vec<MountId>,
    /// Whether several mounts have had tasks so far, or may have.
    has_others: bool,
    lanes: [OfLane<T>; Lane::ALL.len()],
    /// Those with tasks that run.
    busy: Vec<Busy>,
    /// Where the lanes are by now that had most turns.
    pass: u64,
    /// That of the next task.
    number: u64,
}

struct OfLane<T> {
    /// In the order of their turns.
    mounts: VecDeque<OfMount<T>>,
    /// Tasks that wait and are wanted.
    waiting: usize,
    running: usize,
    pass: u64,
}

struct OfMount<T> {
    mount: MountId,
    /// In the order of their turns.
    turns: VecDeque<Option<AddressGroup>>,
    waiting: HashMap<Option<AddressGroup>, OfAddress<T>>,
    wanted: usize,
}

struct OfAddress<T> {
    /// In the order of their numbers.
    tasks: VecDeque<Queued<T>>,
    wanted: usize,
}

struct Queued<T> {
    number: u64,
    since: Instant,
    /// False once nobody wants to hear of it any more: then it only has to be dropped, and takes no room.
    is_wanted: bool,
    task: T,
}

/// The threads that a mount holds.
struct Busy {
    mount: MountId,
    lanes: [Holding; Lane::ALL.len()],
}

#[derive(Clone, Copy, Default)]
struct Holding {
    running: usize,
    /// When it last ended one, or began one while it held none.
    last_end: Option<Instant>,
}

impl Holding {
    /// How long it has ended nothing.
    fn silence(&self, now: Instant) -> Duration {
        let since = self.last_end.filter(|_| self.running > 0);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl<T> OfLane<T> {
    fn of_mount(&self, mount: MountId) -> Option<&OfMount<T>> {
        self.mounts.iter().find(|of_mount| of_mount.mount == mount)
    }
}

impl<T> Queue<T> {
    /// For so many threads as are shared; `root_mounts` are those that roots are on.
    pub(super) fn new(shares: Shares, root_mounts: Vec<MountId>) -> Queue<T> {
        let lanes = Lane::ALL.map(|_| OfLane { mounts: VecDeque::new(), waiting: 0, running: 0, pass: 0 });
        let has_others = root_mounts.len() > 1;
        Queue { shares, root_mounts, has_others, lanes, busy: Vec::new(), pass: 0, number: 0 }
    }

    /// Roots are on these mounts from now on.
    pub(super) fn set_root_mounts(&mut self, root_mounts: Vec<MountId>) {
        self.has_others |= root_mounts.len() > 1 || root_mounts != self.root_mounts;
        self.root_mounts = root_mounts;
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Whether no task runs.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }

    /// How many tasks of a lane wait.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].waiting
    }

    /// How many tasks of a lane wait for a mount.
    pub(super) fn waiting_of(&self, lane: Lane, mount: MountId) -> usize {
        self.lanes[lane as usize].of_mount(mount).map_or(0, |of_mount| of_mount.wanted)
    }

    /// How many tasks of a lane run.
    pub(super) fn running(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].running
    }

    /// Whether a lane has room for one more of an owner, who may as well be told that it hasn't.
    pub(super) fn has_room(&self, lane: Lane, owner: Owner) -> bool {
        let Some(of_mount) = self.lanes[lane as usize].of_mount(owner.mount) else { return true };
        let of_address = || of_mount.waiting.get(&owner.group).map_or(0, |of_address| of_address.wanted);
        of_mount.wanted < waiting_max(lane)
            && (owner.group.is_none() || of_address() < waiting_of_address_max(lane))
    }

    /// Adds a task, and tells its number.
    pub(super) fn push(&mut self, lane: Lane, owner: Owner, task: T, now: Instant) -> u64 {
        self.has_others |= !self.root_mounts.contains(&owner.mount);
        self.number += 1;
        let (number, pass) = (self.number, self.pass);
        let of_lane = &mut self.lanes[lane as usize];
        if of_lane.mounts.is_empty() {
            // Turns that it didn't want aren't owed to it.
            of_lane.pass = of_lane.pass.max(pass);
        }
        of_lane.waiting += 1;
        let index = of_lane.mounts.iter().position(|of_mount| of_mount.mount == owner.mount);
        let index = index.unwrap_or_else(|| {
            let (turns, waiting) = (VecDeque::new(), HashMap::new());
            of_lane.mounts.push_back(OfMount { mount: owner.mount, turns, waiting, wanted: 0 });
            of_lane.mounts.len() - 1
        });
        let of_mount = &mut of_lane.mounts[index];
        of_mount.wanted += 1;
        let empty = || OfAddress { tasks: VecDeque::new(), wanted: 0 };
        let of_address = of_mount.waiting.entry(owner.group).or_insert_with(empty);
        if of_address.tasks.is_empty() {
            of_mount.turns.push_back(owner.group);
        }
        of_address.wanted += 1;
        of_address.tasks.push_back(Queued { number, since: now, is_wanted: true, task });
        number
    }

    /// Nobody wants to hear any more of the task of this number. Where it waits still it takes no more room, and is
    /// returned if it may leave the queue.
    pub(super) fn abandon(&mut self, lane: Lane, owner: Owner, number: u64, may_leave: bool) -> Option<T> {
        let of_lane = &mut self.lanes[lane as usize];
        let mount = of_lane.mounts.iter().position(|of_mount| of_mount.mount == owner.mount)?;
        let of_mount = &mut of_lane.mounts[mount];
        let of_address = of_mount.waiting.get_mut(&owner.group)?;
        let index = of_address.tasks.binary_search_by_key(&number, |queued| queued.number).ok()?;
        if std::mem::replace(&mut of_address.tasks[index].is_wanted, false) {
            of_address.wanted -= 1;
            of_mount.wanted -= 1;
            of_lane.waiting -= 1;
        }
        let queued = if may_leave { of_address.tasks.remove(index) } else { None };
        if of_address.tasks.is_empty() {
            of_mount.waiting.remove(&owner.group);
            of_mount.turns.retain(|group| *group != owner.group);
        }
        if of_mount.turns.is_empty() {
            of_lane.mounts.remove(mount);
        }
        queued.map(|queued| queued.task)
    }

    /// Whether a thread of this kind would find a task.
    pub(super) fn has_any(&self, kind: Kind, now: Instant) -> bool {
        self.choose(kind, now).is_some()
    }

    /// Takes the next task for a thread of this kind, which tells of its end by [`Queue::end`].
    pub(super) fn take(&mut self, kind: Kind, now: Instant) -> Option<(Lane, MountId, T)> {
        let (lane, index) = self.choose(kind, now)?;
        let of_lane = &mut self.lanes[lane as usize];
        let mut of_mount = of_lane.mounts.remove(index)?;
        let mount = of_mount.mount;
        let group = of_mount.turns.pop_front()?;
        let of_address = of_mount.waiting.get_mut(&group)?;
        let Queued { is_wanted, task, .. } = of_address.tasks.pop_front()?;
        let wanted = usize::from(is_wanted);
        of_address.wanted -= wanted;
        of_mount.wanted -= wanted;
        if of_address.tasks.is_empty() {
            of_mount.waiting.remove(&group);
        } else {
            of_mount.turns.push_back(group);
        }
        if !of_mount.turns.is_empty() {
            of_lane.mounts.push_back(of_mount);
        }
        of_lane.waiting -= wanted;
        of_lane.running += 1;
        self.pass = self.pass.max(of_lane.pass);
        of_lane.pass += STRIDE / weight(lane);
        let holding = self.holding_mut(lane, mount);
        if holding.running == 0 {
            holding.last_end = Some(now);
        }
        holding.running += 1;
        Some((lane, mount, task))
    }

    /// A task has ended.
    pub(super) fn end(&mut self, lane: Lane, mount: MountId, now: Instant) {
        self.lanes[lane as usize].running -= 1;
        let holding = self.holding_mut(lane, mount);
        holding.running -= 1;
        holding.last_end = Some(now);
        if holding.running == 0 {
            self.busy.retain(|busy| busy.lanes.iter().any(|holding| holding.running > 0));
        }
    }

    /// How long a mount has ended nothing of a lane while it holds threads of it.
    pub(super) fn silence(&self, lane: Lane, mount: MountId, now: Instant) -> Duration {
        let busy = self.busy.iter().find(|busy| busy.mount == mount);
        busy.map_or(Duration::ZERO, |busy| busy.lanes[lane as usize].silence(now))
    }

    /// The mounts that hold threads, with how long they have ended nothing of each lane, and how many threads they
    /// hold.
    pub(super) fn silences(&self, now: Instant) -> impl Iterator<Item = (MountId, Lane, Duration, usize)> {
        self.busy.iter().flat_map(move |busy| {
            Lane::ALL.into_iter().map(move |lane| {
                let holding = &busy.lanes[lane as usize];
                (busy.mount, lane, holding.silence(now), holding.running)
            })
        })
    }

    /// Since when the task waits that has waited longest of those that are wanted.
    pub(super) fn oldest(&self, lane: Lane) -> Option<Instant> {
        let addresses =
            self.lanes[lane as usize].mounts.iter().flat_map(|of_mount| of_mount.waiting.values());
        let oldest = addresses.filter_map(|of| of.tasks.iter().find(|queued| queued.is_wanted));
        oldest.map(|queued| queued.since).min()
    }

    /// A lane whose turn it is and which of its mounts.
    fn choose(&self, kind: Kind, now: Instant) -> Option<(Lane, usize)> {
        let running: usize = self.of_kind(kind).map(|lane| self.running(lane)).sum();
        let free = self.shares.threads(kind).checked_sub(running).filter(|free| *free > 0)?;
        let mut chosen: Option<(bool, u64, Lane, usize)> = None;
        for lane in self.of_kind(kind) {
            let of_lane = &self.lanes[lane as usize];
            for (index, of_mount) in of_lane.mounts.iter().enumerate() {
                let Some(is_extra) = self.claim(lane, of_mount.mount, free, now) else { continue };
                let rank = (is_extra, of_lane.pass);
                if chosen.is_none_or(|(is_extra, pass, ..)| rank < (is_extra, pass)) {
                    chosen = Some((rank.0, rank.1, lane, index));
                }
            }
        }
        chosen.map(|(_, _, lane, index)| (lane, index))
    }

    /// Whether a lane may take one of so many free threads for a mount: None if not, else whether it is more than what
    /// it has a right to.
    fn claim(&self, lane: Lane, mount: MountId, free: usize, now: Instant) -> Option<bool> {
        let share = self.shares.lane(lane);
        let running = self.running(lane);
        let present = running - self.absent(lane, mount, now);
        if present >= share.max || !self.may_hold_more(lane, mount) {
            return None;
        }
        let others = || self.of_kind(share.kind).filter(|other| *other != lane);
        if running < share.min {
            return Some(false);
        }
        if present < share.min {
            // Other mounts keep what is the lane's. What other lanes never had stays theirs, so that several slow
            // mounts don't take all; but each mount goes on with one.
            let theirs: usize =
                others().map(|other| self.shares.lane(other).min.saturating_sub(self.running(other))).sum();
            return (free > theirs || !self.holds(lane, mount)).then_some(false);
        }
        let needed: usize = others()
            .map(|other| {
                let present = self.running(other) - self.absent(other, mount, now);
                self.shares.lane(other).min.saturating_sub(present)
            })
            .sum();
        (free > needed).then_some(true)
    }

    /// Threads of a lane that mounts don't give back: they don't count as had where another mount wants some. A mount
    /// has no right to more of them for being slow.
    fn absent(&self, lane: Lane, wanting: MountId, now: Instant) -> usize {
        let others = self.busy.iter().filter(|busy| busy.mount != wanting);
        let held = others.map(|busy| &busy.lanes[lane as usize]);
        held.filter(|held| held.silence(now) > ABSENT_AFTER).map(|held| held.running).sum()
    }

    fn holds(&self, lane: Lane, mount: MountId) -> bool {
        self.busy.iter().any(|busy| busy.mount == mount && busy.lanes[lane as usize].running > 0)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = Lane> {
        Lane::ALL.into_iter().filter(move |lane| self.shares.lane(*lane).kind == kind)
    }

    fn may_hold_more(&self, lane: Lane, mount: MountId) -> bool {
        let Some(busy) = self.busy.iter().find(|busy| busy.mount == mount) else { return true };
        let (kind, is_root_mount) = (self.shares.lane(lane).kind, self.root_mounts.contains(&mount));
        if is_root_mount && !self.has_others {
            return true;
        }
        let all: usize = self.of_kind(kind).map(|other| busy.lanes[other as usize].running).sum();
        busy.lanes[lane as usize].running < self.shares.of_mount(lane, is_root_mount)
            && all < self.shares.of_mount_in_all(kind, is_root_mount)
    }

    fn holding_mut(&mut self, lane: Lane, mount: MountId) -> &mut Holding {
        let index = self.busy.iter().position(|busy| busy.mount == mount).unwrap_or_else(|| {
            self.busy.push(Busy { mount, lanes: Default::default() });
            self.busy.len() - 1
        });
        &mut self.busy[index].lanes[lane as usize]
    }
}

#[cfg(test)]
mod tests;
