//! One transfer of a simulation: drawn, sent, and held to what every transfer has to be.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex};

use tokio::sync::oneshot;

use super::super::super::account::Tally;
use super::super::super::error::TransferError;
use super::super::super::platform::simulated::Seeded;
use super::super::transfer::{JobCaller, Transfer};
use super::super::{check, send_range, send_synthetic};
use super::file::{Content, ScriptedFile};
use super::peer::{Peer, Piece};
use super::plan::Plan;
use super::script::{Host, Script, TIMEOUT_MS};
use crate::files::Synthetic;
use crate::job::{JobEnd, StreamProgress};
use crate::protocol::range::ByteRange;

/// Lengths around which engines decide: witnesses, short bodies, chunks, windows, turns.
const LENGTHS: [u64; 6] = [16, 64 << 10, 256 << 10, 1 << 20, 2 << 20, 3 << 20];

/// Parts of one response.
const PARTS_MAX: usize = 5;

static SYNTHETIC: LazyLock<Synthetic> = LazyLock::new(|| Synthetic::new().unwrap());

/// The answer that is sent.
enum Response {
    /// Part of a file after a head.
    Range(Vec<u8>, ByteRange),
    /// A head, several parts, each after its text, and a text that ends them.
    Parts(Vec<u8>, Vec<(Vec<u8>, ByteRange)>, Vec<u8>),
    /// A head and a body in memory.
    Memory(Vec<u8>, Vec<u8>),
    /// Random bytes.
    Synthetic(u64),
}

/// One transfer.
pub(super) struct Simulated {
    response: Response,
    pub(super) content: Arc<Content>,
    peer: Rc<Peer>,
    pub(super) plan: Arc<Mutex<Plan>>,
    is_elsewhere: bool,
    caller: Option<JobCaller>,
    progress: Arc<StreamProgress>,
    /// Whoever asked for it, until it loses its interest.
    pub(super) listener: RefCell<Option<oneshot::Receiver<JobEnd>>>,
    ended: RefCell<Option<(Result<(), TransferError>, Tally)>>,
}

impl Simulated {
    /// Draws that of this number, for which calls come to what `plan` says.
    pub(super) fn draw(number: usize, seeded: &mut Seeded, plan: Plan) -> Simulated {
        let bytes = length(seeded);
        let content = Content::new(number, bytes);
        let response = Response::draw(seeded, bytes);
        let peer = Rc::new(Peer::new(response.pieces(&content)));
        let progress = Arc::<StreamProgress>::default();
        let (end, listener) = oneshot::channel();
        let is_asked = seeded.one_in(3);
        Simulated {
            response,
            content,
            peer,
            plan: Arc::new(Mutex::new(plan)),
            is_elsewhere: seeded.one_in(8),
            caller: is_asked.then(|| JobCaller::new(Arc::clone(&progress), end)),
            progress,
            listener: RefCell::new(Some(listener).filter(|_| is_asked)),
            ended: RefCell::default(),
        }
    }

    /// Sends all of it.
    pub(super) async fn send(&self, host: Rc<Host>) {
        let script = Script { host, peer: Rc::clone(&self.peer), plan: Arc::clone(&self.plan) };
        let mut transfer = Transfer::on(script, TIMEOUT_MS);
        if let Some(caller) = &self.caller {
            transfer = transfer.for_job(caller);
        }
        let file = ScriptedFile::new(Arc::clone(&self.content), Arc::clone(&self.plan), self.is_elsewhere);
        let result = self.response.send(&mut transfer, &file).await;
        *self.ended.borrow_mut() = Some((result, transfer.tally));
    }

    /// Payload that its peer got.
    pub(super) fn payload(&self) -> u64 {
        self.peer.payload()
    }

    /// Checks what holds for each transfer that has ended, and says how it did.
    pub(super) fn hold(&self) -> String {
        let (result, tally) = self.ended.borrow_mut().take().unwrap();
        assert_eq!(tally.total(), self.peer.payload(), "the tally differs from what the peer got");
        if self.caller.is_some() {
            assert_eq!(self.progress.bytes_sent(), self.peer.payload(), "the progress differs from it");
        }
        assert_eq!(Arc::strong_count(&self.plan), 1, "a file is left open");
        let has_cause = self.plan.lock().unwrap().has_failed() || self.content.has_changed();
        match result {
            Ok(()) => {
                assert!(self.peer.has_all(), "complete after {} bytes, which aren't all", self.peer.taken());
                assert!(!self.peer.is_mixed(), "a file that was changed is sent as if it were whole");
                "complete".to_owned()
            }
            Err(error) => {
                assert!(has_cause, "{error:?} without a cause after {} bytes", self.peer.taken());
                format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
            }
        }
    }
}

