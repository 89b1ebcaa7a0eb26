//! Requests of simulated clients, and what is due for each.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::sync::{Arc, LazyLock};

use super::super::platform::simulated::Seeded;
use super::answer::Head;
use crate::protocol::multipart::{self, Segment};
use crate::protocol::range::ByteRange;

/// The text that the files of one seed are parts of: no two parts could be mixed up.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut seeded = Seeded::new(0);
    (0..CONTENT_BYTES_MAX / 4).flat_map(|_| seeded.number().to_le_bytes()).collect()
});

/// Longest file.
const CONTENT_BYTES_MAX: usize = 1_200_000;

/// Lengths around which the daemon decides: none, joined with the head, short uploads, kept contents, corks, windows.
const LENGTHS: [usize; 8] = [0, 1, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 300_000, 1 << 20];

/// Bytes of a file that nobody else has.
pub(super) fn content(seeded: &mut Seeded) -> Arc<[u8]> {
    let around = if seeded.one_in(6) { seeded.of(&LENGTHS) } else { seeded.of(&LENGTHS[..5]) };
    let length = match seeded.below(4) {
        0 => seeded.index(around + 1),
        1 => around + seeded.index(3),
        2 => around.saturating_sub(seeded.index(3)),
        _ => around,
    };
    let begin = seeded.index(CONTENT_BYTES_MAX);
    TEXT[begin..begin + length.min(CONTENT_BYTES_MAX)].into()
}

/// The contents that a name may lead to: several, or none, where it isn't known which.
pub(super) type States = Vec<Option<Arc<[u8]>>>;

/// The contents that the names lead to.
pub(super) type Files = BTreeMap<String, States>;

/// The parts of a request that are sent, in their order.
#[derive(Clone)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The client waits until it is asked to go on.
    AwaitContinue,
}

/// The kind of a request.
enum Kind {
    Get { ranges: Vec<(u64, Option<u64>)>, condition: Option<Condition> },
    Put { body: Arc<[u8]>, condition: Option<Condition>, is_broken: bool },
    Delete,
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// `If-None-Match: *`
    IsNew,
    /// `If-Match: *`
    IsThere,
    /// `If-Match` of a tag that nothing has.
    IsOther,
    /// `If-None-Match` of a tag that nothing has.
    IsNotOther,
    /// `If-Range` of a tag that nothing has.
    RangeOfOther,
}

impl Condition {
    fn field(self) -> &'static str {
        match self {
            Condition::IsNew => "If-None-Match: *\r\n",
            Condition::IsThere => "If-Match: *\r\n",
            Condition::IsOther => "If-Match: \"no such tag\"\r\n",
            Condition::IsNotOther => "If-None-Match: \"no such tag\"\r\n",
            Condition::RangeOfOther => "If-Range: \"no such tag\"\r\n",
        }
    }

    fn holds(self, is_there: bool) -> bool {
        match self {
            Condition::IsNew => !is_there,
            Condition::IsThere => is_there,
            Condition::IsOther => false,
            Condition::IsNotOther | Condition::RangeOfOther => true,
        }
    }
}

/// A request.
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) name: String,
    pub(super) pieces: Vec<Piece>,
    pub(super) is_last: bool,
    kind: Kind,
}

impl Debug for Request {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} /{}, last: {}, ", self.method, self.name, self.is_last)?;
        let awaits = self.pieces.iter().any(|piece| matches!(piece, Piece::AwaitContinue));
        match &self.kind {
            Kind::Get { ranges, condition } => write!(formatter, "{ranges:?}, {condition:?}"),
            Kind::Put { body, condition, is_broken } => {
                let bytes = body.len();
                write!(formatter, "{bytes} bytes, {condition:?}, broken: {is_broken}, awaits: {awaits}")
            }
            Kind::Delete => write!(formatter, "remove"),
            Kind::Malformed => write!(formatter, "malformed"),
        }
    }
}

/// An answer that a request may get.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) status: u16,
    /// None: whatever its head announces.
    pub(super) body: Option<Vec<u8>>,
    /// The length that the head announces for a body that isn't sent.
    pub(super) length: Option<u64>,
    /// The contents that the name may lead to afterwards.
    pub(super) after: Option<States>,
}

impl Candidate {
    pub(super) fn any(status: u16) -> Candidate {
        Candidate { status, body: None, length: None, after: None }
    }
}

