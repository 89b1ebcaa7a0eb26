//! A request that writes, while it is served: its fields, and its calls of the storage.

use std::rc::Rc;

use super::super::super::context::Worker;
use super::super::super::disk::{DiskError, Lane, Owner};
use super::super::super::engine::Transfer;
use super::super::super::error::{TransferError, space_refusal};
use super::super::super::input::Input;
use super::super::super::look_up::mount_of_directory;
use super::super::super::registry::Registered;
use super::answer::{Answer, CONTENT_DIGEST};
use super::error::BodyError;
use super::receive;
use super::written::WrittenShare;
use crate::files::MountId;
use crate::files::digest::Algorithms;
use crate::files::upload::{MayRepeat, Published, UploadError, UploadLimits, Writer};
use crate::protocol::digest::{self, Digest};
use crate::protocol::http1::request::{Body, Request, Version, WriteFields};
use crate::protocol::http1::response::{CONTINUE, ResponseHead};
use crate::protocol::http1::trailers::Trailers;
use crate::protocol::name::UploadResource;
use crate::protocol::problem::Kind;
use crate::protocol::upload::{self, UploadStep};
use crate::telemetry::{Limit, UploadOutcome};

/// How much of a request's body was received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyState {
    Untouched,
    Partly,
    Whole,
}

/// Why a request that writes isn't carried out.
pub(super) enum Stop {
    /// It is answered with this error.
    Refused(Answer),
    /// Nobody is there to be answered, or the daemon stops.
    Ended(TransferError),
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Stop {
        Stop::Refused(answer)
    }
}

/// A request that is being served.
pub(super) struct Call<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) connection: &'a Registered,
    pub(super) input: &'a mut Input,
    pub(super) request: &'a Request,
    /// Where it writes to.
    pub(super) written: Box<WrittenShare>,
    pub(super) body: BodyState,
    /// Whether disk threads have received bytes of the connection.
    pub(super) is_received_elsewhere: bool,
    pub(super) received_bytes: u64,
    /// Bytes of a body that was all there before it was found that nobody wants it.
    pub(super) dropped_bytes: u64,
    /// Bytes received that went past the page cache.
    pub(super) direct_bytes: u64,
    /// How the upload ended; None where it brought nothing, or nothing that counts any more.
    pub(super) outcome: Option<UploadOutcome>,
    /// Bytes of the file that it published.
    pub(super) published_bytes: u64,
    /// The trailers that came behind the body.
    pub(super) trailers: Trailers,
    /// The client that published it and may not get the answer, so that it may ask again.
    pub(super) may_repeat: Option<MayRepeat>,
    /// Where it writes, once that is known.
    pub(super) mount: Option<MountId>,
}

