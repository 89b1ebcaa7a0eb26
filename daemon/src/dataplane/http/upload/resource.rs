//! Uploads in several requests, each with a name of its own (draft-ietf-httpbis-resumable-upload; its rules stand in
//! [`upload`](crate::protocol::upload)).

use std::sync::Arc;

use super::answer::Answer;
use super::call::{Call, Stop};
use super::conditions::Conditions;
use super::error::BodyError;
use crate::files::digest::Digests;
use crate::files::upload::{Plan, UploadError, Writer};
use crate::protocol::http1::request::Body;
use crate::protocol::name::UploadResource;
use crate::protocol::problem::Kind;
use crate::protocol::upload::UploadStep;

impl Call<'_> {
    /// Begins an upload (draft section 4.2). `complete`: this body is all of it.
    pub(super) async fn create(&mut self, complete: bool, length: Option<u64>) -> Result<Answer, Stop> {
        self.check_end(0)?;
        let content = Digests::from_fields(&self.content_digests()?);
        let conditions = Conditions::of(&self.request.preconditions);
        let plan = Plan {
            destination: self.written.name.clone(),
            mount: self.owner().mount,
            length,
            digests: Digests::from_fields(&self.repr_digests()?),
            note: conditions.note(),
        };
        let (uploads, limits) = (Arc::clone(&self.written.uploads), self.limits());
        let root = Arc::clone(self.written.uploads.root());
        let algorithms = content.algorithms().union(self.wanted_digests());
        let begun = self.on_disk_at_first(move || {
            if !conditions.hold(&root, &plan.destination) {
                return Err(UploadError::PreconditionFailed);
            }
            let mut writer = uploads.create(&plan, &limits)?;
            writer.hash(algorithms);
            Ok(writer)
        });
        let writer = begun.await?;
        let resource = writer.resource();
        if let Err(stop) = self.announce(&resource).await {
            self.suspend(Some(writer), &BodyError::PeerGone).await;
            return Err(stop);
        }
        let answer = Box::pin(self.take(writer, content, complete)).await?;
        match answer {
            Taken::Published(answer) => {
                // A client that meant to go on wants to know where, though nothing is left to send.
                let location = (!complete).then(|| self.location(&resource));
                let answer = self.completed(answer).field_if("Location", location);
                Ok(answer.field("Upload-Limit", self.upload_limit()))
            }
            Taken::Kept(offset) => Ok(Answer::new(201)
                .field("Location", self.location(&resource))
                .field("Upload-Limit", self.upload_limit())
                .field("Upload-Offset", offset.to_string())
                .upload_complete(false)),
        }
    }

    /// Goes on with an upload (draft section 4.4).
    pub(super) async fn append(&mut self, resource: UploadResource) -> Result<Answer, Stop> {
        let UploadStep::Append { offset, complete, length } = self.step()? else {
            return Err(Answer::of_error(&UploadError::NotFound, &[]).into());
        };
        self.check_content_encoding()?;
        let content = Digests::from_fields(&self.content_digests()?);
        let digests = Digests::from_fields(&self.repr_digests()?);
        let (uploads, limits) = (Arc::clone(&self.written.uploads), self.limits());
        let algorithms = content.algorithms();
        let resumed = self.on_disk_at_first(move || {
            let mut writer = uploads.resume(&resource, offset, length, &limits)?;
            writer.promise(&digests)?;
            writer.hash(algorithms);
            Ok(writer)
        });
        let writer = resumed.await.map_err(|stop| self.of_resumed(stop))?;
        if let Err(stop) = self.check_end(offset) {
            self.keep(writer).await?;
            // This request brought nothing of it.
            self.outcome = None;
            return Err(marked(stop, false));
        }
        match Box::pin(self.take(writer, content, complete)).await? {
            Taken::Published(answer) => Ok(self.completed(answer)),
            Taken::Kept(offset) => {
                Ok(Answer::new(204).field("Upload-Offset", offset.to_string()).upload_complete(false))
            }
        }
    }

    /// The answer to whoever completed the upload.
    fn completed(&self, answer: Answer) -> Answer {
        answer.field("Upload-Offset", self.published_bytes.to_string()).upload_complete(true)
    }

    /// Receives the body, checks it, and publishes the upload if this was the last of it, or all that it was to have:
    /// a client that cuts a file of known length into chunks may learn too late that one was the last.
    async fn take(&mut self, writer: Writer, content: Digests, complete: bool) -> Result<Taken, Stop> {
        let result = self.receive(writer).await;
        let writer = result.map_err(|stop| marked(stop, false))?;
        let writer = self.check_content(writer, content).await.map_err(|stop| marked(stop, false))?;
        if !complete && writer.length() != Some(writer.offset()) {
            return self.keep(writer).await.map(Taken::Kept).map_err(|stop| marked(stop, false));
        }
        if let Some(expected) = writer.length().filter(|length| *length != writer.offset()) {
            let error = UploadError::Incomplete { received: writer.offset(), expected };
            self.keep(writer).await?;
            return Err(marked(self.refusal(&error).into(), false));
        }
        let published = self.publish(writer, Digests::default()).await;
        published.map(Taken::Published).map_err(|stop| marked(stop, true))
    }

    /// Whether a body from `offset` on ends where an upload may: its head tells that before the body is taken, even
    /// where it isn't the last.
    fn check_end(&self, offset: u64) -> Result<(), Stop> {
        let limit = self.limits().upload_bytes_max;
        if offset.saturating_add(self.body_bytes().unwrap_or(0)) > limit {
            return Err(self.refusal(&UploadError::TooLarge { limit }).into());
        }
        Ok(())
    }

    /// A refusal to go on with an upload. Of one that is complete already the bytes are too many, and without any the
    /// answer says what is known; of one that isn't there it can't say whether it is complete.
    fn of_resumed(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Refused(answer) if answer.status() == 404 => Stop::Refused(answer),
            Stop::Refused(answer) if answer.status() == 410 && self.request.body == Body::None => {
                Stop::Refused(answer.upload_complete(true))
            }
            Stop::Refused(answer) if answer.status() == 410 => {
                let detail = "the upload is complete: there is no room for more";
                let answer = Answer::problem_of(Kind::InconsistentLength, 400, detail, &[]);
                Stop::Refused(answer.upload_complete(true))
            }
            stop => marked(stop, false),
        }
    }

    /// Tells how far an upload came (draft section 4.3), and ends the request that writes to it (4.6): whoever asks has
    /// lost that one, and goes on from here.
    pub(super) async fn status(&mut self, resource: UploadResource) -> Result<Answer, Stop> {
        let (uploads, limits) = (Arc::clone(&self.written.uploads), self.limits());
        let status = self.on_disk_at_first(move || uploads.interrupt(&resource, &limits)).await?;
        Ok(Answer::new(204)
            .field("Upload-Offset", status.offset.to_string())
            .upload_complete(status.complete)
            .field_if("Upload-Length", status.length.map(|length| length.to_string()))
            .field("Upload-Limit", self.upload_limit())
            .field("Cache-Control", "no-store"))
    }

    /// Gives an upload up (draft section 4.5).
    pub(super) async fn cancel(&mut self, resource: UploadResource) -> Result<Answer, Stop> {
        let uploads = Arc::clone(&self.written.uploads);
        self.on_disk_at_first(move || uploads.remove(&resource)).await?;
        Ok(Answer::new(204))
    }
}

/// How an upload stands after a body.
enum Taken {
    /// It completed the upload; this is the answer to that.
    Published(Answer),
    /// It is kept, and has so many bytes by now.
    Kept(u64),
}

/// Says in a refusal whether the upload is complete, whatever came of it, or may be gone on with (draft section 4.1.2).
fn marked(stop: Stop, complete: bool) -> Stop {
    match stop {
        Stop::Refused(answer) => Stop::Refused(answer.upload_complete(complete)),
        ended => ended,
    }
}
