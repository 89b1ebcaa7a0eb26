//! Uploads: measured, and compared with what the server gives back.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use super::measurement::{Measurement, Subject};
use super::plan::Plan;
use crate::load::{Body, ConnectionWork, Counted, Pace, Source, Tally, Upload};
use crate::peer::{UploadSupport, fetch};
use crate::result::{Sample, Work};

/// The bytes of the upload that tests whether a server takes any.
const PROBE_BYTES: u64 = 4096;

pub(super) fn measure(measurement: &Measurement<'_>) -> Result<Sample> {
    let Measurement { plan, subject, .. } = measurement;
    let Work::Put { body_bytes, connections, .. } = plan.work else { bail!("{} uploads nothing", plan.id) };
    let upload = upload(plan, subject, body_bytes, Counted::Whole)?;
    let work = ConnectionWork::Upload(upload.clone());
    let load = measurement.load(subject.http, work, connections, Pace::Closed);
    let measured = measurement.run(&load)?;
    let sample = measured.sample();
    Ok(match compare(subject.http, &upload, &measured.tally) {
        Ok(digests_checked) => Sample { digests_checked, ..sample },
        // The measurement is shown beside the failure.
        Err(error) => Sample { errors: [sample.errors, vec![(format!("{error:#}"), 1)]].concat(), ..sample },
    })
}

/// Returns the upload of each connection of `plan`.
pub(super) fn upload(plan: &Plan, subject: &Subject<'_>, bytes: u64, counted: Counted) -> Result<Upload> {
    let to = plan.uploads.as_ref().with_context(|| format!("{} has nowhere to upload to", plan.id))?;
    let source = if subject.uploads == UploadSupport::Made { Source::Server } else { Source::Client };
    Ok(Upload { path: to.path.clone(), bytes, source, counted })
}

/// Checks by a short upload whether `subject` takes uploads where `plan` wants them; the error says why not.
pub(super) fn can(plan: &Plan, subject: &Subject<'_>) -> Result<(), String> {
    let path = match (&plan.uploads, subject.uploads) {
        (Some(to), UploadSupport::Taken) => format!("{}-probe", to.path),
        (_, UploadSupport::Made) => return Ok(()),
        _ => return Err("takes no uploads".to_owned()),
    };
    let body = Body::new(0, 0, PROBE_BYTES);
    let line = fetch::put(subject.http, &path, body.next_bytes()).map_err(|error| format!("{error:#}"))?;
    match fetch::status(&line) {
        201 | 204 => Ok(()),
        _ => Err(format!("answers PUT with {}", line.trim_start_matches("HTTP/1.1 "))),
    }
}

/// Compares the body of a GET of each name with the last upload to it; returns how many names.
fn compare(address: SocketAddr, upload: &Upload, tally: &Tally) -> Result<u64> {
    let mut compared = 0;
    for (number, count) in tally.known_uploads() {
        let path = upload.path_of(number);
        let mut expected = match upload.source {
            Source::Client => Body::new(number, count, upload.bytes),
            Source::Server => Body::new(0, 0, upload.bytes),
        };
        let mut is_right = true;
        let (_, bytes) = fetch::get(address, &path, |bytes| {
            is_right = is_right && expected.goes_on_with(bytes);
            Ok(())
        })?;
        if bytes != upload.bytes {
            bail!("GET {path} gives back {bytes} bytes of {} that were uploaded", upload.bytes);
        }
        if !is_right {
            bail!("GET {path} gives back as many bytes as were uploaded, but others");
        }
        compared += 1;
    }
    Ok(compared)
}
