//! The thread that checks whether the path of each root still leads to the root, and opens the directories that a
//! reload brings. Every question about a path may wait for a disk or a server, so no other thread asks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use super::serving;
use crate::config::{Share, Shares};
use crate::dataplane::{Served, ServedShare};
use crate::files::Standing;
use crate::telemetry::{RootState, Telemetry};

/// The interval of the checks: no scraper asks more often.
const TICK: Duration = Duration::from_secs(1);

/// The longest time that a reload waits for paths to answer: as long as for workers that take its settings up.
const PATIENCE: Duration = Duration::from_secs(2);

/// A function that opens a share, with everything that belongs to its root. The error is a sentence.
pub(super) type Open = Box<dyn Fn(&Arc<Share>) -> Result<ServedShare, String> + Send>;

/// The handle of the thread, which ends when this is dropped. Nobody waits for its end.
pub(super) struct RootWatch {
    questions: Sender<Question>,
}

/// The shares of a reload.
struct Question {
    /// What is served so far.
    served: Arc<Served>,
    shares: Shares,
    /// The number of the reload.
    number: u64,
    answer: SyncSender<Renewed>,
}

/// What a reload makes of the shares.
pub(super) struct Renewed {
    /// What is served from now on; None where that is what was served before.
    pub(super) served: Option<Arc<Served>>,
    /// The paths of the shares whose roots were opened.
    pub(super) opened: Vec<String>,
    /// The paths of those that couldn't be opened, with the reason: the former root stays where there was one.
    pub(super) failed: Vec<(String, String)>,
}

/// The state of the thread.
struct Watch {
    served: Arc<Served>,
    open: Open,
    telemetry: Arc<Telemetry>,
    /// The states that were told, by the paths of shares; those that aren't there are served.
    states: HashMap<String, RootState>,
    /// The shares that were served before: workers may use them for a moment, and none of them is to close a root.
    former: Vec<Arc<ServedShare>>,
}

impl RootWatch {
    /// Starts the thread for what is `served`.
    pub(super) fn start(
        served: Arc<Served>,
        open: Open,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<RootWatch> {
        let (questions, asked) = channel();
        let telemetry = Arc::clone(telemetry);
        let watch = Watch { served, open, telemetry, states: HashMap::new(), former: Vec::new() };
        thread::Builder::new().name("streamd-root".to_owned()).spawn(move || watch.run(&asked))?;
        Ok(RootWatch { questions })
    }

    /// Returns what is to be served from reload `number` on, in place of `served`: roots stay where their paths lead to
    /// them, and others are opened. The error says why nothing is opened.
    pub(super) fn renew(&self, served: Arc<Served>, shares: &Shares, number: u64) -> Result<Renewed, String> {
        let silent = || format!("its path didn't answer within {} s", PATIENCE.as_secs());
        let (answer, answered) = sync_channel(1);
        let question = Question { served, shares: shares.clone(), number, answer };
        self.questions.send(question).map_err(|_| silent())?;
        answered.recv_timeout(PATIENCE).map_err(|_| silent())
    }
}

impl Watch {
    fn run(mut self, asked: &Receiver<Question>) {
        loop {
            self.look();
            match asked.recv_timeout(TICK) {
                Ok(question) => self.answer(question),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Checks where the paths lead, and tells of changes.
    fn look(&mut self) {
        self.former.retain(|share| Arc::strong_count(share) > 1);
        let served = Arc::clone(&self.served);
        let mut states = HashMap::new();
        for share in served.shares() {
            let path = share.share.path.as_str();
            let state = match share.root.standing(&share.share.root) {
                Standing::Served => RootState::Served,
                Standing::Replaced => RootState::Replaced,
                Standing::Removed => RootState::Removed,
            };
            if state != self.states.get(path).copied().unwrap_or(RootState::Served) {
                tell(&share.share, state);
            }
            states.insert(path.to_owned(), state);
        }
        self.states = states;
        self.set_gauge();
    }

    /// The node is in the state of the share that is worst off.
    fn set_gauge(&self) {
        let worst = self.states.values().copied().max_by_key(|state| *state as u64);
        self.telemetry.root.set(worst.unwrap_or(RootState::Served));
    }

    fn answer(&mut self, question: Question) {
        self.replace(question.served);
        self.look();
        let (mut opened, mut failed) = (Vec::new(), Vec::new());
        let shares = question.shares.iter().filter_map(|share| {
            let path = share.path.as_str();
            let known = self.served.at(path);
            if let Some(known) = known
                && self.states.get(path) == Some(&RootState::Served)
            {
                return Some(serving::with_settings(known, share));
            }
            match (self.open)(share) {
                Ok(served) => {
                    opened.push(path.to_owned());
                    Some(Arc::new(served))
                }
                Err(reason) => {
                    failed.push((path.to_owned(), reason));
                    known.map(|known| serving::with_settings(known, share))
                }
            }
        });
        let served = Arc::new(Served::new(shares.collect(), question.number));
        let is_same = serving::are_same(&self.served, &served);
        let renewed = Renewed { served: (!is_same).then(|| Arc::clone(&served)), opened, failed };
        let opened = renewed.opened.clone();
        // A caller that has stopped waiting doesn't put them in force either, and asks anew with the next reload.
        if question.answer.send(renewed).is_ok() && !is_same {
            self.replace(served);
            // The caller tells of roots that were opened; a later change is told with the next check.
            self.states.retain(|path, _| self.served.at(path).is_some() && !opened.contains(path));
            self.set_gauge();
        }
    }

    /// Watches other shares from now on.
    fn replace(&mut self, served: Arc<Served>) {
        let former = std::mem::replace(&mut self.served, served);
        let is_there =
            |share: &Arc<ServedShare>| self.served.shares().iter().any(|now| Arc::ptr_eq(now, share));
        self.former.extend(former.shares().iter().filter(|share| !is_there(share)).cloned());
    }
}

fn tell(share: &Share, state: RootState) {
    let (share, path) = (&share.path, share.root.display());
    match state {
        RootState::Served => tracing::info!(%share, %path, "the root is what its path leads to again"),
        RootState::Replaced => {
            tracing::warn!(
                %share,
                %path,
                "the root's path leads elsewhere: the former directory is served until a reload"
            );
        }
        RootState::Removed => {
            tracing::warn!(
                %share,
                %path,
                "the root was removed: nothing is found until a reload, once there is another"
            );
        }
    }
}