impl Request {
    /// One of a client that may write to `own` names and reads those of `all` and some that aren't there.
    pub(super) fn draw(seeded: &mut Seeded, own: &[String], all: &[String], is_last: bool) -> Request {
        let name = if seeded.one_in(2) {
            seeded.of(&[0]);
            &own[seeded.index(own.len())]
        } else {
            &all[seeded.index(all.len())]
        };
        let is_own = own.contains(name);
        let (method, kind) = match seeded.below(12) {
            0..4 if is_own => (
                "PUT",
                Kind::Put {
                    body: content(seeded),
                    condition: draw_condition(
                        seeded,
                        &[Condition::IsNew, Condition::IsThere, Condition::IsOther],
                    ),
                    is_broken: false,
                },
            ),
            4 if is_own => ("DELETE", Kind::Delete),
            5 if seeded.one_in(4) => ("GET", Kind::Malformed),
            number => {
                let conditions = [
                    Condition::IsNew,
                    Condition::IsThere,
                    Condition::IsOther,
                    Condition::IsNotOther,
                    Condition::RangeOfOther,
                ];
                let condition = draw_condition(seeded, &conditions);
                let ranges = draw_ranges(seeded);
                (if number == 6 { "HEAD" } else { "GET" }, Kind::Get { ranges, condition })
            }
        };
        let mut request = Request { method, name: name.clone(), pieces: Vec::new(), is_last, kind };
        request.write(seeded);
        request
    }

    fn write(&mut self, seeded: &mut Seeded) {
        let Request { method, name, .. } = self;
        let mut head = format!("{method} /{name} HTTP/1.1\r\nHost: localhost\r\n");
        if self.is_last {
            head += "Connection: close\r\n";
        }
        let mut pieces = Vec::new();
        match &mut self.kind {
            Kind::Malformed => head += "Content-Length: 1x\r\n",
            Kind::Delete => {}
            Kind::Get { ranges, condition } => {
                head += condition.map_or("", Condition::field);
                if !ranges.is_empty() {
                    let of = |(first, last): &(u64, Option<u64>)| {
                        format!("{first}-{}", last.map_or(String::new(), |last| last.to_string()))
                    };
                    let ranges: Vec<_> = ranges.iter().map(of).collect();
                    head += &format!("Range: bytes={}\r\n", ranges.join(","));
                }
            }
            Kind::Put { body, condition, is_broken } => {
                head += condition.map_or("", Condition::field);
                let awaits = seeded.one_in(6) && !body.is_empty();
                if awaits {
                    head += "Expect: 100-continue\r\n";
                    pieces.push(Piece::AwaitContinue);
                }
                if seeded.one_in(3) {
                    head += "Transfer-Encoding: chunked\r\n";
                    *is_broken = seeded.one_in(8);
                    pieces.push(Piece::Bytes(chunks(seeded, body, *is_broken)));
                } else {
                    head += &format!("Content-Length: {}\r\n", body.len());
                    pieces.push(Piece::Bytes(body.to_vec()));
                }
            }
        }
        head += "\r\n";
        pieces.insert(0, Piece::Bytes(head.into_bytes()));
        self.pieces = pieces;
    }

    /// Returns the answers that it may get where nothing goes wrong.
    pub(super) fn due(&self, files: &Files, head: &Head) -> Vec<Candidate> {
        let none = vec![None];
        let states = files.get(&self.name).unwrap_or(&none);
        states.iter().map(|state| self.due_of(state.as_ref(), head)).collect()
    }

    fn due_of(&self, state: Option<&Arc<[u8]>>, head: &Head) -> Candidate {
        let is_there = state.is_some();
        match &self.kind {
            Kind::Malformed => Candidate::any(400),
            Kind::Delete if is_there => Candidate { after: Some(vec![None]), ..empty(204) },
            Kind::Delete => Candidate::any(404),
            Kind::Put { condition: Some(condition), .. } if !condition.holds(is_there) => Candidate::any(412),
            Kind::Put { is_broken: true, .. } => Candidate::any(400),
            Kind::Put { body, .. } => {
                let after = Some(vec![Some(Arc::clone(body))]);
                Candidate { after, ..empty(if is_there { 204 } else { 201 }) }
            }
            Kind::Get { ranges, condition } => match state {
                None => Candidate { body: (self.method == "HEAD").then(Vec::new), ..Candidate::any(404) },
                Some(content) => self.due_of_file(content, ranges, *condition, head),
            },
        }
    }

