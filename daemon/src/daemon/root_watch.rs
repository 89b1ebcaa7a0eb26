//! The thread that checks whether the root's path still leads to the root, and opens the directory there instead
//! when it is asked to. Every question about a path may wait for a disk or a server, so no other thread asks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use crate::dataplane::Served;
use crate::files::{Root, Standing};
use crate::telemetry::{RootState, Telemetry};

/// The interval of the checks: no scraper asks more often.
const TICK: Duration = Duration::from_secs(1);

/// The longest time that a reload waits for the path to answer: as long as for workers that take its settings up.
const PATIENCE: Duration = Duration::from_secs(2);

/// A function that opens the root's path anew, with everything that belongs to the root. The error is a sentence.
pub(super) type Open = Box<dyn Fn(u64) -> Result<Served, String> + Send>;

/// The handle of the thread, which ends when this is dropped. Nobody waits for its end.
pub(super) struct RootWatch {
    questions: Sender<Question>,
}

/// A question that is answered with the root to serve from now on, where that is another one.
type Question = SyncSender<Result<Option<Arc<Served>>, String>>;

/// The state of the thread.
struct Watch {
    path: PathBuf,
    served: Arc<Served>,
    open: Open,
    telemetry: Arc<Telemetry>,
    state: RootState,
    /// The roots that were served before: workers may use them for a moment, and none of them is to close one.
    former: Vec<Arc<Served>>,
}

impl RootWatch {
    /// Starts the thread for the root at `path`, which is `served`.
    pub(super) fn start(
        path: PathBuf,
        served: Arc<Served>,
        open: Open,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<RootWatch> {
        let (questions, asked) = channel();
        let (telemetry, state) = (Arc::clone(telemetry), RootState::Served);
        let watch = Watch { path, served, open, telemetry, state, former: Vec::new() };
        thread::Builder::new().name("streamd-root".to_owned()).spawn(move || watch.run(&asked))?;
        Ok(RootWatch { questions })
    }

    /// Returns the root to serve from now on, where the path leads to another directory than the served one. The
    /// error says why that one stays.
    pub(super) fn reopen(&self) -> Result<Option<Arc<Served>>, String> {
        let silent = || format!("its path didn't answer within {} s", PATIENCE.as_secs());
        let (answer, answered) = sync_channel(1);
        self.questions.send(answer).map_err(|_| silent())?;
        answered.recv_timeout(PATIENCE).map_err(|_| silent())?
    }
}

impl Watch {
    fn run(mut self, asked: &Receiver<Question>) {
        loop {
            self.look();
            match asked.recv_timeout(TICK) {
                Ok(question) => self.answer(&question),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn root(&self) -> Option<&Arc<Root>> {
        self.served.root.as_ref()
    }

    /// Checks where the path leads, and tells of a change.
    fn look(&mut self) {
        self.former.retain(|served| served.root.as_ref().is_some_and(|root| Arc::strong_count(root) > 1));
        let standing = self.root().map_or(Standing::Served, |root| root.standing(&self.path));
        let state = match standing {
            Standing::Served => RootState::Served,
            Standing::Replaced => RootState::Replaced,
            Standing::Removed => RootState::Removed,
        };
        if state != self.state {
            self.tell(state);
            self.state = state;
            self.telemetry.root.set(state);
        }
    }

    fn tell(&self, state: RootState) {
        let path = self.path.display();
        match state {
            RootState::Served => tracing::info!(%path, "the root is what its path leads to again"),
            RootState::Replaced => {
                tracing::warn!(%path, "the root's path leads elsewhere: the former directory is served until a reload");
            }
            RootState::Removed => {
                tracing::warn!(%path, "the root was removed: nothing is found until a reload, once there is another");
            }
        }
    }

    fn answer(&mut self, question: &Question) {
        self.look();
        if self.state == RootState::Served {
            let _ = question.send(Ok(None));
            return;
        }
        match (self.open)(self.served.number + 1) {
            Ok(served) => {
                let served = Arc::new(served);
                // A caller that has stopped waiting doesn't install the root either, and asks anew with the next
                // reload.
                if question.send(Ok(Some(Arc::clone(&served)))).is_ok() {
                    self.former.push(std::mem::replace(&mut self.served, served));
                    // The caller tells of the change; a later one is told with the next check.
                    self.state = RootState::Served;
                    self.telemetry.root.set(self.state);
                }
            }
            Err(reason) => {
                let _ = question.send(Err(reason));
            }
        }
    }
}
