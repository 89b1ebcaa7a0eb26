//! Pull, push and stream: one load, measured.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::{Client, Plan, Subject, Timing, get, load, sample};
use crate::load::{self, Answer, Load, Pace, Work as LoadWork};
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
    let load = load_of(plan, subject, client)?;
    let costs = || ((subject.cost)(), own_cost());
    let (tally, elapsed, before, after) = load::run(&load, timing.warm_up, timing.duration, progress, costs)?;
    Ok(sample(&tally, elapsed, (before.0, after.0), (before.1, after.1)))
}

fn load_of(plan: &Plan, subject: &Subject<'_>, client: &Client) -> Result<Load> {
    match plan.work {
        Work::Pull { connections, keep_alive, rate_per_s, .. } => {
            let files = plan.files.iter();
            let requests: Arc<[_]> = files
                .map(|file| {
                    let answer = Answer::Body { bytes: file.bytes };
                    (get(subject.http, &file.url_path, keep_alive), answer)
                })
                .collect();
            let pace = rate_per_s.map_or(Pace::Closed, |rate_per_s| Pace::Open { rate_per_s });
            Ok(load(subject.http, LoadWork::Requests { requests, keep_alive }, connections, client, pace))
        }
        Work::Push { body_bytes, connections } => {
            let Some(address) = subject.frames else { bail!("{} takes no frames", subject.name) };
            Ok(load(address, LoadWork::Frames { bytes: body_bytes }, connections, client, Pace::Closed))
        }
        Work::Stream { body_bytes, connections } => {
            let Some(address) = subject.control else { bail!("{} has no control plane", subject.name) };
            let head = format!(
                "POST /stream?size={body_bytes} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"
            );
            let requests = Arc::new([(head.into_bytes(), Answer::Stream { bytes: body_bytes })]);
            let work = LoadWork::Requests { requests, keep_alive: true };
            Ok(load(address, work, connections, client, Pace::Closed))
        }
        Work::Connections { .. } | Work::Mixed { .. } | Work::Put { .. } | Work::MixedPut { .. } => {
            bail!("{} is no single load", plan.id)
        }
    }
}
