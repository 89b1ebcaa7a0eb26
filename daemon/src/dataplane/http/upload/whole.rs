//! Takes a PUT of a file: all of it, or a part that says where it belongs (Content-Range).

use std::sync::Arc;

use super::answer::Answer;
use super::call::{Call, Stop};
use super::conditions::Conditions;
use super::short::Arrived;
use crate::files::digest::{Algorithms, Digests};
use crate::files::upload::{Admitted, Part, Plan, UploadError, Writer};
use crate::protocol::content_range::ContentRange;
use crate::protocol::name::UploadId;

/// How a body begins.
enum Beginning {
    /// As a whole file.
    Whole,
    /// As a whole file that was let in before.
    Admitted(Admitted),
    /// As a part of one.
    Part(Part),
}

impl Call<'_> {
    /// Takes a file, or a part of one.
    pub(super) async fn put(&mut self) -> Result<Answer, Stop> {
        let fields = self.fields()?;
        if !fields.is_framed {
            let detail = "a PUT needs Content-Length or Transfer-Encoding: chunked";
            return Err(Answer::problem(411, detail).into());
        }
        match fields.content_range {
            Ok(None) => Box::pin(self.put_whole()).await,
            Ok(Some(range)) => Box::pin(self.put_part(range)).await,
            Err(error) => Err(Answer::problem(400, &error.to_string()).into()),
        }
    }

    async fn put_whole(&mut self) -> Result<Answer, Stop> {
        let fields = self.fields()?;
        let digests = Digests::from_fields(&self.repr_digests()?);
        let content = Digests::from_fields(&self.content_digests()?);
        let plan = Plan {
            destination: self.written.name.clone(),
            mount: self.owner().mount,
            length: self.body_bytes().or(fields.upload.length),
            // The body is the whole file, so both kinds of digest are the file's: what is left of it when it is cut
            // short has to have them too.
            digests: digests.or(&content),
            note: Conditions::of(&self.request.preconditions).note(),
        };
        let algorithms = content.algorithms().union(self.wanted_digests());
        let admitted = match self.receive_short(&plan).await? {
            Arrived::Whole(admitted, body) => {
                let body = (admitted, body);
                return Box::pin(self.publish_short(plan, body, [digests, content], algorithms)).await;
            }
            Arrived::Late(admitted) => Some(admitted),
            Arrived::Long => None,
        };
        let _place_guard = admitted.as_ref().map(Admitted::place_guard);
        let beginning = admitted.map_or(Beginning::Whole, Beginning::Admitted);
        let writer = self.begin(plan, algorithms, beginning).await?;
        let writer = self.receive(writer).await?;
        let writer = self.check_content(writer, content).await?;
        self.publish(writer, digests).await
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
            destination: self.written.name.clone(),
            mount: self.owner().mount,
            length: Some(range.total),
            digests,
            note: Conditions::of(&self.request.preconditions).note(),
        };
        let algorithms = content.algorithms().union(self.wanted_digests());
        let upload = self.upload_id()?;
        let part = Part { first: range.first, end: range.end, upload };
        let writer = self.begin(plan, algorithms, Beginning::Part(part)).await?;
        let writer = self.receive(writer).await?;
        let writer = self.check_content(writer, content).await?;
        if writer.offset() > range.end {
            // Nobody knows which of its bytes are meant.
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
            // Digests that came with the first part were noted; the last one's count too.
            if upload.is_none() && range.first > 0 {
                let (name, length) = (&self.written.name, range.total);
                self.may_repeat = Some(self.written.uploads.await_repeat(name, length, range.first));
            }
            return self.publish(writer, digests).await;
        }
        let resource = writer.resource();
        let offset = self.keep(writer).await?;
        Ok(Answer::new(202)
            .field("Location", self.location(&resource))
            .field("Upload-Id", resource.id.to_string())
            .field("Upload-Offset", offset.to_string()))
    }

    /// The upload that the part says it belongs to.
    fn upload_id(&self) -> Result<Option<UploadId>, Stop> {
        self.fields()?.upload_id.map_err(|error| Answer::problem(400, &error.to_string()).into())
    }

    /// Gets a writer, if the conditions hold by now: whoever waits for a 100 learns it before the body is sent.
    async fn begin(&self, plan: Plan, algorithms: Algorithms, beginning: Beginning) -> Result<Writer, Stop> {
        let (uploads, limits) = (Arc::clone(&self.written.uploads), self.limits());
        let conditions = Conditions::of(&self.request.preconditions);
        let root = Arc::clone(self.written.uploads.root());
        self.on_disk_at_first(move || {
            if !conditions.hold(&root, &plan.destination) {
                return Err(UploadError::PreconditionFailed);
            }
            let mut writer = match beginning {
                Beginning::Whole => uploads.begin(&plan, &limits)?,
                Beginning::Admitted(admitted) => uploads.begin_admitted(admitted, &plan, &limits)?,
                Beginning::Part(part) => uploads.take_part(&plan, &part, &limits)?,
            };
            writer.hash(algorithms);
            Ok(writer)
        })
        .await
    }
}
