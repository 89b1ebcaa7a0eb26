//! The meaning of a run's samples: the spread of every metric of every peer, the ratios to the reference pair by
//! pair, and which of the differences are more than noise.

use std::collections::BTreeMap;

use super::metric::Metric;
use crate::result::{Run, Sample, Scenario};
use crate::statistics::{Spread, Verdict, pair_ratios, spread};

/// The peer that the others are compared with, where it took part.
const REFERENCE: &str = "streamd";

/// The end of the reference's name where it took part a second time, as its own peer: the ratio of the two is noise
/// and nothing else.
const AGAIN_SUFFIX: &str = "-again";

/// Pairs below which a ratio's spread says little; the minimum for a claim.
pub(crate) const PAIRS_MIN: usize = 5;

/// One run, analysed.
#[derive(Debug)]
pub(crate) struct Analysis<'a> {
    /// The run.
    pub(crate) run: &'a Run,
    /// The peer that the others are compared with: the one named `streamd`, where it was measured, else the first that
    /// was.
    pub(crate) reference: Option<&'a str>,
    /// The peers in the order of the run, the reference's second self left out.
    pub(crate) peers: Vec<&'a str>,
    /// One for each scenario, in the order of the run.
    pub(crate) scenarios: Vec<ScenarioAnalysis<'a>>,
}

/// One scenario, analysed.
#[derive(Debug)]
pub(crate) struct ScenarioAnalysis<'a> {
    /// The scenario.
    pub(crate) scenario: &'a Scenario,
    /// Counted rounds: those of which at least one peer has a sample.
    pub(crate) rounds: usize,
    /// Bodies whose digest was compared, warm-up included.
    pub(crate) digests_checked: u64,
    /// The metrics of which there are values, in the order of [`Metric::ALL`].
    pub(crate) rows: Vec<MetricRow<'a>>,
    /// Failed requests by peer and by what was seen, the uncounted round included.
    pub(crate) failures: Vec<Failure<'a>>,
}

/// Requests that failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure<'a> {
    /// The peer that was asked.
    pub(crate) peer: &'a str,
    /// The failure, as the client saw it.
    pub(crate) what: &'a str,
    /// Requests that failed so.
    pub(crate) count: u64,
}

/// One metric of a scenario.
#[derive(Debug)]
pub(crate) struct MetricRow<'a> {
    /// The metric.
    pub(crate) metric: Metric,
    /// One for each peer that has values, in the order of the run.
    pub(crate) cells: Vec<Cell<'a>>,
    /// The noise that differences are judged against.
    pub(crate) noise: Option<Noise>,
}

/// A metric of one peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell<'a> {
    /// The peer.
    pub(crate) peer: &'a str,
    /// Its values over the counted rounds.
    pub(crate) measured: Spread,
    /// How it compares with the reference; None for the reference itself and where no round has both.
    pub(crate) against: Option<Against>,
}

/// A peer against the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Against {
    /// Peer by reference, over the rounds that have both.
    pub(crate) ratio: Spread,
    /// Rounds that have both.
    pub(crate) pairs: usize,
    /// The difference that is left beyond the noise.
    pub(crate) verdict: Verdict,
}

/// The noise: the ratio that something has to itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Noise {
    /// The spread around 1: which of two equal things is the first is arbitrary, thus the wider side holds for
    /// both.
    pub(crate) spread: Spread,
    /// The place where it was measured.
    pub(crate) source: NoiseSource,
}

/// The place where a noise floor was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoiseSource {
    /// In the scenario itself.
    Own,
    /// In another scenario of the run: the widest one.
    Widest,
}