impl Response {
    fn draw(seeded: &mut Seeded, file_bytes: u64) -> Response {
        let head = text(seeded, b'h', 300);
        match seeded.below(8) {
            0 => Response::Memory(head, text(seeded, b'm', 100_000)),
            1 => Response::Synthetic(length(seeded)),
            2 | 3 if file_bytes > 0 => {
                let count = 2 + seeded.index(PARTS_MAX - 1);
                let parts = (0..count).map(|_| (text(seeded, b't', 200), range(seeded, file_bytes)));
                let parts = parts.collect();
                Response::Parts(head, parts, text(seeded, b'e', 50))
            }
            // An empty range has no head to go with it.
            _ if file_bytes == 0 => Response::Range(Vec::new(), ByteRange { start: 0, length: 0 }),
            _ if seeded.one_in(4) => Response::Range(Vec::new(), range(seeded, file_bytes)),
            4 | 5 => Response::Range(head, ByteRange { start: 0, length: file_bytes }),
            _ => Response::Range(head, range(seeded, file_bytes)),
        }
    }

    /// Returns the pieces that the peer has to get.
    fn pieces(&self, content: &Arc<Content>) -> Vec<Piece> {
        let file = |range: &ByteRange| Piece::File(Arc::clone(content), range.start, range.length);
        match self {
            Response::Range(head, range) => vec![Piece::Head(head.clone()), file(range)],
            Response::Memory(head, body) => vec![Piece::Head(head.clone()), Piece::Text(body.clone())],
            Response::Synthetic(bytes) => vec![Piece::Synthetic(*bytes, SYNTHETIC.bytes())],
            Response::Parts(head, parts, end) => {
                let parts = parts.iter().flat_map(|(text, range)| [Piece::Text(text.clone()), file(range)]);
                let all = [Piece::Head(head.clone())].into_iter().chain(parts);
                all.chain([Piece::Text(end.clone())]).collect()
            }
        }
    }

    /// As HTTP and streams do it.
    async fn send(
        &self,
        transfer: &mut Transfer<'_, Script>,
        file: &ScriptedFile,
    ) -> Result<(), TransferError> {
        match self {
            Response::Range(head, range) => send_range(transfer, head.clone(), file, *range, false).await,
            Response::Memory(head, body) => transfer.send_both(head, body).await,
            Response::Synthetic(bytes) => send_synthetic(transfer, &SYNTHETIC, *bytes).await,
            Response::Parts(head, parts, end) => {
                let mut head = head.clone();
                for (text, range) in parts {
                    head.extend_from_slice(text);
                    transfer.note_text(text.len());
                    send_range(transfer, std::mem::take(&mut head), file, *range, true).await?;
                    transfer.part_sent().await?;
                }
                check(transfer, file).await?;
                transfer.note_text(end.len());
                transfer.send_all(end, false).await
            }
        }
    }
}

/// Around one of [`LENGTHS`], or below it.
fn length(seeded: &mut Seeded) -> u64 {
    let around = seeded.of(&LENGTHS);
    match seeded.below(6) {
        0 => seeded.below(around),
        1 => seeded.below(3),
        2 => around - 1,
        3 => around + 1,
        4 => around + seeded.below(around),
        _ => around,
    }
}

/// Part of so many bytes, with windows of its own or those of others.
fn range(seeded: &mut Seeded, bytes: u64) -> ByteRange {
    let start = seeded.below(bytes);
    let start = if seeded.one_in(2) { start } else { start - start % (1 << 20) };
    let length = if seeded.one_in(2) { bytes - start } else { 1 + seeded.below(bytes - start) };
    ByteRange { start, length }
}

fn text(seeded: &mut Seeded, letter: u8, bytes_max: usize) -> Vec<u8> {
    let mut text = vec![letter; seeded.length(bytes_max)];
    text.iter_mut().step_by(3).for_each(|byte| *byte = seeded.number().to_le_bytes()[0]);
    text
}
