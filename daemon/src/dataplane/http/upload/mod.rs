//! Requests that write: PUT, POST, PATCH and DELETE, and what is asked of an upload that isn't complete.
//!
//! Each is checked (`permission`), gets a writer of the storage, has its body received by disk threads (`receive`)
//! and is answered once the storage says what became of it (`answer`). Every call of the storage is made on a disk
//! thread.

mod answer;
mod conditions;
mod direct;
mod error;
mod framing;
mod permission;
mod place;
mod publish;
mod receive;
mod resource;
mod short;
mod turn;
mod whole;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::account::Tally;
use super::super::connection::Phase;
use super::super::context::Worker;
use super::super::disk::{DiskError, Lane, Owner};
use super::super::engine::Transfer;
use super::super::error::{TransferError, space_refusal};
use super::super::input::Input;
use super::super::look_up::mount_of_directory;
use super::super::registry::Registered;
use super::body::{self, Drained};
use super::exchange::{After, Exchange, Sent};
use super::send;
use crate::files::MountId;
use crate::files::digest::{Algorithms, Digests};
use crate::files::upload::{MayRepeat, UploadError, UploadLimits, Uploads, Writer};
use crate::limits::TICK_MS;
use crate::protocol::digest::{self, Digest};
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Body, Request, Version, WriteFields};
use crate::protocol::http1::response::{CONTINUE, ResponseHead};
use crate::protocol::http1::trailers::Trailers;
use crate::protocol::name::UploadResource;
use crate::protocol::problem::Kind;
use crate::protocol::upload::{self, UploadStep};
use crate::sys;
use crate::telemetry::UploadOutcome;
use answer::{Answer, CONTENT_DIGEST};
use conditions::Conditions;
use error::BodyError;

/// Time that a client's acknowledgement of an answer may take that it would ask for again, in milliseconds: some round
/// trips, retransmissions included.
const DELIVERY_MS: u64 = 1_000;

/// How often the socket is asked for it, in milliseconds.
const ACKNOWLEDGED_MS: u64 = TICK_MS;

/// Whether a request is one for this module, uploads being on.
pub(super) fn concerns(request: &Request) -> bool {
    !request.method.is_read() || request.name.upload_resource().is_some()
}

/// How much of a request's body was received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Untouched,
    Partly,
    Whole,
}

/// Why a request stays without the answer that it would have had.
enum Stop {
    /// Answered with an error.
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
struct Call<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Registered,
    input: &'a mut Input,
    request: &'a Request,
    uploads: Arc<Uploads>,
    body: BodyState,
    /// Whether disk threads received of the connection.
    is_received_elsewhere: bool,
    received_bytes: u64,
    /// Bytes of a body that was all there before it was found that nobody wants it.
    dropped_bytes: u64,
    /// Bytes received that went past the page cache.
    direct_bytes: u64,
    /// What became of what it brought; None where that was nothing, or is nothing now.
    outcome: Option<UploadOutcome>,
    /// Bytes of the file that it published.
    published_bytes: u64,
    /// What came behind the body.
    trailers: Trailers,
    /// Who published it, and may not get the answer.
    may_repeat: Option<MayRepeat>,
    /// Where it writes, once that is known.
    mount: Option<MountId>,
}