impl<'a> Analysis<'a> {
    /// Analyses `run`.
    pub(crate) fn of(run: &'a Run) -> Analysis<'a> {
        let everyone = names(run);
        let is_measured = |name: &str| {
            run.scenarios.iter().flat_map(|scenario| &scenario.samples).any(|sample| sample.peer == name)
        };
        let mut measured = everyone.iter().copied().filter(|name| is_measured(name)).peekable();
        let first = measured.peek().or(everyone.first()).copied();
        let reference = measured.find(|name| *name == REFERENCE).or(first);
        let again = reference.map(|name| format!("{name}{AGAIN_SUFFIX}"));
        let is_again = |name: &str| again.as_deref() == Some(name);
        let peers: Vec<&str> = everyone.into_iter().filter(|name| !is_again(name)).collect();
        let scenarios =
            run.scenarios.iter().map(|scenario| analyse(scenario, &peers, reference, again.as_deref()));
        let mut analysis = Analysis { run, reference, scenarios: scenarios.collect(), peers };
        analysis.lend_noise();
        analysis.judge_all();
        analysis
    }

    /// Returns the peers other than the reference.
    pub(crate) fn others(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.peers.iter().copied().filter(|name| Some(*name) != self.reference)
    }

    /// Returns the reference first, wherever it stands in the run, then the others as the run has them.
    pub(crate) fn reference_first(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.reference.into_iter().chain(self.others())
    }

    /// Returns the most pairs that any ratio rests on; None where nothing is compared.
    pub(crate) fn pairs_max(&self) -> Option<usize> {
        let rows = self.scenarios.iter().flat_map(|scenario| &scenario.rows);
        rows.flat_map(|row| &row.cells).filter_map(|cell| cell.against.map(|against| against.pairs)).max()
    }

    /// Returns the widest noise of `metric` that the run measured.
    pub(crate) fn noise_widest(&self, metric: Metric) -> Option<Noise> {
        let rows = self.scenarios.iter().flat_map(|scenario| &scenario.rows);
        let noises = rows.filter(|row| row.metric == metric).filter_map(|row| row.noise);
        noises.max_by(|one, other| f64::total_cmp(&one.spread.max, &other.spread.max))
    }

    /// Gives the widest noise of the run to the rows that have none of their own.
    fn lend_noise(&mut self) {
        for metric in Metric::ALL {
            let widest =
                self.noise_widest(metric).map(|noise| Noise { source: NoiseSource::Widest, ..noise });
            let rows = self.scenarios.iter_mut().flat_map(|scenario| &mut scenario.rows);
            for row in rows.filter(|row| row.metric == metric && row.noise.is_none()) {
                row.noise = widest;
            }
        }
    }

    fn judge_all(&mut self) {
        let rows = self.scenarios.iter_mut().flat_map(|scenario| &mut scenario.rows);
        for row in rows {
            let noise = row.noise.map_or(Spread { median: 1.0, min: 1.0, max: 1.0 }, |noise| noise.spread);
            for against in row.cells.iter_mut().filter_map(|cell| cell.against.as_mut()) {
                against.verdict = Verdict::of(against.ratio, noise);
            }
        }
    }
}

impl<'a> ScenarioAnalysis<'a> {
    /// Returns the row of `metric`, where there are values.
    pub(crate) fn row(&self, metric: Metric) -> Option<&MetricRow<'a>> {
        self.rows.iter().find(|row| row.metric == metric)
    }

    /// Returns the reasons why peers have no value of any metric, with the peers: those that can't do the work
    /// first, then those of which nothing is known.
    pub(crate) fn without(&self, peers: &[&'a str]) -> Vec<(Option<&'a str>, Vec<&'a str>)> {
        let mut reasons: Vec<(Option<&str>, Vec<&str>)> = Vec::new();
        for peer in peers.iter().filter(|peer| !self.has(peer)) {
            let left_out = self.scenario.left_out.iter().find(|absent| absent.name == **peer);
            let reason = left_out.map(|absent| absent.reason.as_str());
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, peers)) => peers.push(peer),
                None => reasons.push((reason, vec![peer])),
            }
        }
        reasons.sort_by_key(|(reason, _)| reason.is_none());
        reasons
    }

    /// Whether `peer` has a value of any metric.
    pub(crate) fn has(&self, peer: &str) -> bool {
        self.rows.iter().any(|row| row.cell(peer).is_some())
    }
}

