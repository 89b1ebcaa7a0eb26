//! Scenarios: pieces of work that every server does alike, and their measurement.

mod connections;
mod measurement;
mod mixed;
mod mixed_put;
mod plan;
mod put;
mod simple;
pub mod standard;
mod upload_names;

pub use measurement::{ClientSetup, Measurement, Subject};
pub use plan::{Plan, ServedFile, Serving, Timing};
pub use upload_names::{NewNames, UploadTo, tidy, tidy_up};

use anyhow::{Context, Result};

use crate::result::{Sample, Work};

/// Checks whether `subject` can do this work at all; the error says why not.
pub fn can(plan: &Plan, subject: &Subject<'_>) -> Result<(), String> {
    let unless = |can: bool, reason: &str| if can { Ok(()) } else { Err(reason.to_owned()) };
    match plan.work {
        Work::Push { .. } => unless(subject.frames.is_some(), "takes no frames"),
        Work::Stream { .. } => unless(subject.control.is_some(), "has no control plane"),
        Work::Connections { connections, .. } => {
            // One more connection is needed for the probe.
            let most = subject.connections_max;
            unless(most > connections as u64, &format!("takes {most} connections at most"))
        }
        Work::Pull { .. } | Work::Mixed { .. } => Ok(()),
        Work::Put { .. } | Work::MixedPut { .. } => put::can(plan, subject),
    }
}

/// Measures the plan once.
pub fn measure(measurement: &Measurement<'_>) -> Result<Sample> {
    let Measurement { plan, subject, .. } = measurement;
    let sample = match plan.work {
        Work::Pull { .. } | Work::Push { .. } | Work::Stream { .. } => simple::measure(measurement),
        Work::Connections { .. } => connections::measure(measurement),
        Work::Mixed { .. } => mixed::measure(measurement),
        Work::Put { .. } => put::measure(measurement),
        Work::MixedPut { .. } => mixed_put::measure(measurement),
    };
    let sample = sample.with_context(|| format!("{} on {}", plan.id, subject.name))?;
    Ok(Sample { peer: subject.name.to_owned(), ..sample })
}
