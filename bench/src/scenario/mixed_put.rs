//! Hot small requests while bodies are uploaded to a slow device, and right before without them.

use anyhow::{Result, bail};

use super::measurement::Measurement;
use super::plan::{SLOW_DURATION_FACTOR, Timing};
use super::put;
use crate::load::{self, ConnectionWork, Counted, Pace};
use crate::result::{Sample, Work};

pub(super) fn measure(measurement: &Measurement<'_>) -> Result<Sample> {
    let Measurement { plan, subject, timing, .. } = *measurement;
    let Work::MixedPut { connections, uploads, upload_bytes, .. } = plan.work else {
        bail!("{} is not mixed", plan.id)
    };
    let hot = measurement.hot_load(connections, Pace::Closed)?;
    let measure = |duration| {
        let timing = Timing { duration, ..timing };
        Measurement { timing, ..*measurement }.run(&hot).map(|measured| measured.sample())
    };
    if uploads == 0 {
        return measure(timing.duration);
    }
    let without = measure(timing.duration / SLOW_DURATION_FACTOR)?;
    let upload = put::upload(plan, subject, upload_bytes, Counted::Bytes)?;
    let uploads = measurement.load(subject.http, ConnectionWork::Upload(upload), uploads, Pace::Closed);
    let uploads = load::start(&uploads)?;
    let begin = uploads.start_clock();
    let with = measure(timing.duration);
    let elapsed = uploads.stop_clock(begin);
    let uploaded = uploads.stop()?;
    let with = with?;
    let p99 = |sample: &Sample| sample.latency.map(|latency| latency.p99_us);
    let ratio = p99(&with).zip(p99(&without)).map(|(with, without)| with / without);
    Ok(Sample {
        upload_bytes_per_s: Some(uploaded.bytes as f64 / elapsed.as_secs_f64()),
        latency_p99_ratio: ratio,
        errors: [without.errors, with.errors.clone(), uploaded.errors.into_iter().collect()].concat(),
        ..with
    })
}