impl<'a> MetricRow<'a> {
    /// Returns the cell of `peer`, where it has values.
    pub(crate) fn cell(&self, peer: &str) -> Option<&Cell<'a>> {
        self.cells.iter().find(|cell| cell.peer == peer)
    }
}

/// Returns the peers that the run lists, then those that only samples or gaps name.
fn names(run: &Run) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let listed = run.peers.iter().map(|peer| peer.name.as_str());
    let sampled =
        run.scenarios.iter().flat_map(|scenario| &scenario.samples).map(|sample| sample.peer.as_str());
    let left_out =
        run.scenarios.iter().flat_map(|scenario| &scenario.left_out).map(|peer| peer.name.as_str());
    for name in listed.chain(sampled).chain(left_out) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn analyse<'a>(
    scenario: &'a Scenario,
    peers: &[&'a str],
    reference: Option<&str>,
    again: Option<&str>,
) -> ScenarioAnalysis<'a> {
    let mut rounds: Vec<usize> = counted(scenario).map(|sample| sample.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let metrics = Metric::ALL.into_iter().filter(|metric| metric.applies_to(&scenario.work));
    let rows = metrics.filter_map(|metric| row(scenario, metric, peers, reference, again));
    ScenarioAnalysis {
        scenario,
        rounds: rounds.len(),
        digests_checked: scenario.samples.iter().map(|sample| sample.digests_checked).sum(),
        rows: rows.collect(),
        failures: failures(scenario),
    }
}

/// Returns the counted samples: round 0 is the warm-up.
fn counted(scenario: &Scenario) -> impl Iterator<Item = &Sample> {
    scenario.samples.iter().filter(|sample| sample.round >= 1)
}

fn failures(scenario: &Scenario) -> Vec<Failure<'_>> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for sample in &scenario.samples {
        for (what, count) in &sample.errors {
            let sum = counts.entry((&sample.peer, what)).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    counts.into_iter().map(|((peer, what), count)| Failure { peer, what, count }).collect()
}

/// Returns the row of one metric; None where no peer has a value.
fn row<'a>(
    scenario: &Scenario,
    metric: Metric,
    peers: &[&'a str],
    reference: Option<&str>,
    again: Option<&str>,
) -> Option<MetricRow<'a>> {
    let base = reference.map(|name| by_round(scenario, metric, name)).unwrap_or_default();
    let cells: Vec<Cell> = peers
        .iter()
        .filter_map(|peer| {
            let values = by_round(scenario, metric, peer);
            let measured = spread(&values.values().copied().collect::<Vec<f64>>())?;
            let against = if Some(*peer) == reference { None } else { compare(&values, &base) };
            Some(Cell { peer, measured, against })
        })
        .collect();
    let repeated = again.map(|name| by_round(scenario, metric, name)).unwrap_or_default();
    let noise = compare(&repeated, &base)
        .map(|against| Noise { spread: around_one(against.ratio), source: NoiseSource::Own });
    (!cells.is_empty()).then_some(MetricRow { metric, cells, noise })
}

fn by_round(scenario: &Scenario, metric: Metric, peer: &str) -> BTreeMap<usize, f64> {
    let samples = counted(scenario).filter(|sample| sample.peer == peer);
    samples.filter_map(|sample| Some((sample.round, metric.value(sample)?))).collect()
}

/// Compares values with those of the reference, round by round; None where no round has both. The verdict waits until
/// the noise of the whole run is known.
fn compare(values: &BTreeMap<usize, f64>, base: &BTreeMap<usize, f64>) -> Option<Against> {
    let pairs = values.iter().filter_map(|(round, of)| Some((*of, *base.get(round)?)));
    let (of, to): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let ratios = pair_ratios(&of, &to);
    Some(Against { ratio: spread(&ratios)?, pairs: ratios.len(), verdict: Verdict::None })
}