/// Serves a request that [`concerns`] uploads.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Registered,
    request: Request,
    input: &mut Input,
    uploads: Arc<Uploads>,
) -> After {
    let started = Instant::now();
    let body = if request.body == Body::None { BodyState::Whole } else { BodyState::Untouched };
    let mut call = Call {
        worker,
        connection,
        input,
        request: &request,
        uploads,
        body,
        is_received_elsewhere: false,
        received_bytes: 0,
        dropped_bytes: 0,
        direct_bytes: 0,
        outcome: None,
        published_bytes: 0,
        trailers: Trailers::default(),
        may_repeat: None,
        mount: None,
    };
    let result = Box::pin(call.answer()).await;
    call.account(&result);
    let (state, received_bytes, dropped_bytes) = (call.body, call.received_bytes, call.dropped_bytes);
    let may_repeat = call.may_repeat.take();
    let uploads = Arc::clone(&call.uploads);
    if call.is_received_elsewhere {
        // Bytes behind the body may have come with it, and nobody was told of them.
        connection.socket.arrived(false);
    }
    let answer = match result {
        Ok(answer) | Err(Stop::Refused(answer)) => answer,
        Err(Stop::Ended(error)) => {
            let exchange = Exchange::since(worker, request, Drained::partly(0), started);
            let exchange = exchange.of_upload(received_bytes);
            return exchange.finish(worker, connection, input, Sent::nothing(error));
        }
    };
    let drained = match state {
        BodyState::Whole => Drained { bytes: dropped_bytes, ..Drained::NOTHING_LEFT },
        // What was received was wanted.
        BodyState::Partly => Drained::partly(0),
        // The answer is due whether or not the rest of the body comes.
        BodyState::Untouched => body::drain(worker, connection, input, &request)
            .await
            .unwrap_or_else(|cut| Drained::partly(cut.bytes)),
    };
    let exchange = Exchange::since(worker, request, drained, started).of_upload(received_bytes);
    let mut response = answer.respond(&exchange.asked(worker));
    let sent = Sent::of(&mut response, Tally::default(), Ok(()));
    let (tally, result) = send::send(worker, connection, response).await;
    if let Some(client) = may_repeat
        && result.is_ok()
        && Box::pin(is_delivered(worker, connection)).await
    {
        uploads.forget_repeat(client);
    }
    exchange.finish(worker, connection, input, sent.ended((tally, result)))
}

/// Whether the peer acknowledges the answer in time. A client that waits for it sends nothing before.
async fn is_delivered(worker: &Worker, connection: &Registered) -> bool {
    let end = worker.clock.deadline(DELIVERY_MS);
    while sys::unacknowledged_bytes(&connection.socket) > 0 {
        if worker.clock.ticks() >= end.tick {
            return false;
        }
        match connection.readable(Phase::Receiving, worker.clock.deadline(ACKNOWLEDGED_MS)).await {
            Err(TransferError::TimedOut) => {}
            // It goes on, or ends the connection: what it has by now is all.
            Ok(()) => return sys::unacknowledged_bytes(&connection.socket) == 0,
            Err(_) => return false,
        }
    }
    true
}