impl Call<'_> {
    /// Its fields that are for writes.
    pub(super) fn fields(&self) -> Result<&WriteFields, Stop> {
        self.request.write.as_deref().ok_or_else(|| Answer::problem(400, "the request writes nothing").into())
    }

    /// Refuses coded bodies, since their bytes would be served as if they were the file.
    pub(super) fn check_content_encoding(&self) -> Result<(), Stop> {
        let is_coded = self.fields()?.content_encoding.as_deref().is_some_and(|coding| {
            !coding.trim_ascii().is_empty() && !coding.trim_ascii().eq_ignore_ascii_case(b"identity")
        });
        if is_coded {
            return Err(Answer::problem(415, "bodies with a Content-Encoding are not taken").into());
        }
        Ok(())
    }

    /// The step of a resumable upload that the request asks for.
    pub(super) fn step(&self) -> Result<UploadStep, Stop> {
        UploadStep::of(self.request).map_err(|error| {
            let answer = Answer::problem_of(error.kind(), error.status(), &error.to_string(), &[]);
            let is_part = error == upload::UploadRequestError::MediaType;
            let accepted = is_part.then(|| upload::MEDIA_TYPE.to_owned());
            let answer = answer.field_if("Allow", error.allow().map(str::to_owned));
            self.limited(answer.field_if("Accept-Patch", accepted)).into()
        })
    }

    /// The limits of uploads, as far as there are descriptors for them.
    pub(super) fn limits(&self) -> UploadLimits {
        let limits = UploadLimits::of(&self.written.share.share.settings, &self.worker.live().settings);
        let uploads_max = limits.uploads_max.min(self.worker.descriptors().uploads_max);
        UploadLimits { uploads_max, ..limits }
    }

    /// `Upload-Limit` of the share.
    pub(super) fn upload_limit(&self) -> String {
        let settings = &self.written.share.share.settings;
        upload::limit(settings.upload_bytes_max, settings.partial_ttl.0)
    }

    /// A 413 says what would have been taken (draft section 4.1.4).
    fn limited(&self, answer: Answer) -> Answer {
        if answer.status() == 413 { answer.field("Upload-Limit", self.upload_limit()) } else { answer }
    }

    /// The digests of the whole file that the request names.
    pub(super) fn repr_digests(&self) -> Result<Vec<Digest>, Stop> {
        let fields = self.fields()?;
        fields.repr_digest.clone().map_err(|error| malformed_digest(&error).into())
    }

    /// The digests of the body that the request names.
    pub(super) fn content_digests(&self) -> Result<Vec<Digest>, Stop> {
        let fields = self.fields()?;
        fields.content_digest.clone().map_err(|error| malformed_digest(&error).into())
    }

    /// All digests that the request sent, to be named where one doesn't fit.
    pub(super) fn sent_digests(&self) -> Vec<(&'static str, Digest)> {
        let Some(fields) = self.request.write.as_deref() else { return Vec::new() };
        let of = |header, digests: &Result<Vec<Digest>, _>| {
            digests.iter().flatten().map(move |digest| (header, *digest)).collect::<Vec<_>>()
        };
        [
            of("Repr-Digest", &fields.repr_digest),
            of(CONTENT_DIGEST, &fields.content_digest),
            of("Repr-Digest", &self.trailers.repr_digest),
            of(CONTENT_DIGEST, &self.trailers.content_digest),
        ]
        .concat()
    }

    /// The digests that the client wants to hear of, and those that entity tags follow from.
    pub(super) fn wanted_digests(&self) -> Algorithms {
        let wanted = self.request.want_repr_digest().map(digest::wanted).unwrap_or_default();
        let wanted = wanted.first().map_or(Algorithms::default(), |algorithm| Algorithms::of(&[*algorithm]));
        let tagged = self.written.uploads.root().algorithms();
        wanted.union(tagged)
    }

    /// Finds out where it writes, so that a mount to which links lead holds up nobody's uploads to another.
    pub(super) async fn find_mount(&mut self) -> Result<(), Stop> {
        let (root, group) = (self.written.uploads.root(), self.connection.group());
        let found = mount_of_directory(self.worker, root, &self.written.name, group).await;
        self.mount = Some(found.map_err(|error| Answer::of_disk_error(&error))?);
        Ok(())
    }

    /// Whose share of the disk threads it takes.
    pub(super) fn owner(&self) -> Owner {
        let of_name = || self.written.uploads.root().mounts().of_name(&self.written.name);
        Owner { mount: self.mount.unwrap_or_else(of_name), group: self.connection.group() }
    }

    /// Runs a call of the storage on a disk thread, or refuses it where that is busy: for requests that have brought
    /// nothing yet.
    pub(super) async fn on_disk_at_first<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, UploadError> + Send + 'static,
    ) -> Result<R, Stop> {
        let done = self.worker.disk.run_or_refuse(Lane::Write, self.owner(), work).await;
        let result = done.map_err(|error| Answer::of_disk_error(&error))?;
        result.map_err(|error| self.refusal(&error).into())
    }

    /// Runs a call of the storage on a disk thread.
    pub(super) async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, UploadError> + Send + 'static,
    ) -> Result<R, Stop> {
        let done = self.worker.disk.run(Lane::Write, self.owner(), work).await;
        let result = done.map_err(|error| Answer::of_disk_error(&error))?;
        result.map_err(|error| self.refusal(&error).into())
    }

    /// The answer where the storage refused something.
    pub(super) fn refusal(&self, error: &UploadError) -> Answer {
        let counters = &self.worker.counters;
        match error {
            UploadError::NoSpace(shortage) => counters.space_refusals.add(space_refusal(*shortage), 1),
            UploadError::TooManyOfMount => counters.limited.add(Limit::MountUploads, 1),
            _ => {}
        }
        self.limited(Answer::of_error(error, &self.sent_digests()))
    }

    /// Receives the body into `writer`, which comes back with it. A client that waits for a 100 gets it first.
    pub(super) async fn receive(&mut self, writer: Writer) -> Result<Writer, Stop> {
        if self.body == BodyState::Whole {
            return Ok(writer);
        }
        if self.request.expects_continue
            && self.input.is_empty()
            && let Err(stop) = self.send_interim(CONTINUE).await
        {
            // Boxed, here and below, so that a rare case takes up no room in every upload.
            Box::pin(self.suspend(Some(writer), &BodyError::PeerGone)).await;
            return Err(stop);
        }
        self.body = BodyState::Partly;
        self.is_received_elsewhere = true;
        // Boxed, since it is the largest part of a request's state.
        let (owner, body) = (self.owner(), self.request.body);
        let received =
            Box::pin(receive::receive(self.worker, self.connection, self.input, body, writer, owner)).await;
        self.received_bytes = received.bytes;
        self.trailers = received.trailers;
        self.direct_bytes = received.writer.as_ref().map_or(0, Writer::direct_bytes);
        match (received.result, received.writer) {
            (Ok(()), Some(writer)) => {
                self.body = BodyState::Whole;
                Ok(writer)
            }
            (Ok(()), None) => Err(self.stop(&BodyError::Disk(DiskError::Busy(Lane::Write)))),
            (Err(error), writer) => {
                Box::pin(self.suspend(writer, &error)).await;
                Err(self.stop(&error))
            }
        }
    }

    /// How a request ends whose body did not become whole.
    pub(super) fn stop(&self, error: &BodyError) -> Stop {
        if let BodyError::Upload(error) = error {
            return self.refusal(error).into();
        }
        match (Answer::of_body_error(error, &self.sent_digests()), error) {
            (Some(answer), _) => Stop::Refused(self.limited(answer)),
            (None, BodyError::Drained) => Stop::Ended(TransferError::Drained),
            (None, _) => Stop::Ended(TransferError::PeerGone),
        }
    }

    /// Ends a writer whose body broke off. A partial that can be gone on with stays, and one that contradicts itself
    /// doesn't: an upload with a name of its own outlives broken chunks, but no byte past its length (draft section
    /// 4.1.3).
    pub(super) async fn suspend(&mut self, writer: Option<Writer>, error: &BodyError) {
        let Some(writer) = writer else { return };
        let is_given_up = contradicts_itself(error, self.is_resource());
        let ended = self.worker.disk.run(Lane::Write, self.owner(), move || {
            if is_given_up {
                writer.discard();
                return Ok(false);
            }
            writer.keep().map(|kept| kept.is_resumable)
        });
        // The call is refused only where the daemon ends.
        let Ok(kept) = ended.await else { return };
        match kept {
            Ok(true) => self.outcome = Some(UploadOutcome::Kept),
            // The upload was over by then, whoever ended it.
            Ok(false) | Err(UploadError::TakenOver) => {}
            Err(error) => tracing::warn!(%error, "an upload that was cut short could not be kept"),
        }
    }

    /// Whether the request creates or continues an upload of the draft's.
    fn is_resource(&self) -> bool {
        !matches!(UploadStep::of(self.request), Ok(UploadStep::Neither))
    }

    /// Announces the upload's own name to a client that understands it, before its body is read.
    pub(super) async fn announce(&mut self, resource: &UploadResource) -> Result<(), Stop> {
        let Some(version) = self.fields()?.upload.announced() else { return Ok(()) };
        // A client of HTTP/1.0 knows no interim answers (RFC 9110 15.2).
        if self.request.version == Version::Http10 {
            return Ok(());
        }
        let mut out = Vec::new();
        ResponseHead::interim(&mut out, 104)
            .field("Location", &self.location(resource))
            .field("Upload-Limit", &self.upload_limit())
            .field_number("Upload-Draft-Interop-Version", version)
            .finish_interim();
        self.send_interim(&out).await
    }

    /// The path of an upload, as clients see it.
    pub(super) fn location(&self, resource: &UploadResource) -> String {
        resource.path_below(self.written.share.share.path.as_str())
    }

    async fn send_interim(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut transfer = Transfer::new(self.worker, self.connection);
        transfer.send_all(bytes, false).await.map_err(Stop::Ended)
    }

    /// The body's length, where its head says it.
    pub(super) fn body_bytes(&self) -> Option<u64> {
        match self.request.body {
            Body::None => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked => None,
        }
    }

    /// The answer to an upload that was published.
    pub(super) fn note_published(&mut self, published: &Published) -> Answer {
        self.outcome = Some(UploadOutcome::Published);
        self.published_bytes = published.size;
        let status = if published.created { 201 } else { 204 };
        Answer::new(status)
            .field("ETag", published.etag.clone())
            .field_if("Repr-Digest", digest::format(&published.digests.to_fields()))
    }
}