fn around_one(ratio: Spread) -> Spread {
    let widest = ratio.max.max(1.0 / ratio.min);
    Spread { median: ratio.median, min: 1.0 / widest, max: widest }
}

#[cfg(test)]
mod tests {
    use super::{Against, Analysis, Failure, NoiseSource};
    use crate::report::made_up::{bare_run, peer, pull, sample};
    use crate::report::metric::Metric;
    use crate::result::{Absent, Run, Sample, Scenario};
    use crate::statistics::{Spread, Verdict};

    /// Makes a sample with `bytes` in its time and server CPU of `cpu_s`.
    fn simple(name: &str, round: usize, bytes: u64, cpu_s: f64) -> Sample {
        Sample { bytes, requests: 10, server_cpu_s: cpu_s, client_cpu_s: cpu_s, ..sample(name, round) }
    }

    fn scenario(id: &str, samples: Vec<Sample>) -> Scenario {
        Scenario { samples, ..pull(id, 1 << 30, 1) }
    }

    fn run(scenarios: Vec<Scenario>) -> Run {
        Run { peers: vec![peer("nginx"), peer("streamd")], scenarios, ..bare_run() }
    }

    fn three_rounds() -> Scenario {
        let samples = [(0, 1, 1), (1, 1000, 500), (2, 2000, 1000), (3, 4000, 2400)];
        let samples = samples.into_iter().flat_map(|(round, streamd, nginx)| {
            [simple("streamd", round, streamd, 0.5), simple("nginx", round, nginx, 0.25)]
        });
        scenario("one", samples.collect())
    }

    #[test]
    fn spreads_and_ratios_of_known_samples() {
        let run = run(vec![three_rounds()]);
        let analysis = Analysis::of(&run);
        assert_eq!(
            (analysis.reference, analysis.others().collect::<Vec<_>>()),
            (Some("streamd"), vec!["nginx"])
        );
        assert_eq!(analysis.scenarios[0].rounds, 3);
        let row = analysis.scenarios[0].row(Metric::Throughput).unwrap();
        let (nginx, streamd) = (row.cell("nginx").unwrap(), row.cell("streamd").unwrap());
        assert_eq!(streamd.measured, Spread { median: 2000.0, min: 1000.0, max: 4000.0 });
        assert_eq!(streamd.against, None);
        assert_eq!(nginx.measured, Spread { median: 1000.0, min: 500.0, max: 2400.0 });
        let ratio = Spread { median: 0.5, min: 0.5, max: 0.6 };
        assert_eq!(nginx.against, Some(Against { ratio, pairs: 3, verdict: Verdict::Lower }));
        let per_request = analysis.scenarios[0].row(Metric::ServerCpuPerRequest).unwrap();
        assert_eq!(per_request.cell("streamd").unwrap().measured.median, 50_000.0);
        assert_eq!(per_request.cell("nginx").unwrap().against.unwrap().ratio.median, 0.5);
        let both = analysis.scenarios[0].row(Metric::BothCpuPerGb).unwrap();
        // Two half seconds for 1,000, 2,000 and 4,000 bytes.
        assert_eq!(both.cell("streamd").unwrap().measured.median, 500_000.0);
        assert!(analysis.scenarios[0].row(Metric::Fairness).is_none());
        assert!(analysis.scenarios[0].row(Metric::ColdThroughput).is_none());
    }

    #[test]
    fn a_missing_round_drops_the_pair_and_not_its_neighbours() {
        let mut one = three_rounds();
        one.samples.retain(|sample| sample.peer != "nginx" || sample.round != 2);
        let run = run(vec![one]);
        let analysis = Analysis::of(&run);
        let against =
            analysis.scenarios[0].row(Metric::Throughput).unwrap().cell("nginx").unwrap().against.unwrap();
        assert_eq!((against.ratio.min, against.ratio.max, against.pairs), (0.5, 0.6, 2));
    }

