//! Each engine, call by call.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::super::error::TransferError;
use super::super::transfer::Transfer;
use super::super::{send_range, send_synthetic};
use super::file::{Change, Content, ScriptedFile};
use super::peer::{Peer, Piece};
use super::plan::Call::{Disk, Empty, Fill, Pipe, Read, ReadNow, Send, Sendfile, Turn, Writable};
use super::plan::Outcome::{Fails, GivenUp, Part, Whole};
use super::plan::{Call, Facts, HOT, Outcome, Plan, Step};
use super::run::Tasks;
use super::script::{Host, Script, TIMEOUT_MS};
use crate::config::EngineChoice;
use crate::files::Synthetic;
use crate::files::residency::Residency;
use crate::protocol::range::ByteRange;
use crate::telemetry::EngineLabel;

const HEAD: &[u8] = b"head";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const COLD: Facts = Facts { residency: Residency::Cold, ..HOT };

/// A transfer of a whole file after [`HEAD`].
struct Case {
    host: Host,
    bytes: u64,
    facts: Facts,
    more: bool,
}

/// The end of a scripted transfer.
struct Ended {
    result: Result<(), TransferError>,
    host: Rc<Host>,
    peer: Rc<Peer>,
}

impl Case {
    fn of(engine: EngineChoice, bytes: u64) -> Case {
        Case { host: Host::new(engine), bytes, facts: HOT, more: false }
    }

    fn run(self, steps: &[Step]) -> Ended {
        let content = Content::new(0, self.bytes);
        let file = (Arc::clone(&content), self.bytes);
        let pieces = vec![Piece::Head(HEAD.to_vec()), Piece::File(Arc::clone(&content), 0, self.bytes)];
        let more = self.more;
        play(self.host, content, self.facts, steps, pieces, async move |transfer, plan| {
            let (content, length) = file;
            let file = ScriptedFile::new(content, plan, false);
            send_range(transfer, HEAD.to_vec(), &file, ByteRange { start: 0, length }, more).await
        })
    }
}

impl Ended {
    fn is_complete(&self) {
        self.result.as_ref().unwrap();
        assert!(self.peer.has_all() && !self.peer.is_mixed());
    }

    /// It failed as `error` is shown, after so many bytes.
    fn failed(&self, error: &str, taken: u64) {
        assert_eq!(format!("{:?}", self.result.as_ref().unwrap_err()), error);
        assert_eq!(self.peer.taken(), taken);
    }

    fn sent_by(&self, engine: EngineLabel) -> u64 {
        self.host.counters.bytes_sent.get(engine)
    }
}