/// Whether a body that broke off with this error leaves nothing to go on with.
fn contradicts_itself(error: &BodyError, is_resource: bool) -> bool {
    match error {
        BodyError::Upload(UploadError::LengthConflict { .. }) => true,
        BodyError::Malformed(_) => !is_resource,
        _ => false,
    }
}

/// The answer to a digest that can't be read.
pub(super) fn malformed_digest(error: &digest::DigestError) -> Answer {
    Answer::problem_of(Kind::InvalidDigest, 400, &error.to_string(), &[])
}

#[cfg(test)]
mod tests {
    use super::{BodyError, UploadError, contradicts_itself};
    use crate::protocol::http1::chunked::ChunkedDecoder;

    #[test]
    fn what_contradicts_itself_is_given_up_and_the_rest_is_kept() {
        let too_long = UploadError::LengthConflict { expected: 1, provided: 2 };
        assert!(contradicts_itself(&BodyError::Upload(too_long), true));
        let malformed: BodyError = ChunkedDecoder::new().skip(b"no chunk").unwrap_err().into();
        assert!(contradicts_itself(&malformed, false));
        assert!(!contradicts_itself(&malformed, true), "it has a name of its own to be gone on with");
        for error in [BodyError::PeerGone, BodyError::TimedOut, BodyError::Drained] {
            assert!(!contradicts_itself(&error, false), "{error}");
        }
    }
}