impl Call<'_> {
    async fn answer(&mut self) -> Result<Answer, Stop> {
        permission::check(self.worker, self.connection, self.fields()?)?;
        if let Some(resource) = self.request.name.upload_resource() {
            return match self.request.method {
                Method::Get | Method::Head => self.status(resource).await,
                Method::Delete => self.cancel(resource).await,
                _ => {
                    let _place = self.take_place().await?;
                    Box::pin(self.append(resource)).await
                }
            };
        }
        if self.request.name.is_reserved() {
            return Err(Answer::of_error(&UploadError::NotFound, &[]).into());
        }
        if self.request.method == Method::Delete {
            self.find_mount().await?;
            return self.delete().await;
        }
        self.check_content_encoding()?;
        let step = self.step()?;
        let _place = self.take_place().await?;
        self.find_mount().await?;
        match step {
            UploadStep::Create { complete, length } => Box::pin(self.create(complete, length)).await,
            UploadStep::Neither if self.request.method == Method::Put => self.put().await,
            UploadStep::Neither | UploadStep::Append { .. } => {
                let detail = "POST begins an upload in several requests and needs Upload-Complete: ?0 or ?1; a whole \
                              file takes PUT (curl -T FILE URL)";
                Err(Answer::problem(400, detail).into())
            }
        }
    }

    /// Counts what the request brought. A request that brings nothing, to ask or to remove, is none of the uploads.
    fn account(&self, result: &Result<Answer, Stop>) {
        let without = match result {
            _ if self.request.method.is_read() || self.request.method == Method::Delete => None,
            Ok(_) => None,
            Err(Stop::Refused(answer)) if answer.status() < 500 => Some(UploadOutcome::Refused),
            Err(Stop::Ended(_)) => Some(UploadOutcome::BrokenOff),
            Err(Stop::Refused(_)) => Some(UploadOutcome::Failed),
        };
        if let Some(outcome) = self.outcome.or(without) {
            self.worker.counters.uploads.add(outcome, 1);
        }
        self.worker.counters.bytes_uploaded.add(self.received_bytes);
        self.worker.counters.bytes_uploaded_direct.add(self.direct_bytes);
    }

    /// Removes a file.
    async fn delete(&mut self) -> Result<Answer, Stop> {
        let (uploads, limits, name) = (Arc::clone(&self.uploads), self.limits(), self.request.name.clone());
        let conditions = Conditions::of(&self.request.preconditions);
        self.on_disk_at_first(move || {
            let permits = |current: Option<&_>| conditions.permit(current);
            uploads.delete(&name, (!conditions.are_none()).then_some(&permits), &limits)
        })
        .await?;
        Ok(Answer::new(204))
    }

    fn fields(&self) -> Result<&WriteFields, Stop> {
        self.request.write.as_deref().ok_or_else(|| Answer::problem(400, "the request writes nothing").into())
    }

    /// Coded bytes would be served as if they were the file.
    fn check_content_encoding(&self) -> Result<(), Stop> {
        let is_coded = self.fields()?.content_encoding.as_deref().is_some_and(|coding| {
            !coding.trim_ascii().is_empty() && !coding.trim_ascii().eq_ignore_ascii_case(b"identity")
        });
        if is_coded {
            return Err(Answer::problem(415, "bodies with a Content-Encoding are not taken").into());
        }
        Ok(())
    }

    /// What the request asks of a resumable upload.
    fn step(&self) -> Result<UploadStep, Stop> {
        UploadStep::of(self.request).map_err(|error| {
            let answer = Answer::problem_of(error.kind(), error.status(), &error.to_string(), &[]);
            let is_part = error == upload::UploadRequestError::MediaType;
            let accepted = is_part.then(|| upload::MEDIA_TYPE.to_owned());
            let answer = answer.field_if("Allow", error.allow().map(str::to_owned));
            self.limited(answer.field_if("Accept-Patch", accepted)).into()
        })
    }

    fn limits(&self) -> UploadLimits {
        let limits = UploadLimits::of(&self.worker.live().settings);
        let uploads_max = limits.uploads_max.min(self.worker.descriptors().uploads_max);
        UploadLimits { uploads_max, ..limits }
    }

    /// `Upload-Limit` of this daemon.
    fn upload_limit(&self) -> String {
        let settings = &self.worker.live().settings;
        upload::limit(settings.upload_bytes_max, settings.partial_ttl.0)
    }

    /// A 413 says what would have been taken (draft section 4.1.4).
    fn limited(&self, answer: Answer) -> Answer {
        if answer.status() == 413 { answer.field("Upload-Limit", self.upload_limit()) } else { answer }
    }

    /// The digests of the whole file that the request names.
    fn repr_digests(&self) -> Result<Vec<Digest>, Stop> {
        let fields = self.fields()?;
        fields.repr_digest.clone().map_err(|error| malformed_digest(&error).into())
    }

    /// The digests of the body that the request names.
    fn content_digests(&self) -> Result<Vec<Digest>, Stop> {
        let fields = self.fields()?;
        fields.content_digest.clone().map_err(|error| malformed_digest(&error).into())
    }

    /// What the request sent of digests, to be named where one doesn't fit.
    fn sent_digests(&self) -> Vec<(&'static str, Digest)> {
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
    fn wanted_digests(&self) -> Algorithms {
        let wanted = self.request.want_repr_digest.as_deref().map(digest::wanted).unwrap_or_default();
        let wanted = wanted.first().map_or(Algorithms::default(), |algorithm| Algorithms::of(&[*algorithm]));
        let tagged = self.uploads.root().algorithms();
        wanted.union(tagged)
    }

    /// Finds out where it writes, so that a mount to which links lead holds up nobody's uploads to another.
    async fn find_mount(&mut self) -> Result<(), Stop> {
        let (root, group) = (self.uploads.root(), self.connection.group());
        let found = mount_of_directory(self.worker, root, &self.request.name, group).await;
        self.mount = Some(found.map_err(|error| Answer::of_disk_error(&error))?);
        Ok(())
    }

    /// Whose share of the disk threads it takes.
    fn owner(&self) -> Owner {
        let of_name = || self.uploads.root().mounts().of_name(&self.request.name);
        Owner { mount: self.mount.unwrap_or_else(of_name), group: self.connection.group() }
    }

    /// Runs a call of the storage on a disk thread, or turns it away: for what has brought nothing yet.
    async fn on_disk_at_first<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, UploadError> + Send + 'static,
    ) -> Result<R, Stop> {
        let done = self.worker.disk.run_or_refuse(Lane::Write, self.owner(), work).await;
        let result = done.map_err(|error| Answer::of_disk_error(&error))?;
        result.map_err(|error| self.refusal(&error).into())
    }

    /// Runs a call of the storage on a disk thread.
    async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, UploadError> + Send + 'static,
    ) -> Result<R, Stop> {
        let done = self.worker.disk.run(Lane::Write, self.owner(), work).await;
        let result = done.map_err(|error| Answer::of_disk_error(&error))?;
        result.map_err(|error| self.refusal(&error).into())
    }

    fn refusal(&self, error: &UploadError) -> Answer {
        if let UploadError::NoSpace(shortage) = error {
            self.worker.counters.space_refusals.add(space_refusal(*shortage), 1);
        }
        self.limited(Answer::of_error(error, &self.sent_digests()))
    }

    /// Receives the body into `writer`, which comes back with it. A client that waits for a 100 gets it first.
    async fn receive(&mut self, writer: Writer) -> Result<Writer, Stop> {
        if self.body == BodyState::Whole {
            return Ok(writer);
        }
        if self.request.expects_continue
            && self.input.is_empty()
            && let Err(stop) = self.send_interim(CONTINUE).await
        {
            // Boxed, here and below: what is rare must not take up room in every upload.
            Box::pin(self.put_aside(Some(writer), &BodyError::PeerGone)).await;
            return Err(stop);
        }
        self.body = BodyState::Partly;
        self.is_received_elsewhere = true;
        // Boxed: the largest of what a request holds.
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
                Box::pin(self.put_aside(writer, &error)).await;
                Err(self.stop(&error))
            }
        }
    }

    fn stop(&self, error: &BodyError) -> Stop {
        if let BodyError::Upload(error) = error {
            return self.refusal(error).into();
        }
        match (Answer::of_body_error(error, &self.sent_digests()), error) {
            (Some(answer), _) => Stop::Refused(self.limited(answer)),
            (None, BodyError::Drained) => Stop::Ended(TransferError::Drained),
            (None, _) => Stop::Ended(TransferError::PeerGone),
        }
    }

    /// Ends a writer whose body broke off: what can be gone on with stays, and what contradicts itself doesn't. An
    /// upload with a name of its own outlives broken chunks, but no byte past its length (draft section 4.1.3).
    async fn put_aside(&mut self, writer: Option<Writer>, error: &BodyError) {
        let Some(writer) = writer else { return };
        let is_given_up = match error {
            BodyError::Upload(UploadError::LengthConflict { .. }) => true,
            BodyError::Malformed(_) => !self.is_resource(),
            _ => false,
        };
        let ended = self.worker.disk.run(Lane::Write, self.owner(), move || {
            if is_given_up {
                writer.discard();
                return Ok(false);
            }
            writer.keep().map(|kept| kept.is_resumable)
        });
        // Refused only where the daemon ends.
        let Ok(kept) = ended.await else { return };
        match kept {
            Ok(true) => self.outcome = Some(UploadOutcome::Kept),
            // Over by then, whoever ended it.
            Ok(false) | Err(UploadError::TakenOver) => {}
            Err(error) => tracing::warn!(%error, "an upload that was cut short could not be kept"),
        }
    }

    /// Whether the request creates or continues an upload of the draft's.
    fn is_resource(&self) -> bool {
        !matches!(UploadStep::of(self.request), Ok(UploadStep::Neither))
    }

    /// Announces the upload's own name to a client that understands it, before its body is read.
    async fn announce(&mut self, resource: &UploadResource) -> Result<(), Stop> {
        let Some(version) = self.fields()?.upload.announced() else { return Ok(()) };
        // A client of HTTP/1.0 knows no interim answers (RFC 9110 15.2).
        if self.request.version == Version::Http10 {
            return Ok(());
        }
        let mut out = Vec::new();
        ResponseHead::interim(&mut out, 104)
            .field("Location", &resource.path())
            .field("Upload-Limit", &self.upload_limit())
            .field_number("Upload-Draft-Interop-Version", version)
            .finish_interim();
        self.send_interim(&out).await
    }

    async fn send_interim(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut transfer = Transfer::new(self.worker, self.connection);
        transfer.send_all(bytes, false).await.map_err(Stop::Ended)
    }
}

fn malformed_digest(error: &digest::DigestError) -> Answer {
    Answer::problem_of(Kind::InvalidDigest, 400, &error.to_string(), &[])
}
