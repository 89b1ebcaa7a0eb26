//! Hot small requests while cold large files are pulled from a slow device.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Client, Plan, Subject, Timing, get, hot_load, load, sample};
use crate::fixture::{make_cold, push_out};
use crate::load::{self, Answer, ColdPull, Pace, Work as LoadWork};
use crate::peer::own_cost;
use crate::progress::Progress;
use crate::result::{Sample, Work};

/// Time after which a server that lost what it had read ahead for its cold pulls has caught up: 64 windows of 1 MiB
/// take 1.3 s from a device of 50 MiB a second.
const COLD_SETTLE: Duration = Duration::from_secs(2);

pub(super) fn measure(
    plan: &Plan,
    subject: &Subject<'_>,
    client: &Client,
    timing: Timing,
    progress: &Progress,
) -> Result<Sample> {
    let Work::Mixed { connections, cold_pulls, rate_per_s, .. } = plan.work else {
        bail!("{} is not mixed", plan.id)
    };
    let pace = rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s });
    let hot = hot_load(plan, subject, connections, client, pace)?;
    let costs = || ((subject.cost)(), own_cost());
    if cold_pulls == 0 {
        let (tally, elapsed, before, after) =
            load::run(&hot, timing.warm_up, timing.duration, progress, costs)?;
        return Ok(sample(&tally, elapsed, (before.0, after.0), (before.1, after.1)));
    }
    let paths: Vec<&Path> = plan.cold_files.iter().filter_map(|file| file.path.as_deref()).collect();
    make_cold(&paths)?;
    let cold = cold_load(plan, subject, client, cold_pulls)?;
    let cold = load::start(&cold)?;
    // A server that waits for the disk takes its connections one after the other: by the time that the last has had
    // its first bytes, the files of the first are in memory.
    paths.iter().try_for_each(|path| push_out(path).map(drop))?;
    std::thread::park_timeout(COLD_SETTLE);
    let cold_begin = cold.start_clock();
    let measured = load::run(&hot, timing.warm_up, timing.duration, progress, costs);
    let cold_elapsed = cold.stop_clock(cold_begin);
    let cold_tally = cold.stop()?;
    let (tally, elapsed, before, after) = measured?;
    let rate = Some(cold_tally.bytes as f64 / cold_elapsed.as_secs_f64());
    let were_cold = paths.len() == plan.cold_files.len() && cold_tally.pulls_warm == 0;
    Ok(Sample {
        cold_bytes_per_s: rate.filter(|_| were_cold),
        beside_bytes_per_s: rate.filter(|_| !were_cold),
        errors: [tally.errors.clone(), cold_tally.errors].into_iter().flatten().collect(),
        ..sample(&tally, elapsed, (before.0, after.0), (before.1, after.1))
    })
}

/// Pulls of the cold files, each by a connection of its own.
fn cold_load(plan: &Plan, subject: &Subject<'_>, client: &Client, cold_pulls: usize) -> Result<load::Load> {
    if plan.cold_files.is_empty() {
        bail!("{} needs files on a slow device", plan.id);
    }
    let pulls = plan.cold_files.iter().map(|file| ColdPull {
        head: get(subject.http, &file.url_path, true),
        answer: Answer::Body { bytes: file.bytes },
        file: file.path.clone(),
    });
    let work = LoadWork::Cold { pulls: pulls.collect() };
    Ok(load(subject.http, work, cold_pulls, client, Pace::Closed))
}
