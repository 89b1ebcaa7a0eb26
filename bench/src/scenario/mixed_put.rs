//! Hot small requests while bodies are uploaded to a slow device, and right before without them.

use anyhow::{Result, bail};

use super::{Client, Plan, SLOW_DURATION_FACTOR, Subject, Timing, hot_load, load, put, sample};
use crate::load::{self, Counted, Pace, Work as LoadWork};
use crate::peer::own_cost;
use crate::progress::Progress;
use crate::result::{Sample, Work};

pub(super) fn measure(
    plan: &Plan,
    subject: &Subject<'_>,
    client: &Client,
    timing: Timing,
    progress: &Progress,
) -> Result<Sample> {
    let Work::MixedPut { connections, uploads, upload_bytes, .. } = plan.work else {
        bail!("{} is not mixed", plan.id)
    };
    let hot = hot_load(plan, subject, connections, client, Pace::Closed)?;
    let measure = |duration| {
        let costs = || ((subject.cost)(), own_cost());
        let (tally, elapsed, before, after) = load::run(&hot, timing.warm_up, duration, progress, costs)?;
        Ok::<_, anyhow::Error>(sample(&tally, elapsed, (before.0, after.0), (before.1, after.1)))
    };
    if uploads == 0 {
        return measure(timing.duration);
    }
    let without = measure(timing.duration / SLOW_DURATION_FACTOR)?;
    let upload = put::upload(plan, subject, upload_bytes, Counted::Bytes)?;
    let uploads = load(subject.http, LoadWork::Upload(upload), uploads, client, Pace::Closed);
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
