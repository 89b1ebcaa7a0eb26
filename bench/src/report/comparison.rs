//! The comparison of two runs: their reference before and after, scenario by scenario.

use super::analysis::{Analysis, MetricRow, ScenarioAnalysis};
use super::error::ReportError;
use super::figure::{Figure, LegendEntry, RatioFigure, row_label, style_of};
use super::metric::{Metric, key_metrics};
use super::plot::Row;
use crate::result::Run;
use crate::statistics::{Spread, Verdict};

/// One number of one scenario in two runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change<'a> {
    /// The scenario's title.
    pub(crate) title: &'a str,
    /// The number.
    pub(crate) metric: Metric,
    /// Its spread in the first run.
    pub(crate) before: Spread,
    /// Its spread in the second run.
    pub(crate) after: Spread,
    /// The ratio of after to before. The runs weren't taken in turn, so there are no pairs: the ends are the worst
    /// cases.
    pub(crate) ratio: Spread,
    /// The wider noise of the two runs.
    pub(crate) noise: Option<Spread>,
    /// The difference that is left beyond the noise.
    pub(crate) verdict: Verdict,
}

/// Returns the changes of the first run's reference, for the scenarios that both runs have with the same work.
pub(crate) fn changes<'a>(before: &Analysis<'a>, after: &Analysis<'a>) -> Vec<Change<'a>> {
    let Some(peer) = before.reference else { return Vec::new() };
    let mut changes = Vec::new();
    for scenario in &before.scenarios {
        let same = |other: &&ScenarioAnalysis| {
            other.scenario.id == scenario.scenario.id && other.scenario.work == scenario.scenario.work
        };
        let Some(other) = after.scenarios.iter().find(same) else { continue };
        for metric in compared(scenario) {
            if let (Some(one), Some(two)) = (scenario.row(metric), other.row(metric)) {
                changes.extend(change(&scenario.scenario.title, peer, one, two));
            }
        }
    }
    changes
}

/// Draws a figure for each metric that changed or could have.
///
/// # Errors
/// When a plot can't be drawn.
pub(crate) fn figures(before: &Analysis, changes: &[Change]) -> Result<Vec<Figure>, ReportError> {
    let Some(peer) = before.reference else { return Ok(Vec::new()) };
    let mut figures = Vec::new();
    for metric in Metric::ALL {
        let of_metric: Vec<&Change> = changes.iter().filter(|change| change.metric == metric).collect();
        if !of_metric.is_empty() {
            figures.push(figure(peer, style_of(before, peer), metric, &of_metric)?);
        }
    }
    Ok(figures)
}

/// Returns the facts in which the hosts differ, so that a change may be the host's.
pub(crate) fn host_differences(before: &Run, after: &Run) -> Vec<&'static str> {
    let (one, two) = (&before.host, &after.host);
    let facts = [
        ("kernel", one.kernel != two.kernel),
        ("CPU", one.cpu != two.cpu),
        ("cores", one.cores != two.cores),
        ("governor", one.governor != two.governor),
        ("congestion control", one.congestion_control != two.congestion_control),
        ("pinning", (&one.server_cores, &one.client_cores) != (&two.server_cores, &two.client_cores)),
        ("memory", one.memory_bytes != two.memory_bytes),
    ];
    facts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Returns the two numbers by which the work is judged first, and the tail of its latency.
fn compared(scenario: &ScenarioAnalysis) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = key_metrics(&scenario.scenario.work).iter().copied().take(2).collect();
    if !metrics.contains(&Metric::LatencyP99) {
        metrics.push(Metric::LatencyP99);
    }
    metrics
}

fn change<'a>(title: &'a str, peer: &str, before: &MetricRow, after: &MetricRow) -> Option<Change<'a>> {
    let (one, two) = (before.cell(peer)?.measured, after.cell(peer)?.measured);
    let ratio = Spread { median: two.median / one.median, min: two.min / one.max, max: two.max / one.min };
    let noises = [before.noise, after.noise].into_iter().flatten().map(|noise| noise.spread);
    let noise = noises.max_by(|one, other| f64::total_cmp(&one.max, &other.max));
    let verdict = Verdict::of(ratio, noise.unwrap_or(Spread { median: 1.0, min: 1.0, max: 1.0 }));
    Some(Change { title, metric: before.metric, before: one, after: two, ratio, noise, verdict })
}

fn figure(peer: &str, style: usize, metric: Metric, changes: &[&Change]) -> Result<Figure, ReportError> {
    let rows = changes.iter().map(|change| Row {
        label: row_label(change.title),
        style,
        band: change.noise.map(|noise| (noise.min, noise.max)),
        hollow: None,
        mark: Some(change.ratio),
    });
    RatioFigure {
        metric,
        ratio: "After / before".to_owned(),
        note: "whiskers: worst cases of both spreads".to_owned(),
        peers: vec![LegendEntry::Peer { name: peer.to_owned(), style }],
        rows: rows.collect(),
    }
    .draw()
}

#[cfg(test)]
mod tests {
    use super::{changes, host_differences};
    use crate::report::analysis::Analysis;
    use crate::report::made_up::{bare_run, peer, pull, sample};
    use crate::report::metric::Metric;
    use crate::result::{Run, Sample, Scenario};
    use crate::statistics::{Spread, Verdict};

    fn run(bytes: [u64; 3], again: [u64; 3]) -> Run {
        let of = |name: &str, values: [u64; 3]| -> Vec<Sample> {
            let rounds = (1..).zip(values);
            rounds.map(|(round, bytes)| Sample { bytes, requests: 1, ..sample(name, round) }).collect()
        };
        let samples = [of("streamd", bytes), of("streamd-again", again)].concat();
        let scenario = Scenario { samples, ..pull("one", 1 << 30, 1) };
        Run { peers: vec![peer("streamd")], scenarios: vec![scenario], ..bare_run() }
    }

    #[test]
    fn a_change_counts_once_its_worst_case_is_beyond_the_wider_noise() {
        let before = run([1000, 1100, 1200], [1000, 1100, 1200]);
        let after = run([2400, 2200, 2000], [2400, 2200, 3000]);
        let (before, after) = (Analysis::of(&before), Analysis::of(&after));
        let found = changes(&before, &after);
        let throughput = found.iter().find(|change| change.metric == Metric::Throughput).unwrap();
        assert_eq!(throughput.ratio, Spread { median: 2.0, min: 2000.0 / 1200.0, max: 2.4 });
        assert_eq!(throughput.noise.unwrap().max, 1.5);
        assert_eq!(throughput.verdict, Verdict::Higher);
        let back = changes(&after, &before);
        assert_eq!(
            back.iter().find(|change| change.metric == Metric::Throughput).unwrap().verdict,
            Verdict::Lower
        );
        let same = changes(&before, &before);
        assert!(same.iter().all(|change| change.verdict == Verdict::None), "{same:?}");
    }

    #[test]
    fn only_the_same_work_is_compared() {
        let (before, mut after) = (run([1; 3], [1; 3]), run([1; 3], [1; 3]));
        after.scenarios[0].work = pull("one", 1 << 20, 1).work;
        assert_eq!(changes(&Analysis::of(&before), &Analysis::of(&after)), []);
    }

    #[test]
    fn different_hosts_are_named() {
        let mut after = bare_run();
        after.host.kernel = "6.19.0".to_owned();
        after.host.server_cores = vec![3];
        assert_eq!(host_differences(&bare_run(), &after), ["kernel", "pinning"]);
        assert_eq!(host_differences(&after, &after), [""; 0]);
    }
}