    #[test]
    fn differences_inside_the_noise_are_none_in_other_scenarios_too() {
        let mut noisy = three_rounds();
        let again = [(1, 1000), (2, 1000), (3, 4400)];
        noisy.samples.extend(again.map(|(round, bytes)| simple("streamd-again", round, bytes, 0.5)));
        let mut calm = three_rounds();
        calm.id = "two".to_owned();
        let run = run(vec![noisy, calm]);
        let analysis = Analysis::of(&run);
        assert_eq!(analysis.peers, ["nginx", "streamd"]);
        let row = |index: usize| analysis.scenarios[index].row(Metric::Throughput).unwrap();
        let noise = row(0).noise.unwrap();
        // The ratios are 1, 0.5 and 1.1; half one way is twice the other way.
        assert_eq!(noise.spread, Spread { median: 1.0, min: 0.5, max: 2.0 });
        assert_eq!(noise.source, NoiseSource::Own);
        assert_eq!(row(0).cell("nginx").unwrap().against.unwrap().verdict, Verdict::None);
        assert_eq!(row(1).noise.unwrap().source, NoiseSource::Widest);
        assert_eq!(row(1).noise.unwrap().spread, noise.spread);
        assert_eq!(row(1).cell("nginx").unwrap().against.unwrap().verdict, Verdict::None);
        // The CPU was the same each time: there is no noise, and half of it is less.
        let cpu = analysis.scenarios[1].row(Metric::ServerCpuPerRequest).unwrap();
        assert_eq!(cpu.cell("nginx").unwrap().against.unwrap().verdict, Verdict::Lower);
    }

    #[test]
    fn failures_are_summed_and_a_peer_without_an_answer_has_no_cell() {
        let mut one = three_rounds();
        for round in [1, 2] {
            one.samples.push(Sample {
                errors: vec![("time-out".to_owned(), 3)],
                elapsed_s: 1.0,
                ..Sample { peer: "caddy".to_owned(), round, ..Sample::default() }
            });
        }
        let run = run(vec![one]);
        let analysis = Analysis::of(&run);
        assert_eq!(analysis.peers, ["nginx", "streamd", "caddy"]);
        let expected = Failure { peer: "caddy", what: "time-out", count: 6 };
        assert_eq!(analysis.scenarios[0].failures, [expected]);
        assert!(analysis.scenarios[0].row(Metric::Throughput).unwrap().cell("caddy").is_none());
    }

    #[test]
    fn who_was_never_measured_is_named_but_no_reference() {
        let mut one = three_rounds();
        one.samples.retain(|sample| sample.peer == "nginx");
        one.left_out = ["streamd", "h2o"]
            .map(|name| Absent { name: name.to_owned(), reason: "takes no uploads".to_owned() })
            .to_vec();
        let run = Run {
            peers: vec![peer("streamd"), peer("nginx"), peer("ceiling")],
            scenarios: vec![one],
            ..bare_run()
        };
        let analysis = Analysis::of(&run);
        assert_eq!(
            (analysis.reference, &analysis.peers[..]),
            (Some("nginx"), &["streamd", "nginx", "ceiling", "h2o"][..])
        );
        let without = analysis.scenarios[0].without(&analysis.peers);
        assert_eq!(without, [(Some("takes no uploads"), vec!["streamd", "h2o"]), (None, vec!["ceiling"])]);
    }

    #[test]
    fn without_streamd_the_first_peer_is_the_reference() {
        let mut one = three_rounds();
        one.samples.retain(|sample| sample.peer == "nginx");
        let run = Run { peers: vec![peer("nginx")], scenarios: vec![one], ..bare_run() };
        let analysis = Analysis::of(&run);
        assert_eq!((analysis.reference, analysis.pairs_max()), (Some("nginx"), None));
        assert_eq!(Analysis::of(&bare_run()).reference, None);
    }
}
