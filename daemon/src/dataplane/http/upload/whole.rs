//! PUT of a file: all of it, or a part that says where it belongs (Content-Range).

use std::sync::Arc;

use super::answer::Answer;
use super::conditions::Conditions;
use super::{Algorithms, Call, Digests, Stop};
use crate::files::upload::{Plan, Publication, Published, UploadError, Writer};
use crate::protocol::content_range::ContentRange;
use crate::protocol::digest;
use crate::protocol::http1::request::Body;
use crate::telemetry::UploadOutcome;

impl Call<'_> {
    /// Takes a file, or a part of one.
    pub(super) async fn put(&mut self) -> Result<Answer, Stop> {
        let fields = self.fields()?;
        if !fields.is_framed {
            let detail = "a PUT needs Content-Length or Transfer-Encoding: chunked";
            return Err(Answer::problem(411, detail).into());
        }
        match fields.content_range {
            Ok(None) => self.put_whole().await,
            Ok(Some(range)) => self.put_part(range).await,
            Err(error) => Err(Answer::problem(400, &error.to_string()).into()),
        }
    }

    async fn put_whole(&mut self) -> Result<Answer, Stop> {
        let digests = Digests::from_fields(&self.repr_digests()?);
        let content = Digests::from_fields(&self.content_digests()?);
        let plan = Plan {
            destination: self.request.name.clone(),
            length: self.body_bytes(),
            // The body is the whole file, so both kinds of digest are the file's: what is left of it when it is cut
            // short has to have them too.
            digests: digests.or(&content),
            note: String::new(),
        };
        let algorithms = content.algorithms().union(self.wanted_digests());
        let writer = self.begin(plan, algorithms, None).await?;
        let writer = self.receive(writer).await?;
        let writer = self.check_content(writer, content).await?;
        let conditions = Conditions::of(&self.request.preconditions);
        self.publish(writer, conditions, digests).await
    }

    async fn put_part(&mut self, range: ContentRange) -> Result<Answer, Stop> {
        let digests = Digests::from_fields(&self.repr_digests()?);
        let content = Digests::from_fields(&self.content_digests()?);
        if self.body_bytes().is_some_and(|bytes| bytes != range.length()) {
            let detail =
                format!("Content-Range names {} bytes, and the body has another length", range.length());
            return Err(Answer::problem(400, &detail).into());
        }
        let plan = Plan {
            destination: self.request.name.clone(),
            length: Some(range.total),
            digests,
            note: String::new(),
        };
        let algorithms = content.algorithms().union(self.wanted_digests());
        let writer = self.begin(plan, algorithms, Some(range.first)).await?;
        let writer = self.receive(writer).await?;
        let writer = self.check_content(writer, content).await?;
        if writer.offset() > range.end {
            // Which of its bytes are meant nobody knows.
            let error = UploadError::LengthConflict { expected: range.end, provided: writer.offset() };
            return self
                .on_disk(move || {
                    writer.discard();
                    Err(error)
                })
                .await;
        }
        if writer.offset() != range.end {
            let error = UploadError::Incomplete { received: writer.offset(), expected: range.end };
            self.keep(writer).await?;
            return Err(self.refusal(&error).into());
        }
        if range.is_last() {
            let conditions = Conditions::of(&self.request.preconditions);
            // Digests that came with the first part were noted; the last one's count too.
            return self.publish(writer, conditions, digests).await;
        }
        let offset = self.keep(writer).await?;
        Ok(Answer::new(202).field("Upload-Offset", offset.to_string()))
    }

    /// Gets a writer, if the conditions hold by now: whoever waits for a 100 learns it before the body is sent.
    async fn begin(&self, plan: Plan, algorithms: Algorithms, offset: Option<u64>) -> Result<Writer, Stop> {
        let (uploads, limits) = (Arc::clone(&self.uploads), self.limits());
        let conditions = Conditions::of(&self.request.preconditions);
        let root = self.worker.resources.root.clone();
        self.on_disk(move || {
            if root.is_some_and(|root| !conditions.hold(&root, &plan.destination)) {
                return Err(UploadError::PreconditionFailed);
            }
            let mut writer = match offset {
                None => uploads.begin(&plan, &limits)?,
                Some(offset) => uploads.resume_destination(&plan, offset, &limits)?,
            };
            writer.hash(algorithms);
            Ok(writer)
        })
        .await
    }

    /// Compares what came with the digests of this body, which takes it back where they differ.
    pub(super) async fn check_content(&self, writer: Writer, content: Digests) -> Result<Writer, Stop> {
        if content.algorithms().is_empty() {
            return Ok(writer);
        }
        self.on_disk(move || {
            let mut writer = writer;
            writer.check_content(&content)?;
            Ok(writer)
        })
        .await
    }

    /// Keeps what has come, and says how much that is.
    pub(super) async fn keep(&mut self, writer: Writer) -> Result<u64, Stop> {
        let kept = self.on_disk(move || writer.keep()).await?;
        self.outcome = Some(UploadOutcome::Kept);
        Ok(kept.offset)
    }

    /// Gives a whole upload its name, if it has `digests` and those that were noted when it began.
    pub(super) async fn publish(
        &mut self,
        writer: Writer,
        conditions: Conditions,
        digests: Digests,
    ) -> Result<Answer, Stop> {
        let recorded = self.wanted_digests();
        let published = self
            .on_disk(move || {
                let permits = |current: Option<&_>| conditions.permit(current);
                let publication = Publication {
                    is_new: conditions.want_new(),
                    precondition: if conditions.are_none() { None } else { Some(&permits) },
                    digests,
                    recorded,
                };
                writer.publish(&publication)
            })
            .await?;
        self.outcome = Some(UploadOutcome::Published);
        Ok(Self::published(&published))
    }

    fn published(published: &Published) -> Answer {
        let status = if published.created { 201 } else { 204 };
        Answer::new(status)
            .field("ETag", published.etag.clone())
            .field_if("Repr-Digest", digest::format(&published.digests.to_fields()))
    }

    /// The body's length, where its head says it.
    pub(super) fn body_bytes(&self) -> Option<u64> {
        match self.request.body {
            Body::None => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked => None,
        }
    }
}
