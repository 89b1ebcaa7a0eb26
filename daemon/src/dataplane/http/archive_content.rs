//! Makes the answer to a request for the archive of a directory: its plan is made or found, its conditions are judged,
//! its range selected, and its head written.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::archive::{self, ArchiveBody};
use super::response::{Asked, Body, Response};
use crate::config::Share;
use crate::files::archive::{Plan, Tree};
use crate::files::{Root, Terms};
use crate::protocol::conditional::{Validators, Verdict, evaluate, range_applies};
use crate::protocol::disposition;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Request;
use crate::protocol::http1::response::ResponseHead;
use crate::protocol::name::Name;
use crate::protocol::range::{ByteRange, Selection, select};

/// The media type of tar. None is registered; this is the one that browsers and servers use.
const MEDIA_TYPE: &str = "application/x-tar";

/// The name of the root's archive, since the root has none of its own.
const NAME_OF_ROOT: &str = "archive";

/// Answers with the archive of a directory, or a part of it.
pub(super) async fn of_directory(
    worker: &Worker,
    connection: &Connection,
    request: &Request,
    asked: &Asked<'_>,
    (root, within): (&Arc<Root>, &Name),
    directory: OwnedFd,
    hiding: Option<Arc<Share>>,
) -> Response {
    let tree = Tree::new(root, within, directory).hiding(hiding);
    let group = connection.group();
    let waiting_bytes_max = worker.live().settings.waiting_bytes_max;
    let terms = Terms { waiting_bytes_max, holder: group, generation: worker.generation() };
    let response = match archive::plan(worker, connection, request, &tree, terms).await {
        Ok(None) => Response::problem(asked, 503, "the client left before the archive was planned"),
        Ok(Some(plan)) => of_plan(request, asked, &tree, &plan, terms),
        Err(error) => Response::of_archive_error(asked, error),
    };
    archive::give_up(worker, tree, group);
    response
}

fn of_plan(request: &Request, asked: &Asked<'_>, tree: &Tree, plan: &Arc<Plan>, terms: Terms) -> Response {
    let validators = Validators { etag: plan.etag().to_owned(), modified: None };
    match evaluate(&request.preconditions, &validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => {
            return head_of(asked, 304, |head| {
                head.field("ETag", plan.etag());
            });
        }
        Verdict::Failed => {
            return Response::problem(asked, 412, "the directory is not in the state that was asked for");
        }
    }
    let whole = ByteRange { start: 0, length: plan.length() };
    let selection = match &request.range {
        // Ranges are defined for GET alone (RFC 9110 14.2).
        Some(field)
            if request.method == Method::Get && range_applies(request.if_range.as_deref(), &validators) =>
        {
            select(field, whole.length)
        }
        _ => Selection::Whole,
    };
    let (status, range) = match selection {
        Selection::Ranges(ranges) if ranges.len() == 1 => (206, ranges[0]),
        // Nobody wants several parts of an archive that is made while it is sent.
        Selection::Ranges(_) | Selection::Whole => (200, whole),
        Selection::Unsatisfiable => {
            let detail = format!("no such range: the archive has {} bytes", whole.length);
            return Response::problem_with(asked, 416, &detail, |head| {
                head.content_range_unsatisfied(whole.length);
            });
        }
    };
    let body = match asked
        .has_body()
        .then(|| ArchiveBody::new(asked.worker, tree, plan, range, terms))
        .transpose()
    {
        Ok(body) => body,
        Err(error) => return Response::of_file_error(asked, error),
    };
    let mut response = head_of(asked, status, |head| {
        head.field("Content-Type", MEDIA_TYPE)
            .field_number("Content-Length", range.length)
            .field("ETag", plan.etag())
            .field("Accept-Ranges", "bytes")
            .field("Content-Disposition", &disposition::attachment(&file_name(request)))
            .field("Cache-Control", "no-cache")
            .field("X-Content-Type-Options", "nosniff");
        if status == 206 {
            head.content_range(range, whole.length);
        }
    });
    if let Some(body) = body {
        response.body = Body::Archive(Box::new(body));
    }
    response
}

fn head_of(asked: &Asked<'_>, status: u16, describe: impl FnOnce(&mut ResponseHead<'_>)) -> Response {
    let mut out = asked.buffer();
    let mut head = asked.head(&mut out, status);
    describe(&mut head);
    head.finish(asked.keep_alive, asked.version);
    Response::bare(status, out)
}

/// Returns the name under which a browser keeps the archive.
fn file_name(request: &Request) -> String {
    let text = request.name.text();
    let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    format!("{}.tar", if name.is_empty() { NAME_OF_ROOT } else { name })
}
