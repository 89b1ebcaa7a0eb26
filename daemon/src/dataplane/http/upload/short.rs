//! Takes short bodies. The worker receives them, since most of their bytes came with the head, and one trip to a disk
//! thread publishes them; none is needed where the file system lies in memory. A body that doesn't come at once goes
//! the way of long ones.

use std::sync::Arc;

use super::super::super::connection::Phase;
use super::super::super::disk::Lane;
use super::super::super::error::TransferError;
use super::answer::Answer;
use super::call::{BodyState, Call, Stop};
use super::conditions::Conditions;
use super::error::BodyError;
use super::trips;
use crate::files::digest::{Algorithms, Digests};
use crate::files::upload::{Admitted, AtOnce, Plan, Publication, Published, UploadError, Whole};
use crate::protocol::http1::request::Body;

/// Longest body that a worker receives: the copy takes some ten microseconds of it, as a window sent does, and so much
/// memory is there for each of `uploads_max`.
const SHORT_BYTES_MAX: u64 = 64 << 10;

/// Time that the rest of a short body may take, in milliseconds: some round trips. Whoever is slower gets a partial,
/// where everybody sees that it goes on, and its refusal before all of its body.
const LATE_MS: u64 = 100;

/// How much of a short body came at once.
pub(super) enum Arrived {
    /// All of it came.
    Whole(Admitted, Vec<u8>),
    /// A part came, which is in the input; the rest doesn't come at once.
    Late(Admitted),
    /// Nothing was done, since the body is too long or of unknown length, or its client waits for a 100.
    Long,
}

/// The length of a short body.
fn short_length(body: Body) -> Option<usize> {
    match body {
        Body::None => Some(0),
        Body::Length(length) if length <= SHORT_BYTES_MAX => usize::try_from(length).ok(),
        Body::Length(_) | Body::Chunked => None,
    }
}

