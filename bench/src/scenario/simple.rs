//! Pull, push and stream: one load, measured.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::measurement::Measurement;
use crate::load::{Answer, ConnectionWork, Load, Pace};
use crate::result::{Sample, Work};

pub(super) fn measure(measurement: &Measurement<'_>) -> Result<Sample> {
    let load = load_of(measurement)?;
    Ok(measurement.run(&load)?.sample())
}

fn load_of(measurement: &Measurement<'_>) -> Result<Load> {
    let Measurement { plan, subject, .. } = measurement;
    match plan.work {
        Work::Pull { connections, keep_alive, rate_per_s, .. } => {
            let files = plan.files.iter();
            let requests: Arc<[_]> = files
                .map(|file| {
                    let answer = Answer::Body { bytes: file.bytes };
                    (measurement.get(&file.url_path, keep_alive), answer)
                })
                .collect();
            let pace = rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s });
            Ok(measurement.load(
                subject.http,
                ConnectionWork::Requests { requests, keep_alive },
                connections,
                pace,
            ))
        }
        Work::Push { body_bytes, connections } => {
            let Some(address) = subject.frames else { bail!("{} takes no frames", subject.name) };
            Ok(measurement.load(
                address,
                ConnectionWork::Frames { bytes: body_bytes },
                connections,
                Pace::Closed,
            ))
        }
        Work::Stream { body_bytes, connections } => {
            let Some(address) = subject.control else { bail!("{} has no control plane", subject.name) };
            let head = format!(
                "POST /stream?size={body_bytes} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"
            );
            let requests = Arc::new([(head.into_bytes(), Answer::Stream { bytes: body_bytes })]);
            let work = ConnectionWork::Requests { requests, keep_alive: true };
            Ok(measurement.load(address, work, connections, Pace::Closed))
        }
        Work::Connections { .. } | Work::Mixed { .. } | Work::Put { .. } | Work::MixedPut { .. } => {
            bail!("{} is no single load", plan.id)
        }
    }
}
