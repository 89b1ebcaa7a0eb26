//! A simulated client: sends requests in any pieces, takes answers in any pieces, and holds each byte to what is due.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::platform::simulated::{End, Seeded, Wire};
use super::Endings;
use super::answer::{Head, may_begin_head};
use super::request::{Candidate, Files, Piece, Request};

/// Requests on one connection.
const REQUESTS_MAX: usize = 6;

/// Bytes that are on their way to the daemon at most: its window.
const WINDOW_BYTES: u64 = 256 << 10;

/// The misbehaviour of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// Nothing: it sends and takes all.
    Good,
    /// It ends its direction before it has sent all.
    HalfCloses,
    /// It closes.
    Leaves,
    /// It resets the connection.
    Resets,
    /// It sends nothing more, and takes what comes.
    Stalls,
    /// It takes nothing more.
    StopsTaking,
}

/// How it ends the connection once it has all answers.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    Leaves,
    HalfCloses,
    Waits,
}

/// An answer that is being taken.
struct Answer {
    head: Head,
    /// Bytes of its body that are to come; None: in chunks.
    body: Vec<u8>,
    body_bytes: usize,
    candidates: Vec<Candidate>,
    /// Parts of it are of several states of its file.
    is_mixed: bool,
}

/// The end of a request.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body_bytes: usize,
    pub(super) closes: bool,
}

/// A client.
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    pub(super) wire: Arc<Wire>,
    pub(super) requests: Vec<Request>,
    pub(super) files: Files,
    pub(super) answered: Vec<Answered>,
    /// Where each request begins and ends in what is sent of all.
    pub(super) bounds: Vec<(u64, u64)>,
    /// The pieces that are left to be sent.
    pieces: Vec<Piece>,
    /// How many bytes of it were.
    pub(super) sent_bytes: u64,
    taken: Vec<u8>,
    answer: Option<Answer>,
    manners: Manners,
    /// Bytes after which it does what it does.
    breaks_at: u64,
    farewell: Farewell,
    has_broken: bool,
    is_over: bool,
    /// Whether the daemon may end the connection as it likes.
    pub(super) is_forgiving: bool,
    /// A file was cut in place, so that an answer under way may have zeros behind the cut, or what was written there
    /// since. No such answer may come whole.
    pub(super) may_mix: bool,
    /// Whether answers may be errors.
    pub(super) may_fail: bool,
    continues: usize,
}

impl Client {
    pub(super) fn draw(
        seeded: &mut Seeded,
        (peer, wire): (SocketAddr, Arc<Wire>),
        own: &[String],
        files: Files,
        is_good: bool,
    ) -> Client {
        let all: Vec<String> = files.keys().cloned().chain(["missing".to_owned()]).collect();
        let count = 1 + seeded.index(REQUESTS_MAX);
        let closes = seeded.one_in(3);
        let request = |number| Request::draw(&mut *seeded, own, &all, closes && number + 1 == count);
        let requests: Vec<Request> = (0..count).map(request).collect();
        let (mut bounds, mut end) = (Vec::new(), 0);
        for request in &requests {
            let begin = end;
            end += request.pieces.iter().map(piece_bytes).sum::<u64>();
            bounds.push((begin, end));
        }
        let bad =
            [Manners::HalfCloses, Manners::Leaves, Manners::Resets, Manners::Stalls, Manners::StopsTaking];
        let manners = if is_good || seeded.one_in(2) { Manners::Good } else { seeded.of(&bad) };
        Client {
            peer,
            wire,
            files,
            answered: Vec::new(),
            bounds,
            pieces: Vec::new(),
            sent_bytes: 0,
            taken: Vec::new(),
            answer: None,
            manners,
            breaks_at: seeded.below(end + 1),
            farewell: seeded.of(&[Farewell::Leaves, Farewell::HalfCloses, Farewell::Waits]),
            has_broken: false,
            is_over: false,
            is_forgiving: false,
            may_mix: false,
            may_fail: false,
            continues: 0,
            requests,
        }
        .with_pieces()
    }

