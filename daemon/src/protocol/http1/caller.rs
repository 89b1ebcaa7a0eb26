//! The names that a client gives itself and its request, so that its own log and this daemon's can be compared.

/// The longest `X-Request-Id` that is taken, in bytes: three UUIDs. A line of the log must not grow with a peer's
/// text.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// The longest part of a `User-Agent` that is kept, in bytes: browsers send some 120.
pub const AGENT_BYTES_MAX: usize = 128;

/// Bytes of a `traceparent` of version 00: `00-TRACE_ID-PARENT_ID-FLAGS` (W3C Trace Context 3.2).
const TRACEPARENT_BYTES: usize = 55;

/// The place of the trace's id in a `traceparent`.
const TRACE_ID: std::ops::Range<usize> = 3..35;

/// The names that a client gives itself and its request. They are one allocation, since each request has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The client's id of the request, see [`request_id`].
    pub id: Option<Box<str>>,
    agent: [u8; AGENT_BYTES_MAX + 1],
    agent_bytes: u8,
}

impl Caller {
    /// Makes a caller of the client's names, if it gives any.
    #[must_use]
    pub fn of(agent: Option<&[u8]>, id: Option<Box<str>>) -> Option<Box<Caller>> {
        if agent.is_none() && id.is_none() {
            return None;
        }
        let agent = agent.unwrap_or_default();
        let bytes = agent.len().min(AGENT_BYTES_MAX + 1);
        let agent_bytes = u8::try_from(bytes).unwrap_or(0);
        let mut caller = Box::new(Caller { id, agent: [0; AGENT_BYTES_MAX + 1], agent_bytes });
        caller.agent[..bytes].copy_from_slice(&agent[..bytes]);
        Some(caller)
    }

    /// Returns the `User-Agent`, cut at [`AGENT_BYTES_MAX`] and one byte, which says that there was more; for logs
    /// (escape it first).
    #[must_use]
    pub fn agent(&self) -> Option<&[u8]> {
        self.agent.get(..usize::from(self.agent_bytes)).filter(|agent| !agent.is_empty())
    }
}

/// Returns the client's id of its request out of two fields, of which the first outranks the second; None where
/// neither holds an id that may be sent back and shown as it is.
#[must_use]
pub fn request_id(x_request_id: Option<&[u8]>, traceparent: Option<&[u8]>) -> Option<Box<str>> {
    let id = x_request_id.filter(|id| is_shown_as_it_is(id)).or_else(|| trace_id(traceparent?))?;
    std::str::from_utf8(id).ok().map(Box::from)
}

/// Whether the id is visible ASCII that needs no escape in a log.
fn is_shown_as_it_is(id: &[u8]) -> bool {
    let is_shown = |byte: &u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\');
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(is_shown)
}

/// Returns the id of the trace that a request belongs to. Later versions may add text behind that of version 00,
/// after a dash.
fn trace_id(traceparent: &[u8]) -> Option<&[u8]> {
    let (known, rest) = traceparent.split_at_checked(TRACEPARENT_BYTES)?;
    let is_lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let has_shape = known.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => is_lower_hex(byte),
    });
    let version = &known[..2];
    let ends_well = rest.is_empty() || (version != b"00" && rest.starts_with(b"-"));
    let id = &known[TRACE_ID];
    // The version "ff" and an id of zeros are invalid (3.2.2.1 and 3.2.2.3).
    (has_shape && ends_well && version != b"ff" && id.iter().any(|byte| *byte != b'0')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::{AGENT_BYTES_MAX, Caller, REQUEST_ID_BYTES_MAX, request_id};

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn ids_that_may_be_shown_are_taken() {
        let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
        for id in ["1", "c0ffee-1", "a/b:c=d", &longest] {
            assert_eq!(request_id(Some(id.as_bytes()), None).as_deref(), Some(id));
        }
        for id in ["", "two words", "quo\"te", "back\\slash", "\u{1b}[31m", "\u{e9}", &(longest + "x")] {
            assert_eq!(request_id(Some(id.as_bytes()), None), None, "{id:?}");
        }
    }

    #[test]
    fn an_agent_is_kept_up_to_where_it_is_cut() {
        assert_eq!(Caller::of(None, None), None);
        assert_eq!(Caller::of(None, Some("id".into())).unwrap().agent(), None);
        for bytes in [1, AGENT_BYTES_MAX, AGENT_BYTES_MAX + 1, AGENT_BYTES_MAX + 2, 5_000] {
            let agent = "a".repeat(bytes);
            let caller = Caller::of(Some(agent.as_bytes()), None).unwrap();
            assert_eq!(caller.agent().unwrap().len(), bytes.min(AGENT_BYTES_MAX + 1));
        }
    }

    #[test]
    fn a_trace_is_an_id_where_there_is_no_better_one() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let of = |trace: &str| request_id(None, Some(trace.as_bytes()));
        assert_eq!(of(TRACE).as_deref(), Some(id));
        assert_eq!(of(&TRACE.replacen("00-", "01-", 1)).as_deref(), Some(id));
        assert_eq!(of(&(TRACE.replacen("00-", "01-", 1) + "-more")).as_deref(), Some(id));
        assert_eq!(request_id(Some(b"mine"), Some(TRACE.as_bytes())).as_deref(), Some("mine"));
        assert_eq!(request_id(Some(b"not mine"), Some(TRACE.as_bytes())).as_deref(), Some(id));
    }

    #[test]
    fn what_is_no_trace_is_no_id() {
        let changed = |from: &str, to: &str| TRACE.replacen(from, to, 1);
        for trace in [
            String::new(),
            TRACE[..54].to_owned(),
            TRACE.to_owned() + "-more",
            TRACE.to_uppercase(),
            changed("00-", "ff-"),
            changed("00-", "00_"),
            changed("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            changed("9c-", "\u{e9}-"),
        ] {
            assert_eq!(request_id(None, Some(trace.as_bytes())), None, "{trace}");
        }
    }
}
