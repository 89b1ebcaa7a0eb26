//! Makes the answers to requests that write, of their errors too.

use serde_json::{Value, json};

use super::super::super::disk::DiskError;
use super::super::response::{Asked, Response};
use super::error::BodyError;
use crate::files::upload::UploadError;
use crate::protocol::digest::Digest;
use crate::protocol::problem::{self, Kind};
use crate::protocol::upload;

/// The field with the digests of one request's body.
pub(super) const CONTENT_DIGEST: &str = "Content-Digest";

/// An answer that isn't written yet, since whether the connection is kept is known last.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    document: Option<String>,
    /// The sentence of the document.
    detail: Option<Box<str>>,
}

impl Answer {
    /// An answer without a body.
    pub(super) fn new(status: u16) -> Answer {
        Answer { status, fields: Vec::new(), document: None, detail: None }
    }

    /// A problem document (RFC 9457).
    pub(super) fn problem(status: u16, detail: &str) -> Answer {
        Answer::problem_of(Kind::AboutBlank, status, detail, &[])
    }

    /// A problem document of a kind with members of its own.
    pub(super) fn problem_of(kind: Kind, status: u16, detail: &str, members: &[(&str, Value)]) -> Answer {
        let document = Some(problem::document_of(kind, status, detail, members));
        Answer { document, detail: Some(detail.into()), ..Answer::new(status) }
    }

    /// Adds a field.
    pub(super) fn field(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds a field that may be missing.
    pub(super) fn field_if(self, name: &'static str, value: Option<String>) -> Answer {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Writes it.
    pub(super) fn respond(self, asked: &Asked<'_>) -> Response {
        let response = Response::made(asked, self.status, &self.fields, self.document.as_deref());
        Response { reason: self.detail, ..response }
    }

    /// The answer to an error of the storage. `digests` are those that came with the request.
    pub(super) fn of_error(error: &UploadError, digests: &[(&'static str, Digest)]) -> Answer {
        let detail = error.to_string();
        let problem = |status| Answer::problem(status, &detail);
        match error {
            UploadError::NotFound => problem(404),
            UploadError::ParentMissing
            | UploadError::NotAFile
            | UploadError::TakenOver
            | UploadError::InUse
            | UploadError::Unproved
            | UploadError::Unknown => problem(409),
            UploadError::Busy => problem(409).field("Retry-After", "5"),
            UploadError::NameTooLong => problem(414),
            UploadError::Denied => problem(403),
            UploadError::ReadOnly => {
                // A file system also becomes read-only when its disk fails.
                tracing::warn!(%error, "an upload failed");
                problem(403)
            }
            UploadError::NoSpace(_) => problem(507),
            UploadError::TooLarge { .. } => problem(413),
            UploadError::TooManyOfMount => problem(429).field("Retry-After", "5"),
            UploadError::TooMany => problem(429).field("Retry-After", "1"),
            UploadError::WrongOffset { expected, provided } => {
                let members = [("expected-offset", json!(expected)), ("provided-offset", json!(provided))];
                Answer::problem_of(Kind::MismatchingOffset, 409, &detail, &members)
                    .field("Upload-Offset", expected.to_string())
            }
            UploadError::LengthConflict { .. } | UploadError::Incomplete { .. } => {
                Answer::problem_of(Kind::InconsistentLength, 400, &detail, &[])
            }
            UploadError::DigestConflict { .. } => problem(400),
            UploadError::Completed => Answer::problem_of(Kind::CompletedUpload, 410, &detail, &[]),
            UploadError::PreconditionFailed => problem(412),
            UploadError::DigestMismatch { computed, is_of_request, .. } => {
                let is_meant = |header| (header == CONTENT_DIGEST) == *is_of_request;
                let mismatched = digests
                    .iter()
                    .filter(|(header, digest)| is_meant(*header) && computed.contradict(digest))
                    .map(|(header, digest)| {
                        let algorithm = digest.algorithm().key();
                        json!({"algorithm": algorithm, "provided_digest": digest.to_string(), "header": header})
                    });
                let members = [("mismatched_digests", mismatched.collect())];
                Answer::problem_of(Kind::MismatchedDigest, 400, &detail, &members)
            }
            UploadError::Unlocked(Some(_)) => {
                tracing::warn!(%error, "an upload failed");
                problem(503)
            }
            UploadError::Exhausted(_) | UploadError::Unlocked(None) => problem(503).field("Retry-After", "1"),
            UploadError::Failed { .. } => {
                tracing::warn!(%error, "an upload failed");
                problem(500)
            }
        }
    }

    /// The answer where the disk threads didn't do what it takes.
    pub(super) fn of_disk_error(error: &DiskError) -> Answer {
        Answer::problem(503, &error.to_string()).field("Retry-After", error.retry_after())
    }

    /// The answer to a body that did not become whole; None where nobody is there to be answered.
    pub(super) fn of_body_error(error: &BodyError, digests: &[(&'static str, Digest)]) -> Option<Answer> {
        match error {
            BodyError::PeerGone | BodyError::Drained => None,
            BodyError::TimedOut | BodyError::TooSlow => Some(Answer::problem(408, &error.to_string())),
            BodyError::Evicted => Some(Answer::problem(429, &error.to_string()).field("Retry-After", "5")),
            BodyError::Disk(error) => Some(Answer::of_disk_error(error)),
            BodyError::Malformed(error) => Some(Answer::problem(400, &error.to_string())),
            BodyError::Upload(error) => Some(Answer::of_error(error, digests)),
        }
    }

    /// Says whether the upload that the answer speaks of is complete (draft section 4.1.2).
    pub(super) fn upload_complete(self, complete: bool) -> Answer {
        self.field("Upload-Complete", upload::complete(complete))
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, BodyError, UploadError};
    use crate::files::Shortage;

    #[test]
    fn each_error_of_the_storage_has_its_status() {
        for (error, status) in [
            (UploadError::NotFound, 404),
            (UploadError::ParentMissing, 409),
            (UploadError::InUse, 409),
            (UploadError::Busy, 409),
            (UploadError::NameTooLong, 414),
            (UploadError::Denied, 403),
            (UploadError::NoSpace(Shortage::Disk), 507),
            (UploadError::TooLarge { limit: 1 }, 413),
            (UploadError::TooManyOfMount, 429),
            (UploadError::TooMany, 429),
            (UploadError::WrongOffset { expected: 2, provided: 1 }, 409),
            (UploadError::LengthConflict { expected: 2, provided: 3 }, 400),
            (UploadError::Incomplete { received: 1, expected: 2 }, 400),
            (UploadError::Completed, 410),
            (UploadError::PreconditionFailed, 412),
        ] {
            assert_eq!(Answer::of_error(&error, &[]).status(), status, "{error}");
        }
    }

    #[test]
    fn a_broken_body_is_answered_where_somebody_is_there() {
        for (error, status) in [
            (BodyError::PeerGone, None),
            (BodyError::Drained, None),
            (BodyError::TimedOut, Some(408)),
            (BodyError::TooSlow, Some(408)),
            (BodyError::Evicted, Some(429)),
            (BodyError::Upload(UploadError::TooMany), Some(429)),
        ] {
            let answer = Answer::of_body_error(&error, &[]);
            assert_eq!(answer.map(|answer| answer.status()), status, "{error}");
        }
    }
}