/// Plays a script to its end, and holds what every transfer holds.
fn play(
    host: Host,
    content: Arc<Content>,
    facts: Facts,
    steps: &[Step],
    pieces: Vec<Piece>,
    sends: impl AsyncFnOnce(&mut Transfer<'_, Script>, Arc<Mutex<Plan>>) -> Result<(), TransferError>,
) -> Ended {
    let plan = Plan::Exact { steps: steps.iter().copied().collect(), facts, content };
    let plan = Arc::new(Mutex::new(plan));
    let (host, peer) = (Rc::new(host), Rc::new(Peer::new(pieces)));
    let script = Script { host: Rc::clone(&host), peer: Rc::clone(&peer), plan: Arc::clone(&plan) };
    let mut ended = None;
    let mut tasks = Tasks::default();
    tasks.spawn(async {
        let mut transfer = Transfer::on(script, TIMEOUT_MS);
        let result = sends(&mut transfer, Arc::clone(&plan)).await;
        ended = Some((result, transfer.tally));
    });
    tasks.poll(0);
    while tasks.running() > 0 {
        assert!(host.events.count() > 0, "a task waits for nothing");
        host.events.happen(0);
        tasks.poll(0);
    }
    drop(tasks);
    let (result, tally) = ended.unwrap();
    assert_eq!(plan.lock().unwrap().left(), 0, "the script goes on after {result:?}");
    assert_eq!(tally.total(), peer.payload());
    assert_eq!(host.counters.bytes_sent.total(), peer.payload());
    assert_eq!(host.pipes_open.load(Ordering::Relaxed), host.pipes.borrow().len(), "a pipe is left over");
    assert_eq!(host.budget.taken_bytes(), 0);
    Ended { result, host, peer }
}

fn of(call: Call, outcome: Outcome) -> Step {
    Step::Of(call, outcome)
}

/// Calls that each come to all that they were for.
fn whole(calls: &[Call]) -> Vec<Step> {
    calls.iter().map(|call| of(*call, Whole)).collect()
}

#[test]
fn sendfile_goes_on_behind_a_short_count_once_there_is_room() {
    let steps = [of(Send, Whole), of(Sendfile, Part(1000)), of(Writable, Whole), of(Sendfile, Whole)];
    Case::of(EngineChoice::Sendfile, 100 * KIB).run(&steps).is_complete();
}

#[test]
fn sendfile_waits_where_the_socket_is_full_also_when_told_too_early_and_only_tries_again_after_a_signal() {
    let full = [of(Sendfile, Fails(Errno::AGAIN)), of(Writable, Whole)];
    let mut steps = whole(&[Send]);
    steps.extend([full, full].concat());
    steps.extend([of(Sendfile, Fails(Errno::INTR)), of(Sendfile, Whole)]);
    Case::of(EngineChoice::Sendfile, 100 * KIB).run(&steps).is_complete();
}

#[test]
fn sendfile_tells_a_peer_that_is_gone_from_a_disk_that_fails() {
    let fails = |errno| {
        let steps =
            [of(Send, Whole), of(Sendfile, Part(1000)), of(Writable, Whole), of(Sendfile, Fails(errno))];
        Case::of(EngineChoice::Sendfile, 100 * KIB).run(&steps)
    };
    fails(Errno::PIPE).failed("PeerGone", 1004);
    fails(Errno::CONNRESET).failed("PeerGone", 1004);
    let result = fails(Errno::IO).result;
    assert!(matches!(result, Err(TransferError::SourceFailed { offset: 1000, errno: Errno::IO })));
}

#[test]
fn sendfile_ends_where_the_peer_makes_no_progress_in_time() {
    let steps = [of(Send, Whole), of(Sendfile, Part(1)), of(Writable, GivenUp)];
    Case::of(EngineChoice::Sendfile, 100 * KIB).run(&steps).failed("TimedOut", 5);
}

#[test]
fn sendfile_of_a_file_that_got_shorter_ends_in_an_error() {
    let shrinks = Step::Changes(Change::Shrinks(10));
    let steps = [of(Send, Whole), shrinks, of(Sendfile, Whole), of(Writable, Whole), of(Disk, Whole)];
    Case::of(EngineChoice::Sendfile, 100 * KIB).run(&steps).failed("SourceChanged", 14);
    // Before the last window nobody looks.
    let steps = [of(Send, Whole), shrinks, of(Sendfile, Whole), of(Writable, Whole), of(Sendfile, Whole)];
    let case = Case { more: true, ..Case::of(EngineChoice::Sendfile, 100 * KIB) };
    case.run(&steps).failed("SourceShrank { offset: 10 }", 14);
}

#[test]
fn a_file_that_was_appended_to_is_sent_to_its_former_end_and_one_that_was_written_anew_is_not() {
    let steps = |change| {
        [
            of(Send, Whole),
            of(Sendfile, Part(1000)),
            Step::Changes(change),
            of(Writable, Whole),
            of(Disk, Whole),
        ]
    };
    let mut grows = steps(Change::Grows(50)).to_vec();
    grows.push(of(Sendfile, Whole));
    Case::of(EngineChoice::Sendfile, 100 * KIB).run(&grows).is_complete();
    for change in [Change::IsOtherAndGrows(50), Change::IsOther] {
        Case::of(EngineChoice::Sendfile, 100 * KIB).run(&steps(change)).failed("SourceChanged", 1004);
    }
}

#[test]
fn sendfile_has_a_disk_thread_read_a_cold_window_first() {
    let cold = || Case { facts: COLD, ..Case::of(EngineChoice::Sendfile, 100 * KIB) };
    let ended = cold().run(&whole(&[Send, Disk, Read, Sendfile]));
    ended.is_complete();
    assert_eq!(ended.host.counters.windows_cold.get(), 1);
}

#[test]
fn a_disk_that_is_busy_or_fails_ends_a_cold_window() {
    let cold = |engine| Case { facts: COLD, ..Case::of(engine, 100 * KIB) };
    let busy = [of(Send, Whole), of(Disk, GivenUp)];
    cold(EngineChoice::Sendfile).run(&busy).failed("Disk(Busy(Read))", 4);
    let fails = [of(Send, Whole), of(Disk, Whole), of(Read, Fails(Errno::IO))];
    let ended = cold(EngineChoice::Sendfile).run(&fails);
    assert!(matches!(ended.result, Err(TransferError::SourceFailed { offset: 0, errno: Errno::IO })));
    // Nothing was sent: there is another answer to give.
    cold(EngineChoice::Auto).run(&[of(Pipe, Whole), of(Disk, GivenUp)]).failed("Disk(Busy(Read))", 0);
}

#[test]
fn what_is_left_of_a_window_that_was_waited_for_is_read_by_a_disk_thread() {
    let facts = Facts { has_waited: true, ..HOT };
    let case = Case { facts, ..Case::of(EngineChoice::Auto, MIB) };
    let ended = case.run(&whole(&[Send, Sendfile, Pipe, Disk, Fill, Empty]));
    ended.is_complete();
    assert_eq!(ended.sent_by(EngineLabel::Sendfile), 512 * KIB);
    assert_eq!(ended.sent_by(EngineLabel::Splice), 512 * KIB);
}

#[test]
fn others_have_their_turn_after_two_mebibytes_of_which_small_ones_for_paced_sockets() {
    let turn = [Sendfile, Sendfile, Sendfile, Sendfile, Turn, Writable];
    let calls = [&[Send], &turn[..], &[Sendfile, Sendfile]].concat();
    Case::of(EngineChoice::Auto, 3 * MIB).run(&whole(&calls)).is_complete();
    let mut case = Case::of(EngineChoice::Auto, 200 * KIB);
    case.host.is_paced = true;
    case.run(&whole(&[Send, Sendfile, Turn, Writable, Sendfile])).is_complete();
}

#[test]
fn random_bytes_go_on_where_they_were_and_begin_anew_at_their_end() {
    let source = Synthetic::new().unwrap();
    let bytes = source.bytes() + 10;
    let pieces = vec![Piece::Synthetic(bytes, source.bytes())];
    let steps = [
        of(Sendfile, Part(7)),
        of(Writable, Whole),
        of(Sendfile, Whole),
        of(Sendfile, Part(3)),
        of(Writable, Whole),
        of(Sendfile, Whole),
    ];
    let content = Content::new(0, 0);
    let host = Host::new(EngineChoice::Auto);
    let ended = play(host, content, HOT, &steps, pieces, async |transfer, _| {
        send_synthetic(transfer, &source, bytes).await
    });
    ended.is_complete();
}

#[test]
fn splice_sends_what_is_left_in_the_pipe_before_it_fills_it_again() {
    let steps = [
        of(Pipe, Whole),
        of(Fill, Fails(Errno::INTR)),
        of(Fill, Part(5000)),
        of(Send, Whole),
        of(Empty, Part(1000)),
        of(Empty, Fails(Errno::INTR)),
        of(Empty, Fails(Errno::AGAIN)),
        of(Writable, Whole),
        of(Empty, Whole),
        of(Fill, Whole),
        of(Empty, Whole),
    ];
    let ended = Case::of(EngineChoice::Splice, 100 * KIB).run(&steps);
    ended.is_complete();
    assert_eq!(ended.host.pipes.borrow().len(), 1, "the pipe is kept");
    assert_eq!(ended.sent_by(EngineLabel::Splice), 100 * KIB);
}

#[test]
fn a_pipe_with_bytes_in_it_is_closed() {
    for (errno, error) in [(Errno::PIPE, "PeerGone"), (Errno::CONNRESET, "PeerGone")] {
        let steps = [
            of(Pipe, Whole),
            of(Fill, Whole),
            of(Send, Whole),
            of(Empty, Part(1000)),
            of(Empty, Fails(errno)),
        ];
        let ended = Case::of(EngineChoice::Splice, 100 * KIB).run(&steps);
        ended.failed(error, 1004);
        assert!(ended.host.pipes.borrow().is_empty());
    }
    let steps = [of(Pipe, Whole), of(Fill, Whole), of(Send, Whole), of(Empty, Part(0))];
    Case::of(EngineChoice::Splice, 100 * KIB).run(&steps).failed("PeerGone", 4);
}

#[test]
fn splice_sends_no_head_before_there_is_something_behind_it() {
    let case = || Case::of(EngineChoice::Splice, 100 * KIB);
    let ended = case().run(&[of(Pipe, Whole), of(Fill, Fails(Errno::IO))]);
    assert!(matches!(ended.result, Err(TransferError::SourceFailed { offset: 0, errno: Errno::IO })));
    assert_eq!(ended.peer.taken(), 0);
    let steps = [of(Pipe, Whole), Step::Changes(Change::Shrinks(0)), of(Fill, Whole)];
    case().run(&steps).failed("SourceShrank { offset: 0 }", 0);
}

#[test]
fn what_no_pipe_can_be_had_for_is_sent_by_sendfile_once_it_is_in_memory() {
    let without = of(Pipe, Fails(Errno::MFILE));
    let hot = [without, of(Send, Whole), of(Sendfile, Whole)];
    let ended = Case::of(EngineChoice::Splice, 100 * KIB).run(&hot);
    ended.is_complete();
    assert_eq!(ended.sent_by(EngineLabel::Sendfile), 100 * KIB);
    let cold = [without, of(Disk, Whole), of(Read, Whole), of(Send, Whole), of(Sendfile, Whole)];
    let ended = Case { facts: COLD, ..Case::of(EngineChoice::Auto, 100 * KIB) }.run(&cold);
    ended.is_complete();
    assert_eq!(ended.sent_by(EngineLabel::Sendfile), 100 * KIB);
}

#[test]
fn splice_ends_where_the_file_was_changed_while_the_socket_was_full() {
    let steps = [
        of(Pipe, Whole),
        of(Fill, Whole),
        of(Send, Whole),
        of(Empty, Part(1000)),
        of(Empty, Fails(Errno::AGAIN)),
        Step::Changes(Change::IsOther),
        of(Writable, Whole),
        of(Disk, Whole),
    ];
    Case::of(EngineChoice::Splice, 100 * KIB).run(&steps).failed("SourceChanged", 1004);
}

#[test]
fn copy_sends_head_and_payload_together_in_as_many_pieces_as_the_socket_takes() {
    let steps = [
        of(ReadNow, Whole),
        of(Send, Part(2)),
        of(Send, Part(1000)),
        of(Send, Fails(Errno::AGAIN)),
        of(Writable, Whole),
        of(Send, Fails(Errno::INTR)),
        of(Writable, Whole),
        of(Send, Whole),
    ];
    let ended = Case::of(EngineChoice::Copy, 100 * KIB).run(&steps);
    ended.is_complete();
    assert_eq!(ended.sent_by(EngineLabel::Copy), 100 * KIB);
}

#[test]
fn copy_has_a_disk_thread_read_what_is_not_in_memory() {
    let steps = [
        of(ReadNow, Fails(Errno::INTR)),
        of(ReadNow, Part(10)),
        of(ReadNow, Fails(Errno::AGAIN)),
        of(Disk, Whole),
        of(Read, Fails(Errno::INTR)),
        of(Read, Part(100)),
        of(Read, Whole),
        of(Send, Whole),
    ];
    let ended = Case::of(EngineChoice::Copy, 100 * KIB).run(&steps);
    ended.is_complete();
    assert_eq!(ended.host.counters.windows_cold.get(), 1);
    let steps = [of(ReadNow, Fails(Errno::IO)), of(Disk, Whole), of(Read, Fails(Errno::IO))];
    let ended = Case::of(EngineChoice::Copy, 100 * KIB).run(&steps);
    assert!(matches!(ended.result, Err(TransferError::SourceFailed { offset: 0, errno: Errno::IO })));
    assert_eq!(ended.peer.taken(), 0);
}

#[test]
fn copy_ends_where_the_file_got_shorter_or_is_another_by_the_last_chunk() {
    let shrinks = Step::Changes(Change::Shrinks(5));
    let steps = [shrinks, of(ReadNow, Whole), of(ReadNow, Whole)];
    Case::of(EngineChoice::Copy, 100 * KIB).run(&steps).failed("SourceShrank { offset: 5 }", 0);
    let other = Step::Changes(Change::IsOther);
    let steps = [of(ReadNow, Whole), of(Send, Whole), other, of(ReadNow, Whole), of(Disk, Whole)];
    Case::of(EngineChoice::Copy, 300 * KIB).run(&steps).failed("SourceChanged", 4 + 256 * KIB);
}

#[test]
fn memory_that_waits_for_its_peer_is_reserved_or_the_transfer_ends() {
    let mut case = Case::of(EngineChoice::Copy, 100 * KIB);
    case.host.waiting_bytes_max = 50 * KIB;
    case.run(&[of(ReadNow, Whole), of(Send, Fails(Errno::AGAIN))]).failed("NoRoom(Node)", 0);
    let steps = [of(ReadNow, Whole), of(Send, Fails(Errno::AGAIN)), of(Writable, GivenUp)];
    Case::of(EngineChoice::Copy, 100 * KIB).run(&steps).failed("TimedOut", 0);
}

#[test]
fn a_head_and_a_body_in_memory_are_counted_as_the_socket_takes_them() {
    let steps = [
        of(Send, Part(3)),
        of(Send, Part(5)),
        of(Send, Fails(Errno::AGAIN)),
        of(Writable, Whole),
        of(Send, Fails(Errno::CONNRESET)),
    ];
    let pieces = vec![Piece::Head(HEAD.to_vec()), Piece::Text(b"body and more".to_vec())];
    let host = Host::new(EngineChoice::Auto);
    let ended = play(host, Content::new(0, 0), HOT, &steps, pieces, async |transfer, _| {
        transfer.send_both(HEAD, b"body and more").await
    });
    ended.failed("PeerGone", 8);
    assert_eq!(ended.sent_by(EngineLabel::Copy), 4);
}
