//! Digests of files for those who want to hear of them (Want-Repr-Digest, RFC 9530 4); nobody else pays for any.

use super::super::worker::Worker;
use crate::files::SourceFile;
use crate::files::digest::{Algorithms, compute};
use crate::protocol::digest;
use crate::protocol::http1::request::Request;

/// `Repr-Digest` for the answer to `request`: of the algorithm that is wanted most, recorded or computed on a disk
/// thread. None where none is wanted, or none can be had now: what was asked for is a wish.
pub(super) async fn of(worker: &Worker, request: &Request, file: &SourceFile) -> Option<String> {
    let algorithm = *digest::wanted(request.want_repr_digest.as_deref()?).first()?;
    let (file, algorithms) = (file.clone(), Algorithms::of(&[algorithm]));
    let computed = worker.disk.run_long(move || compute(&file, algorithms)).await.ok()?;
    let digests = match computed {
        Ok(digests) => digests?.to_fields(),
        Err(error) => {
            tracing::warn!(%error, "a file could not be read for its digest");
            return None;
        }
    };
    let wanted: Vec<_> = digests.into_iter().filter(|digest| digest.algorithm() == algorithm).collect();
    digest::format(&wanted)
}