    fn with_pieces(mut self) -> Client {
        self.pieces = self.requests.iter().flat_map(|request| request.pieces.iter().cloned()).collect();
        self
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The request that is answered next.
    fn next(&self) -> Option<&Request> {
        self.requests.get(self.answered.len())
    }

    /// Does one thing.
    pub(super) fn act(&mut self, seeded: &mut Seeded, endings: &mut Endings) {
        if self.is_over {
            return;
        }
        if self.manners != Manners::Good && !self.has_broken && self.sent_bytes >= self.breaks_at {
            self.break_manners(endings);
            // Who has left takes nothing any more.
            if self.is_over {
                return;
            }
        }
        let takes = !(self.has_broken && self.manners == Manners::StopsTaking);
        if takes && seeded.one_in(2) {
            let bytes = seeded.length(200_000);
            self.take(bytes);
            return;
        }
        if !self.has_broken || self.manners == Manners::StopsTaking {
            self.send(seeded);
        }
        if self.next().is_none() && !self.has_broken {
            self.say_farewell();
        }
    }

    fn break_manners(&mut self, endings: &mut Endings) {
        self.has_broken = true;
        self.is_forgiving = true;
        *endings.entry("client broken off".to_owned()).or_default() += 1;
        match self.manners {
            Manners::HalfCloses => self.wire.half_close(),
            Manners::Leaves => {
                self.wire.leave();
                self.is_over = true;
            }
            Manners::Resets => {
                self.wire.reset();
                self.is_over = true;
            }
            Manners::Good | Manners::Stalls | Manners::StopsTaking => {}
        }
    }

    fn say_farewell(&mut self) {
        match self.farewell {
            Farewell::Leaves => {
                self.wire.leave();
                self.is_over = true;
            }
            Farewell::HalfCloses => self.wire.half_close(),
            Farewell::Waits => {}
        }
    }

    fn send(&mut self, seeded: &mut Seeded) {
        let is_closing = self.answered.last().is_some_and(|answered| answered.closes);
        if is_closing || self.wire.daemon_end().is_some() {
            return;
        }
        let room = WINDOW_BYTES.saturating_sub(self.wire.window_bytes());
        let bytes_max = if seeded.one_in(3) { 40 } else { 100_000 };
        let breaks_in = self.breaks_at.saturating_sub(self.sent_bytes);
        let is_bound = self.manners != Manners::Good && !self.has_broken;
        let until = if is_bound { breaks_in } else { u64::MAX };
        let bytes_max = seeded.length(bytes_max).min(usize::try_from(room.min(until)).unwrap_or(usize::MAX));
        let mut left = bytes_max;
        while left > 0 && !self.pieces.is_empty() {
            match &mut self.pieces[0] {
                Piece::AwaitContinue => {
                    // Whoever waits for nobody waits no longer than for the answers before.
                    if self.continues == 0 {
                        return;
                    }
                    self.continues -= 1;
                    self.pieces.remove(0);
                }
                Piece::Bytes(bytes) => {
                    let count = left.min(bytes.len());
                    let part: Vec<u8> = bytes.drain(..count).collect();
                    if bytes.is_empty() {
                        self.pieces.remove(0);
                    }
                    self.wire.arrive(&part);
                    self.sent_bytes += count as u64;
                    left -= count;
                }
            }
        }
    }

    fn take(&mut self, bytes_max: usize) {
        let bytes = self.wire.take(bytes_max);
        self.taken.extend_from_slice(&bytes);
        while self.take_head() || self.take_body() {}
        match self.wire.daemon_end() {
            None => {}
            Some(End::Finished) => {
                assert!(
                    self.answer.is_none() && self.taken.is_empty(),
                    "the connection ends in order within answer {} of {:?}, after {:?} and {:?}",
                    self.answered.len(),
                    self.next(),
                    String::from_utf8_lossy(&self.taken),
                    self.answered
                );
                self.hold_end();
            }
            Some(End::Reset) => {
                let is_done = self.next().is_none() && self.has_all_said();
                assert!(
                    self.is_forgiving || self.wire.has_failed() || is_done,
                    "the connection is reset after {} answers to a client that did nothing wrong",
                    self.answered.len()
                );
                assert!(self.answer.is_some() || may_begin_head(&self.taken), "no head: {:?}", self.taken);
                self.is_over = true;
            }
        }
    }

    fn has_all_said(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The daemon ended the connection in order.
    fn hold_end(&mut self) {
        self.is_over = true;
        let has_all = self.next().is_none();
        let is_told = self.answered.last().is_some_and(|answered| answered.closes);
        assert!(
            has_all || is_told || self.is_forgiving || self.wire.has_failed(),
            "the connection ends after {} of {} answers, and nobody was told",
            self.answered.len(),
            self.requests.len()
        );
    }

    /// Takes the head of the next answer, if it is there.
    fn take_head(&mut self) -> bool {
        if self.answer.is_some() {
            return false;
        }
        let Some(head) = Head::take(&mut self.taken) else { return false };
        let number = self.answered.len();
        let request = self.requests.get(number);
        let request = request.unwrap_or_else(|| panic!("an answer that nobody asked for: {head:?}"));
        assert!(self.sent_bytes > self.bounds[number].0, "an answer before its request: {head:?}");
        assert!(
            !self.answered.last().is_some_and(|answered| answered.closes),
            "an answer after the last: {head:?}"
        );
        if head.is_interim() {
            assert!(head.status == 100, "{head:?}");
            self.continues += 1;
            return true;
        }
        let mut candidates = request.due(&self.files, &head);
        candidates.retain(|candidate| candidate.status == head.status);
        if candidates.is_empty() && self.may_be_error(head.status) {
            candidates.push(Candidate::any(head.status));
        }
        assert!(!candidates.is_empty(), "{head:?} isn't due for {request:?}, files {:?}", self.lengths());
        // A method that was cut off is none.
        let has_method = self.sent_bytes - self.bounds[number].0 > request.method.len() as u64;
        let has_no_body = request.method == "HEAD" && has_method || head.status == 204 || head.status == 304;
        let length = if has_no_body { 0 } else { head.content_length().expect("an answer says its length") };
        if let Some(length) = head.content_length() {
            candidates.retain(|candidate| {
                let of_body = candidate.body.as_ref().filter(|_| !has_no_body).map(|body| body.len() as u64);
                of_body.or(candidate.length).is_none_or(|expected| expected == length)
            });
        }
        assert!(
            !candidates.is_empty(),
            "another length is due: {head:?} for {request:?}, {:?}",
            self.lengths()
        );
        let body_bytes = usize::try_from(length).unwrap();
        self.answer = Some(Answer { head, body: Vec::new(), body_bytes, candidates, is_mixed: false });
        true
    }

    /// Which errors may answer a request when something goes wrong that isn't the daemon's fault.
    fn may_be_error(&self, status: u16) -> bool {
        match status {
            400 | 408 => self.is_forgiving,
            429 | 503 => self.may_fail || self.is_forgiving,
            500 | 507 => self.may_fail || self.wire.has_failed(),
            _ => false,
        }
    }

    fn lengths(&self) -> Vec<(&str, Vec<Option<usize>>)> {
        let of = |state: &Option<Arc<[u8]>>| state.as_ref().map(|content| content.len());
        self.files.iter().map(|(name, states)| (name.as_str(), states.iter().map(of).collect())).collect()
    }

    /// Takes what is there of a body. True: the answer is whole.
    fn take_body(&mut self) -> bool {
        let Some(answer) = &mut self.answer else { return false };
        let count = (answer.body_bytes - answer.body.len()).min(self.taken.len());
        let begin = answer.body.len();
        answer.body.extend(self.taken.drain(..count));
        let end = answer.body.len();
        let came = &answer.body[begin..end];
        answer.candidates.retain(|candidate| {
            candidate.body.as_ref().is_none_or(|body| body.get(begin..end).is_some_and(|due| due == came))
        });
        if answer.candidates.is_empty() && self.may_mix {
            answer.is_mixed = true;
        }
        assert!(
            answer.is_mixed || !answer.candidates.is_empty(),
            "other bytes than those that are due between {begin} and {end}: {:?} for {:?}",
            answer.head,
            self.requests.get(self.answered.len())
        );
        if end < answer.body_bytes {
            return false;
        }
        let Some(Answer { head, body, candidates, is_mixed, .. }) = self.answer.take() else { return false };
        let request = &self.requests[self.answered.len()];
        // A file that is longer by the end is compared at a few places alone, which may all be as they were.
        let has_grown = self.files.get(&request.name).and_then(|states| states.last()?.as_deref());
        let has_grown = has_grown.is_some_and(|now| now.len() > body.len());
        assert!(!is_mixed || has_grown, "two states of a file came as one: {head:?} for {request:?}");
        if head.closes() {
            let is_due = request.is_last || head.status >= 400 || self.is_forgiving;
            assert!(is_due, "the connection is closed for no reason: {head:?} for {request:?}");
        }
        let name = request.name.clone();
        let may_be: Vec<_> =
            candidates.iter().filter_map(|candidate| candidate.after.clone()).flatten().collect();
        if !may_be.is_empty() {
            self.files.insert(name, may_be);
        } else if head.status == 503 {
            // A request that was given up may be carried out all the same, and late.
            let left = request.left(&self.files, true);
            self.files.extend(left.map(|left| (name, left)));
        }
        if head.closes() {
            self.pieces.clear();
        }
        self.answered.push(Answered { status: head.status, body_bytes: body.len(), closes: head.closes() });
        true
    }

    /// Returns the files that are expected once all is over.
    pub(super) fn files_left(&self) -> Files {
        let mut files = self.files.clone();
        for (request, (_, end)) in self.requests.iter().zip(&self.bounds).skip(self.answered.len()) {
            // Answers to those behind the next may have got lost.
            let left = request.left(&files, self.sent_bytes >= *end);
            files.extend(left.map(|left| (request.name.clone(), left)));
        }
        files
    }

    /// Whether anything of the answer that is next has come.
    pub(super) fn has_begun_answer(&self) -> bool {
        self.answer.is_some()
    }
}

fn piece_bytes(piece: &Piece) -> u64 {
    match piece {
        Piece::Bytes(bytes) => bytes.len() as u64,
        Piece::AwaitContinue => 0,
    }
}

impl Client {
    /// The connection is gone: takes what is left of it.
    pub(super) fn conclude(&mut self) {
        while !self.is_over {
            self.take(usize::MAX);
        }
    }

    /// Each request whose turn came has one line, in their order; whoever was told of an end has no further one.
    pub(super) fn hold_lines(&self, lines: &[serde_json::Value]) {
        let answered = self.answered.len();
        assert!(lines.len() >= answered, "{} lines for {answered} answers: {lines:?}", lines.len());
        for ((line, answered), request) in lines.iter().zip(&self.answered).zip(&self.requests) {
            assert_eq!(line["status"], answered.status, "{line} for {request:?}");
            assert_eq!(line["bytes_out"], answered.body_bytes, "{line} for {request:?}");
            if self.is_forgiving && matches!(answered.status, 400 | 408) {
                // It may have been answered before its head was whole.
                continue;
            }
            let path = line["path"].as_str().unwrap();
            assert!(path.strip_prefix('/') == Some(&request.name), "{line} for {request:?}");
            assert_eq!(line["method"], request.method, "{line} for {request:?}");
        }
        let is_last = self.answered.last().is_some_and(|answered| answered.closes);
        let has_come =
            self.bounds.get(answered).is_some_and(|(begin, _)| self.wire.received_bytes() > *begin);
        let due = answered + usize::from(!is_last && (has_come || self.has_begun_answer()));
        if self.is_forgiving || self.wire.has_failed() {
            // Answers that were on their way may have got lost.
            assert!(
                lines.len() >= due && lines.len() <= self.requests.len(),
                "{} lines, {due} due",
                lines.len()
            );
        } else {
            assert_eq!(lines.len(), due, "{lines:?}");
        }
    }
}