    fn due_of_file(
        &self,
        content: &[u8],
        ranges: &[(u64, Option<u64>)],
        condition: Option<Condition>,
        head: &Head,
    ) -> Candidate {
        let is_head = self.method == "HEAD";
        match condition {
            Some(Condition::IsNew) => return empty(304),
            Some(Condition::IsOther) => {
                return Candidate { body: is_head.then(Vec::new), ..Candidate::any(412) };
            }
            _ => {}
        }
        let size = content.len() as u64;
        // All of nothing is all of it.
        let ranges = if size == 0 && ranges.iter().any(|(first, _)| *first == 0) { &[] } else { ranges };
        let satisfied: Vec<ByteRange> = ranges
            .iter()
            .filter(|(first, _)| *first < size)
            .map(|(first, last)| {
                let end = last.map_or(size, |last| (last + 1).min(size));
                ByteRange { start: *first, length: end - first }
            })
            .collect();
        let part = |range: &ByteRange| {
            let start = usize::try_from(range.start).unwrap();
            content[start..start + usize::try_from(range.length).unwrap()].to_vec()
        };
        let is_whole = ranges.is_empty() || is_head || condition == Some(Condition::RangeOfOther);
        match (is_whole, satisfied.as_slice()) {
            (true, _) if is_head => Candidate { length: Some(size), ..empty(200) },
            (true, _) => Candidate { body: Some(content.to_vec()), ..Candidate::any(200) },
            (false, []) => Candidate::any(416),
            (false, [range]) => Candidate { body: Some(part(range)), ..Candidate::any(206) },
            (false, several) => {
                let boundary = head.field("content-type").and_then(|value| value.split_once("boundary="));
                let boundary = boundary.map(|(_, boundary)| boundary.trim_matches('"').to_owned());
                let plan = multipart::plan(
                    several,
                    size,
                    "application/octet-stream",
                    boundary.unwrap_or("0".into()),
                );
                let of = |segment: &Segment| match segment {
                    Segment::Text(text) => text.clone(),
                    Segment::File(range) => part(range),
                };
                match plan {
                    Some(plan) => Candidate {
                        body: Some(plan.segments.iter().flat_map(of).collect()),
                        ..Candidate::any(206)
                    },
                    None => Candidate { body: Some(content.to_vec()), ..Candidate::any(200) },
                }
            }
        }
    }

    /// Returns what it may leave behind where nobody knows how it ended.
    pub(super) fn left(&self, files: &Files, is_sent: bool) -> Option<States> {
        let none = vec![None];
        let before = files.get(&self.name).unwrap_or(&none);
        let written = match &self.kind {
            Kind::Put { body, is_broken: false, .. } if is_sent => Some(Arc::clone(body)),
            Kind::Delete => None,
            _ => return None,
        };
        Some(before.iter().cloned().chain([written]).collect())
    }
}

fn empty(status: u16) -> Candidate {
    Candidate { body: Some(Vec::new()), ..Candidate::any(status) }
}

fn draw_condition(seeded: &mut Seeded, all: &[Condition]) -> Option<Condition> {
    if seeded.one_in(5) { Some(seeded.of(all)) } else { None }
}

/// None, one, or several that are far from each other.
fn draw_ranges(seeded: &mut Seeded) -> Vec<(u64, Option<u64>)> {
    let count = match seeded.below(6) {
        0 | 1 => 1,
        2 => 2 + seeded.below(3),
        _ => 0,
    };
    let mut next = if seeded.one_in(2) { 0 } else { seeded.below(80_000) };
    let mut ranges = Vec::new();
    for _ in 0..count {
        let length = 1 + seeded.below(3_000);
        ranges.push((next, Some(next + length - 1)));
        next += length + 2_000 + seeded.below(20_000);
    }
    if let Some(last) = ranges.last_mut().filter(|_| seeded.one_in(3)) {
        last.1 = None;
    }
    ranges
}

/// A body in chunks, of which the last may be none.
fn chunks(seeded: &mut Seeded, body: &[u8], is_broken: bool) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let count = seeded.length(rest.len());
        out.extend_from_slice(format!("{count:x}\r\n").as_bytes());
        out.extend_from_slice(&rest[..count]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[count..];
    }
    out.extend_from_slice(if is_broken { b"no size\r\n\r\n" } else { b"0\r\n\r\n" });
    out
}
