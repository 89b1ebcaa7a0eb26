//! Hot small requests while cold large files are pulled from a slow device.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::measurement::Measurement;
use crate::fixture::{make_cold, push_out};
use crate::load::{self, Answer, ColdPull, ConnectionWork, Load, Pace};
use crate::result::{Sample, Work};

/// The time after which a server whose readahead for its cold pulls was dropped has caught up: 64 windows of 1 MiB
/// take 1.3 s from a device of 50 MiB a second.
const COLD_SETTLE: Duration = Duration::from_secs(2);

pub(super) fn measure(measurement: &Measurement<'_>) -> Result<Sample> {
    let plan = measurement.plan;
    let Work::Mixed { connections, cold_pulls, rate_per_s, .. } = plan.work else {
        bail!("{} is not mixed", plan.id)
    };
    let pace = rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s });
    let hot = measurement.hot_load(connections, pace)?;
    if cold_pulls == 0 {
        return Ok(measurement.run(&hot)?.sample());
    }
    let paths: Vec<&Path> = plan.cold_files.iter().filter_map(|file| file.path.as_deref()).collect();
    make_cold(&paths)?;
    let cold = cold_load(measurement, cold_pulls)?;
    let cold = load::start(&cold)?;
    // A server that waits for the disk takes its connections one after the other: by the time that the last has had
    // its first bytes, the files of the first are in memory.
    paths.iter().try_for_each(|path| push_out(path).map(drop))?;
    std::thread::park_timeout(COLD_SETTLE);
    let cold_begin = cold.start_clock();
    let measured = measurement.run(&hot);
    let cold_elapsed = cold.stop_clock(cold_begin);
    let cold_tally = cold.stop()?;
    let measured = measured?;
    let rate = Some(cold_tally.bytes as f64 / cold_elapsed.as_secs_f64());
    let were_cold = paths.len() == plan.cold_files.len() && cold_tally.pulls_warm == 0;
    Ok(Sample {
        cold_bytes_per_s: rate.filter(|_| were_cold),
        beside_bytes_per_s: rate.filter(|_| !were_cold),
        errors: [measured.tally.errors.clone(), cold_tally.errors].into_iter().flatten().collect(),
        ..measured.sample()
    })
}

/// Makes the load of the cold files' pulls, each by a connection of its own.
fn cold_load(measurement: &Measurement<'_>, cold_pulls: usize) -> Result<Load> {
    let Measurement { plan, subject, .. } = measurement;
    if plan.cold_files.is_empty() {
        bail!("{} needs files on a slow device", plan.id);
    }
    let pulls = plan.cold_files.iter().map(|file| ColdPull {
        head: measurement.get(&file.url_path, true),
        answer: Answer::Body { bytes: file.bytes },
        file: file.path.clone(),
    });
    let work = ConnectionWork::Cold { pulls: pulls.collect() };
    Ok(measurement.load(subject.http, work, cold_pulls, Pace::Closed))
}
