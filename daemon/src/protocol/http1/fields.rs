//! The header fields that matter to a server of files, and their joint meaning.

use memchr::memchr_iter;

use crate::protocol::accept::Accepted;
use crate::protocol::conditional::Preconditions;
use crate::protocol::date::parse_http_date;
use crate::protocol::http1::authority::Authority;
use crate::protocol::http1::body::Body;
use crate::protocol::http1::caller::{Caller, request_id};
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::field::{Once, join, keep_first, lower_case, members};
use crate::protocol::http1::limits::FIELDS_MAX;
use crate::protocol::http1::line::Version;
use crate::protocol::http1::method::{Method, is_token_byte};
use crate::protocol::http1::read_fields::{Preflight, ReadFields, Wanted};
use crate::protocol::http1::signs::Signs;
use crate::protocol::http1::write_fields::{Credentials, WriteFields};
use crate::protocol::name::escape_for_log;

/// The length of the longest name in [`Fields::add`], `if-unmodified-since`, in bytes: a longer one is none of
/// them.
const NAME_BYTES_MAX: usize = 19;

/// The longest body that can be announced, in bytes. No file is longer, nginx takes no more either, and hyper
/// gives the last numbers below 2^64 a meaning of its own.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// The most fields of a usual head, for which less room is made on the stack: to clear the whole of it takes
/// longer than to parse them.
const FIELDS_USUAL_MAX: usize = 16;

/// The values as they stand in the head. A field that matters here, may not repeat and does is an error, as in
/// nginx since 1.23: two readers that each take another value answer different requests.
#[derive(Default)]
pub(super) struct Fields<'b> {
    host: Once<'b>,
    content_length: Once<'b>,
    transfer_encoding: Once<'b>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    /// An expectation that can't be met.
    expectation: Option<&'b [u8]>,
    authorization: Once<'b>,
    range: Once<'b>,
    if_range: Once<'b>,
    if_match: Once<'b>,
    if_none_match: Once<'b>,
    if_modified_since: Once<'b>,
    if_unmodified_since: Once<'b>,
    accepted: Accepted,
    wanted: Wanted,
    origin: Option<&'b [u8]>,
    accept_encoding: Option<Vec<u8>>,
    preflight: Option<Preflight>,
    signs: Signs,
    want_repr_digest: Option<Vec<u8>>,
    user_agent: Option<&'b [u8]>,
    x_request_id: Option<&'b [u8]>,
    traceparent: Option<&'b [u8]>,
    write: Option<Box<WriteFields>>,
}

impl<'b> Fields<'b> {
    /// Reads the field lines of a head, up to and with the empty line. Fields that matter only to a request that
    /// may change something are looked for in no other, and those of a preflight only in an OPTIONS.
    pub(super) fn parse(
        lines: &'b [u8],
        method: Option<Method>,
        may_change: bool,
        wanted: Wanted,
    ) -> Result<Self, RequestError> {
        let (mut few, mut many);
        let headers: &mut [_] = if memchr_iter(b'\n', lines).count() <= FIELDS_USUAL_MAX {
            few = [httparse::EMPTY_HEADER; FIELDS_USUAL_MAX];
            &mut few
        } else {
            many = [httparse::EMPTY_HEADER; FIELDS_MAX];
            &mut many
        };
        let parsed = httparse::parse_headers(lines, headers);
        let Ok(httparse::Status::Complete((_, headers))) = parsed else { return Err(diagnose(lines)) };
        let mut fields = Fields { wanted, ..Fields::default() };
        for header in headers {
            fields.add(header.name, header.value);
        }
        if method == Some(Method::Options) && wanted.origin {
            fields.preflight = Preflight::parse(headers);
        }
        if may_change {
            fields.write = Some(Box::new(WriteFields::parse(headers)?));
        }
        Ok(fields)
    }

    fn add(&mut self, name: &str, value: &'b [u8]) {
        let mut room = [0; NAME_BYTES_MAX];
        let Some(lower_case) = lower_case(name, &mut room) else { return };
        match lower_case {
            b"host" => self.host.add(value),
            b"content-length" => self.content_length.add(value),
            b"transfer-encoding" => self.transfer_encoding.add(value),
            b"connection" => self.add_connection(value),
            b"expect" => self.add_expect(value),
            b"authorization" => self.authorization.add(value),
            b"range" => self.range.add(value),
            b"if-range" => self.if_range.add(value),
            b"if-match" => self.if_match.add(value),
            b"if-none-match" => self.if_none_match.add(value),
            b"if-modified-since" => self.if_modified_since.add(value),
            b"if-unmodified-since" => self.if_unmodified_since.add(value),
            b"accept" => self.accepted.add(value),
            b"accept-encoding" if self.wanted.accept_encoding => join(&mut self.accept_encoding, value),
            b"origin" => {
                self.signs.has_origin = true;
                keep_first(&mut self.origin, value);
            }
            b"sec-fetch-site" => self.signs.is_cross_site |= value == b"cross-site",
            b"forwarded" | b"via" | b"x-forwarded-for" | b"x-forwarded-host" | b"x-real-ip" => {
                self.signs.is_forwarded = true;
            }
            b"user-agent" => keep_first(&mut self.user_agent, value),
            b"x-request-id" => keep_first(&mut self.x_request_id, value),
            b"traceparent" => keep_first(&mut self.traceparent, value),
            b"want-repr-digest" => join(&mut self.want_repr_digest, value),
            _ => {}
        }
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in members(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn add_expect(&mut self, value: &'b [u8]) {
        for expectation in members(value) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expectation.get_or_insert(expectation);
            }
        }
    }