impl Call<'_> {
    /// Receives the body of a plain PUT, if it is short and comes at once.
    pub(super) async fn receive_short(&mut self, plan: &Plan) -> Result<Arrived, Stop> {
        let Some(length) = short_length(self.request.body) else { return Ok(Arrived::Long) };
        if self.request.expects_continue && self.input.bytes().len() < length {
            return Ok(Arrived::Long);
        }
        // A mount that is known not to answer refuses at once.
        if let Some(error) = self.worker.disk.refusal(Lane::Write, self.owner()) {
            return Err(Answer::of_disk_error(&error).into());
        }
        let admitted = self.written.uploads.admit(plan, &self.limits());
        let mut admitted = admitted.map_err(|error| self.refusal(&error))?;
        let mut body = self.input.take();
        match self.receive_rest(&mut body, length).await {
            Ok(true) => {
                admitted.note_received(length as u64);
                // They count as dropped until the storage wants them.
                self.dropped_bytes = length as u64;
                self.body = BodyState::Whole;
                Ok(Arrived::Whole(admitted, body))
            }
            Ok(false) => {
                self.input.put_back(body);
                Ok(Arrived::Late(admitted))
            }
            Err(error) => {
                admitted.note_received(body.len() as u64);
                self.received_bytes = body.len() as u64;
                self.body = BodyState::Partly;
                Err(self.stop(&error))
            }
        }
    }

    /// Receives until `body` has `length` bytes; what is behind them stays in the input. False where that takes long.
    async fn receive_rest(&mut self, body: &mut Vec<u8>, length: usize) -> Result<bool, BodyError> {
        let until = self.worker.clock.deadline(LATE_MS);
        let mut received = body.len();
        let result = loop {
            if received >= length {
                break Ok(true);
            }
            // With room for one byte more a receive that ends the body isn't a full one, after which the socket would
            // be asked once more.
            body.resize(length + 1, 0);
            match self.connection.socket.try_receive(&mut body[received..]) {
                Ok(Some(0)) | Err(_) => break Err(BodyError::PeerGone),
                Ok(Some(count)) => received += count,
                Ok(None) => match self.connection.readable(Phase::Receiving, until).await {
                    Ok(()) => {}
                    Err(TransferError::TimedOut) => break Ok(false),
                    Err(error) => break Err(BodyError::of_wait(&error)),
                },
            }
        };
        body.truncate(received);
        if received > length {
            self.input.put_back(body.split_off(length));
        }
        result
    }

    /// Publishes a body that is all there.
    pub(super) async fn publish_short(
        &mut self,
        plan: Plan,
        (admitted, body): (Admitted, Vec<u8>),
        [digests, body_digests]: [Digests; 2],
        algorithms: Algorithms,
    ) -> Result<Answer, Stop> {
        // Other uploads get its place once it is answered, even where a mount that doesn't answer still holds its work.
        let _place_guard = admitted.place_guard();
        let (uploads, limits, recorded) =
            (Arc::clone(&self.written.uploads), self.limits(), self.wanted_digests());
        let conditions = Conditions::of(&self.request.preconditions);
        let known = uploads.known_destination(&plan.destination);
        let mut admitted = admitted;
        if conditions.are_none() {
            let (known, body_digests) = (known.as_ref(), &body_digests);
            let whole = Whole { plan: &plan, known, content: &body, body_digests, algorithms };
            let publication =
                Publication { digests: [digests, Digests::default()], recorded, ..Publication::default() };
            match uploads.publish_whole_now(admitted, &whole, &publication, &limits) {
                AtOnce::Done(result) => return self.conclude(result),
                AtOnce::NotNow(back) => admitted = back,
            }
        }
        let root = Arc::clone(self.written.uploads.root());
        let is_by_itself = limits.is_durable
            || known.is_none()
            || !conditions.are_none()
            || !trips::lead_to(self.worker, &root);
        let work = move || {
            if !conditions.hold(&root, &plan.destination) {
                // The admission ends in the same way where this is found before a long body is taken.
                admitted.settle();
                return Err(UploadError::PreconditionFailed);
            }
            let permits = |current: Option<&_>| conditions.permit(current);
            let publication = Publication {
                is_new: conditions.want_new(),
                precondition: if conditions.are_none() { None } else { Some(&permits) },
                digests: [digests, Digests::default()],
                recorded,
            };
            let (known, body_digests) = (known.as_ref(), &body_digests);
            let whole = Whole { plan: &plan, known, content: &body, body_digests, algorithms };
            uploads.publish_whole(admitted, &whole, &publication, &limits)
        };
        let published = if is_by_itself {
            // Files that are synced side by side wait for the same commits of a journal, instead of one for each; and
            // a mount that doesn't answer holds up no others.
            self.worker.disk.run_whole(Lane::Write, self.owner(), work).await
        } else {
            trips::publish(self.worker, self.connection.group(), work).await
        };
        let result = published.map_err(|error| Answer::of_disk_error(&error))?;
        self.conclude(result)
    }

    /// Answers a publication. The bytes of a body that was refused for anything but its content count as dropped, as
    /// those of one that is refused before it comes.
    fn conclude(&mut self, result: Result<Published, UploadError>) -> Result<Answer, Stop> {
        if matches!(result, Ok(_) | Err(UploadError::DigestMismatch { .. })) {
            self.received_bytes = std::mem::take(&mut self.dropped_bytes);
        }
        match result {
            Ok(published) => Ok(self.note_published(&published)),
            Err(error) => Err(self.refusal(&error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, SHORT_BYTES_MAX, short_length};

    #[test]
    fn only_a_body_that_says_that_it_is_short_is_taken_for_that() {
        assert_eq!(short_length(Body::None), Some(0));
        assert_eq!(short_length(Body::Length(SHORT_BYTES_MAX)), Some(64 << 10));
        assert_eq!(short_length(Body::Length(SHORT_BYTES_MAX + 1)), None);
        assert_eq!(short_length(Body::Chunked), None);
    }
}
