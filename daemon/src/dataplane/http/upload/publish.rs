//! Compares a body that has come with its digests, and keeps it to be gone on with, or publishes it.

use super::answer::Answer;
use super::call::{Call, Stop, malformed_digest};
use super::conditions::Conditions;
use crate::files::digest::Digests;
use crate::files::upload::{Publication, Writer};
use crate::protocol::http1::method::Method;
use crate::protocol::http1::trailers::Trailers;
use crate::telemetry::UploadOutcome;

impl Call<'_> {
    /// Compares the body with its digests, in the head and in the trailers. Where they differ its bytes are taken back.
    pub(super) async fn check_content(&self, writer: Writer, content: Digests) -> Result<Writer, Stop> {
        let Trailers { repr_digest, content_digest } = &self.trailers;
        if let Some(error) = content_digest.as_ref().err().or(repr_digest.as_ref().err()) {
            let answer = malformed_digest(error);
            self.on_disk(move || {
                let mut writer = writer;
                writer.take_back()
            })
            .await?;
            return Err(answer.into());
        }
        let trailing = Digests::from_fields(content_digest.as_deref().unwrap_or_default());
        if content.algorithms().union(trailing.algorithms()).is_empty() {
            return Ok(writer);
        }
        self.on_disk(move || {
            let mut writer = writer;
            writer.check_content(&content)?;
            writer.check_content(&trailing)?;
            Ok(writer)
        })
        .await
    }

    /// The digests of the whole file that came behind the body; each one that came before is compared as well.
    fn trailing_digests(&self) -> Digests {
        Digests::from_fields(self.trailers.repr_digest.as_deref().unwrap_or_default())
    }

    /// Keeps the partial, and says how long it is by now. Digests of the whole file that came behind the body are
    /// noted.
    pub(super) async fn keep(&mut self, writer: Writer) -> Result<u64, Stop> {
        let trailing = self.trailing_digests();
        let kept = self.on_disk(move || {
            let mut writer = writer;
            writer.promise(&trailing)?;
            writer.keep()
        });
        let kept = kept.await?;
        self.outcome = Some(UploadOutcome::Kept);
        Ok(kept.offset)
    }

    /// Gives a whole upload its name, if it has `digests` and those that were noted of it, and if the conditions of its
    /// first request and of this one hold.
    pub(super) async fn publish(&mut self, writer: Writer, digests: Digests) -> Result<Answer, Stop> {
        let recorded = self.wanted_digests();
        let trailing = self.trailing_digests();
        let own = match self.request.method {
            // A PATCH has no conditions of the file (draft section 4.4).
            Method::Patch => Conditions::default(),
            _ => Conditions::of(&self.request.preconditions),
        };
        let conditions = [Conditions::from_note(writer.note()), own];
        let published = self
            .on_disk(move || {
                let permits = |current: Option<&_>| conditions.iter().all(|those| those.permit(current));
                let are_none = conditions.iter().all(Conditions::are_none);
                let publication = Publication {
                    is_new: conditions.iter().any(Conditions::want_new),
                    precondition: if are_none { None } else { Some(&permits) },
                    digests: [digests, trailing],
                    recorded,
                };
                writer.publish(&publication)
            })
            .await?;
        Ok(self.note_published(&published))
    }
}