    /// Refuses faults of the fields that don't concern the body. Returns the authority of `Host`, unless it is
    /// `known_host`.
    pub(super) fn check(
        &self,
        version: Version,
        known_host: &[u8],
    ) -> Result<Option<Authority<'b>>, RequestError> {
        if self.host.repeated {
            return Err(RequestError::HostRepeated);
        }
        let host = match self.host.value {
            None if version == Version::Http11 => return Err(RequestError::HostMissing),
            None => None,
            Some(host) if host == known_host && !host.is_empty() => None,
            Some(host) => match Authority::parse(host) {
                Some(authority) => Some(authority),
                None => return Err(RequestError::HostInvalid { host: escape_for_log(host) }),
            },
        };
        self.check_repeated()?;
        match self.expectation {
            Some(expectation) => Err(RequestError::Expectation { value: escape_for_log(expectation) }),
            None => Ok(host),
        }
    }

    fn check_repeated(&self) -> Result<(), RequestError> {
        let fields = [
            ("Authorization", &self.authorization),
            ("Range", &self.range),
            ("If-Range", &self.if_range),
            ("If-Match", &self.if_match),
            ("If-None-Match", &self.if_none_match),
            ("If-Modified-Since", &self.if_modified_since),
            ("If-Unmodified-Since", &self.if_unmodified_since),
        ];
        match fields.into_iter().find(|(_, field)| field.repeated) {
            Some((name, _)) => Err(RequestError::FieldRepeated { name }),
            None => Ok(()),
        }
    }

    /// Returns the framing of the body (RFC 9112 6.3), as strictly as a server behind another must be.
    pub(super) fn body(&self, version: Version) -> Result<Body, RequestError> {
        match (self.transfer_encoding.value, self.content_length.value) {
            (Some(_), Some(_)) => Err(RequestError::LengthAndEncoding),
            (Some(_), None) if version == Version::Http10 => Err(RequestError::EncodingOnHttp10),
            (Some(encoding), None) if self.transfer_encoding.repeated || !is_chunked(encoding) => {
                Err(RequestError::EncodingUnsupported { value: escape_for_log(encoding) })
            }
            (Some(_), None) => Ok(Body::Chunked),
            (None, Some(_)) if self.content_length.repeated => Err(RequestError::LengthRepeated),
            (None, Some(length)) => match parse_length(length) {
                Some(0) => Ok(Body::None),
                Some(length) => Ok(Body::Length(length)),
                None => Err(RequestError::LengthInvalid { value: escape_for_log(length) }),
            },
            (None, None) => Ok(Body::None),
        }
    }

    /// Whether the connection outlives the answer (RFC 9112 9.3); `close` wins over `keep-alive`.
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client waits for a 100. HTTP/1.0 has none, and ignores the field (RFC 9110 10.1.1).
    pub(super) fn expects_continue(&self, version: Version) -> bool {
        self.expects_continue && version == Version::Http11
    }

    pub(super) fn accepted(&self) -> Accepted {
        self.accepted
    }

    pub(super) fn signs(&self) -> Signs {
        self.signs
    }

    pub(super) fn read(&mut self) -> Option<Box<ReadFields>> {
        let origin = self.origin.filter(|_| self.wanted.origin).map(Box::from);
        let fields = ReadFields {
            authorization: self.authorization.value.map(Credentials::new),
            origin,
            accept_encoding: self.accept_encoding.take().map(Vec::into_boxed_slice),
            preflight: self.preflight,
            want_repr_digest: self.want_repr_digest.take().map(Vec::into_boxed_slice),
        };
        fields.boxed()
    }

    pub(super) fn range(&self) -> Option<Box<[u8]>> {
        self.range.value.map(Box::from)
    }

    pub(super) fn if_range(&self) -> Option<Box<[u8]>> {
        self.if_range.value.map(Box::from)
    }

    pub(super) fn caller(&self) -> Option<Box<Caller>> {
        Caller::of(self.user_agent, request_id(self.x_request_id, self.traceparent))
    }

    /// Returns the fields of a request for `authority` that may change something.
    pub(super) fn write(&mut self, authority: Option<Authority<'_>>) -> Option<Box<WriteFields>> {
        let mut write = self.write.take()?;
        write.host = authority.map(|authority| authority.host.into());
        Some(write)
    }

    pub(super) fn preconditions(&self) -> Preconditions {
        Preconditions {
            if_match: self.if_match.value.map(Box::from),
            if_none_match: self.if_none_match.value.map(Box::from),
            if_modified_since: self.if_modified_since.value.and_then(parse_http_date),
            if_unmodified_since: self.if_unmodified_since.value.and_then(parse_http_date),
        }
    }
}

/// Finds the line that httparse could not read, and the reason.
fn diagnose(lines: &[u8]) -> RequestError {
    let lines = lines.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in lines.take_while(|line| !line.is_empty()) {
        let name_bytes = line.iter().take_while(|&&byte| is_token_byte(byte)).count();
        let named = name_bytes > 0 && line.get(name_bytes) == Some(&b':');
        if !named {
            return RequestError::FieldName { line: escape_for_log(line) };
        }
        if line.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
            return RequestError::FieldValue { line: escape_for_log(line) };
        }
    }
    RequestError::TooManyFields
}

/// Parses decimal digits alone: `parse` would take a sign.
fn parse_length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok().filter(|length| *length <= LENGTH_MAX)
}

fn is_chunked(encoding: &[u8]) -> bool {
    encoding.eq_ignore_ascii_case(b"chunked")
}
