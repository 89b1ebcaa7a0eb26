//! Finds digests of files for clients that want them (Want-Repr-Digest, RFC 9530 4); no other request pays for any.

use std::sync::Arc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::{Lane, Owner};
use crate::files::SourceFile;
use crate::files::digest::{Algorithms, Computation, Step};
use crate::protocol::digest;
use crate::protocol::http1::request::Request;

/// `Repr-Digest` for the answer to `request`: of the algorithm that is wanted most, recorded or computed by disk
/// threads, step by step as long as the client is there. None where none is wanted, or none can be had now: the field
/// is a wish, and no condition.
pub(super) async fn of(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    file: &SourceFile,
) -> Option<String> {
    if file.is_unsized() {
        return None;
    }
    let algorithm = *digest::wanted(request.want_repr_digest()?).first()?;
    let algorithms = Algorithms::of(&[algorithm]);
    let owner = Owner { mount: file.mount(), group: connection.group() };
    let served = worker.served();
    let (root, file) = (Arc::clone(&served.find(&request.name)?.0.root), file.clone());
    let begin = move || Computation::begin(root, file, algorithms);
    // A client that half-closed gets the answer without it, since nothing tells whether it is still there.
    let has_left = || connection.socket.has_peer_ended();
    if has_left() {
        return None;
    }
    let mut step = worker.disk.run_or_refuse(Lane::Digest, owner, begin).await.ok()?;
    let digests = loop {
        match step {
            Ok(Step::Whole(whole)) => {
                let (digests, record) = whole?;
                if let Some(record) = record {
                    worker.disk.run_unless_busy(Lane::Write, owner, || record.write());
                }
                break digests.to_fields();
            }
            Ok(Step::Partly(_)) if has_left() => return None,
            Ok(Step::Partly(computation)) => {
                step = worker.disk.run(Lane::Digest, owner, move || computation.go_on()).await.ok()?;
            }
            Err(error) => {
                tracing::warn!(%error, "a file could not be read for its digest");
                return None;
            }
        }
    };
    let wanted: Vec<_> = digests.into_iter().filter(|digest| digest.algorithm() == algorithm).collect();
    digest::format(&wanted)
}
