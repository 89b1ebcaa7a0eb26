//! The choice of a run's plots: everything that was measured at several sizes or connection counts, latencies, and
//! the effect of load on a slow device on hot requests.

use super::analysis::{Analysis, ScenarioAnalysis};
use super::axis::Axis;
use super::error::ReportError;
use super::figure::{Figure, LegendEntry, style_of};
use super::metric::{Metric, Quantity};
use super::plot::{self, LinePlot, Row, RowPlot, Series};
use super::text;
use super::uploads;
use crate::result::Work;
use crate::statistics::Spread;

/// Figures that belong together.
#[derive(Debug)]
pub(crate) struct Group {
    /// The words for what they have in common.
    pub(crate) title: &'static str,
    /// The figures; at least one.
    pub(crate) figures: Vec<Figure>,
}

/// Scenarios that differ in one number alone.
struct Sweep<'a, 'b> {
    kind: &'static str,
    conditions: String,
    /// By that number, ascending.
    points: Vec<(f64, &'b ScenarioAnalysis<'a>)>,
}

/// Draws everything that can be plotted of one run, groups without figures left out.
///
/// # Errors
/// When a plot can't be drawn.
pub(crate) fn groups(analysis: &Analysis) -> Result<Vec<Group>, ReportError> {
    let groups = [
        ("By size", by_size(analysis)?),
        ("By number of connections", by_connections(analysis)?),
        ("Uploads", uploads::figures(analysis)?),
        ("Hot requests beside a slow device", mixed(analysis)?),
        ("Latency", latencies(analysis)?),
    ];
    let filled = groups.into_iter().filter(|(_, figures)| !figures.is_empty());
    Ok(filled.map(|(title, figures)| Group { title, figures }).collect())
}

fn by_size(analysis: &Analysis) -> Result<Vec<Figure>, ReportError> {
    let metrics = [Metric::Throughput, Metric::ServerCpuPerGb, Metric::ServerCpuPerRequest];
    let mut figures = Vec::new();
    for sweep in sweeps(analysis, size_key) {
        let x = |values: &[f64]| Axis::log_at("Body size, bytes".to_owned(), values, text::size);
        for metric in metrics {
            figures.extend(sweep_figure(analysis, &sweep, metric, x)?);
        }
    }
    Ok(figures)
}

fn by_connections(analysis: &Analysis) -> Result<Vec<Figure>, ReportError> {
    let metrics = [Metric::Throughput, Metric::ServerCpuPerGb, Metric::MemoryPerConnection];
    let mut figures = Vec::new();
    for sweep in sweeps(analysis, connections_key) {
        let count = |value: f64| text::tick(Quantity::Plain, value);
        let x = |values: &[f64]| Axis::log_at("Connections".to_owned(), values, count);
        for metric in metrics {
            figures.extend(sweep_figure(analysis, &sweep, metric, x)?);
        }
    }
    Ok(figures)
}

/// Returns the kind of work, the size that varies, and the other conditions.
fn size_key(work: &Work) -> Option<(&'static str, f64, String)> {
    let (kind, body_bytes, connections, suffix) = match work {
        Work::Pull { body_bytes, connections, keep_alive, rate_per_s: None } => {
            ("pull", body_bytes, connections, if *keep_alive { "" } else { ", one request each" })
        }
        Work::Push { body_bytes, connections } => ("push", body_bytes, connections, ""),
        Work::Stream { body_bytes, connections } => ("POST /stream", body_bytes, connections, ""),
        _ => return None,
    };
    Some((kind, *body_bytes as f64, format!("{}{suffix}", connections_text(*connections))))
}

/// Returns the kind of work, the number of connections that varies, and the other conditions.
fn connections_key(work: &Work) -> Option<(&'static str, f64, String)> {
    let (kind, connections, conditions) = match work {
        Work::Pull { body_bytes, connections, keep_alive, rate_per_s: None } => {
            let suffix = if *keep_alive { "" } else { ", one request each" };
            ("pull", connections, format!("{}{suffix}", text::size(*body_bytes as f64)))
        }
        Work::Push { body_bytes, connections } => ("push", connections, text::size(*body_bytes as f64)),
        Work::Stream { body_bytes, connections } => {
            ("POST /stream", connections, text::size(*body_bytes as f64))
        }
        Work::Connections { connections, read_bytes_per_s: None } => ("idle", connections, String::new()),
        Work::Connections { connections, read_bytes_per_s: Some(rate) } => {
            ("slow readers", connections, format!("{}/s each", text::size(*rate as f64)))
        }
        _ => return None,
    };
    Some((kind, *connections as f64, conditions))
}

fn connections_text(connections: usize) -> String {
    let count = text::tick(Quantity::Plain, connections as f64);
    if connections == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

/// Returns the scenarios that differ only in the number that `key` returns, where there are at least two.
fn sweeps<'a, 'b>(
    analysis: &'b Analysis<'a>,
    key: fn(&Work) -> Option<(&'static str, f64, String)>,
) -> Vec<Sweep<'a, 'b>> {
    let mut sweeps: Vec<Sweep> = Vec::new();
    for scenario in &analysis.scenarios {
        let Some((kind, x, conditions)) = key(&scenario.scenario.work) else { continue };
        match sweeps.iter_mut().find(|sweep| sweep.kind == kind && sweep.conditions == conditions) {
            // If two scenarios have the same work, the first is shown.
            Some(sweep) if sweep.points.iter().any(|(at, _)| *at == x) => {}
            Some(sweep) => sweep.points.push((x, scenario)),
            None => sweeps.push(Sweep { kind, conditions, points: vec![(x, scenario)] }),
        }
    }
    sweeps.retain(|sweep| sweep.points.len() > 1);
    for sweep in &mut sweeps {
        sweep.points.sort_by(|one, other| f64::total_cmp(&one.0, &other.0));
    }
    sweeps
}

/// Draws one metric along a sweep; None where fewer than two of the points have values.
fn sweep_figure(
    analysis: &Analysis,
    sweep: &Sweep,
    metric: Metric,
    x: impl Fn(&[f64]) -> Axis,
) -> Result<Option<Figure>, ReportError> {
    let rows: Vec<_> = sweep.points.iter().filter_map(|(x, of)| Some((*x, of.row(metric)?))).collect();
    if rows.len() < 2 {
        return Ok(None);
    }
    let points_of = |peer: &str| -> Vec<(f64, Spread)> {
        rows.iter().filter_map(|(x, row)| Some((*x, row.cell(peer)?.measured))).collect()
    };
    let noise_at = |x: f64, of: Spread| {
        let noise = rows.iter().find(|(at, _)| *at == x)?.1.noise?.spread;
        Some((x, of.median * noise.min, of.median * noise.max))
    };
    let band = analysis.reference.map(points_of).unwrap_or_default();
    let band = band.into_iter().filter_map(|(x, of)| noise_at(x, of)).collect();
    let xs: Vec<f64> = rows.iter().map(|(x, _)| *x).collect();
    let title = metric.title().to_owned();
    let note = [sweep.kind, sweep.conditions.as_str()].into_iter().filter(|part| !part.is_empty());
    let note = note.collect::<Vec<_>>().join(", ");
    let figure = LineFigure { title, note, metric, x: x(&xs), points_of, band, is_log: false };
    figure.draw(analysis).map(Some)
}

/// A figure of one metric, a line for each peer.
struct LineFigure<P: Fn(&str) -> Vec<(f64, Spread)>> {
    title: String,
    note: String,
    metric: Metric,
    x: Axis,
    /// The points of a peer, by their places on the axis.
    points_of: P,
    /// The noise around the reference: a place on the axis, the least and the greatest.
    band: Vec<(f64, f64, f64)>,
    /// Whether the values have a logarithmic axis.
    is_log: bool,
}

impl<P: Fn(&str) -> Vec<(f64, Spread)>> LineFigure<P> {
    fn draw(self, analysis: &Analysis) -> Result<Figure, ReportError> {
        let LineFigure { title, note, metric, x, points_of, band, is_log } = self;
        let all = analysis.peers.iter().map(|peer| (*peer, points_of(peer)));
        let drawn: Vec<_> = all.filter(|(_, points)| !points.is_empty()).collect();
        let spreads =
            drawn.iter().flat_map(|(_, points)| points).flat_map(|(_, of)| [of.min, of.median, of.max]);
        let values: Vec<f64> = spreads.chain(band.iter().flat_map(|(_, low, high)| [*low, *high])).collect();
        let quantity = metric.quantity();
        let tick = move |value| text::tick(quantity, value);
        let axis_title = metric.axis_title();
        let y = if is_log {
            Axis::log(axis_title, &values, tick)
        } else {
            Axis::fitting(axis_title, &values, tick)
        };
        let style = |peer: &str| style_of(analysis, peer);
        let mut legend: Vec<LegendEntry> = drawn
            .iter()
            .map(|(peer, _)| LegendEntry::Peer { name: (*peer).to_owned(), style: style(peer) })
            .collect();
        if let (true, Some(reference)) = (band.len() > 1, analysis.reference) {
            legend.push(LegendEntry::Band(format!("noise around {reference}")));
        }
        let band_of = |peer: &str| if Some(peer) == analysis.reference { band.clone() } else { Vec::new() };
        let series = drawn.into_iter().map(|(peer, points)| Series {
            style: style(peer),
            points,
            band: band_of(peer),
        });
        let svg = plot::lines(&LinePlot { title: title.clone(), x, y, series: series.collect() })?;
        Ok(Figure { title, note, legend, svg })
    }
}

fn latencies(analysis: &Analysis) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    for scenario in &analysis.scenarios {
        let rows = || {
            Metric::LATENCIES.iter().zip(0..).map(|(metric, index)| (f64::from(index), scenario.row(*metric)))
        };
        if rows().all(|(_, row)| row.is_none()) {
            continue;
        }
        let points_of = |peer: &str| -> Vec<(f64, Spread)> {
            rows().filter_map(|(x, row)| Some((x, row?.cell(peer)?.measured))).collect()
        };
        let names = ["p50", "p90", "p99", "p99.9", "max"];
        let x = Axis::ordinal("Percentile of requests".to_owned(), names);
        let title = text::printable(&scenario.scenario.title);
        let note = loop_kind(&scenario.scenario.work);
        let (metric, band) = (Metric::LatencyP50, Vec::new());
        let figure = LineFigure { title, note, metric, x, points_of, band, is_log: true };
        figures.push(figure.draw(analysis)?);
    }
    Ok(figures)
}

fn loop_kind(work: &Work) -> String {
    match work {
        Work::Pull { rate_per_s: Some(rate), .. } => {
            format!(
                "open loop, {} requests/s, from the intended start",
                text::tick(Quantity::PerSecond, *rate)
            )
        }
        Work::Pull { .. } | Work::Push { .. } | Work::Stream { .. } | Work::Put { .. } => {
            "closed loop".to_owned()
        }
        Work::Connections { .. } => "probe requests".to_owned(),
        Work::Mixed { cold_pulls: 0, .. } => "hot requests, no cold load".to_owned(),
        Work::Mixed { .. } => "hot requests beside cold load".to_owned(),
        Work::MixedPut { uploads: 0, .. } => "hot requests, no uploads".to_owned(),
        Work::MixedPut { .. } => "hot requests beside uploads".to_owned(),
    }
}

/// The load that runs beside hot requests.
struct Beside {
    /// The work of the same requests with nothing beside them.
    twin: Work,
    /// The size and the connections of the hot requests.
    hot: (u64, usize),
    /// The kind of that load, and its count.
    note: String,
    /// The names of the two marks.
    without: &'static str,
    with: &'static str,
}

impl Beside {
    fn of(work: Work) -> Option<Beside> {
        let several = |count: usize, one: &str| {
            if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
        };
        match work {
            Work::Mixed { body_bytes, connections, cold_pulls: count @ 1.., rate_per_s } => Some(Beside {
                twin: Work::Mixed { body_bytes, connections, cold_pulls: 0, rate_per_s },
                hot: (body_bytes, connections),
                note: several(count, "cold pull"),
                without: "without cold load",
                with: "with cold load",
            }),
            Work::MixedPut { body_bytes, connections, uploads: count @ 1.., upload_bytes } => Some(Beside {
                twin: Work::MixedPut { body_bytes, connections, uploads: 0, upload_bytes },
                hot: (body_bytes, connections),
                note: several(count, "upload"),
                without: "without uploads",
                with: "with uploads",
            }),
            _ => None,
        }
    }
}

/// Draws, for each scenario with load on a slow device, the hot latencies beside those of its twin without.
fn mixed(analysis: &Analysis) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    for with in &analysis.scenarios {
        let Some(beside) = Beside::of(with.scenario.work) else { continue };
        let without = analysis.scenarios.iter().find(|other| other.scenario.work == beside.twin);
        let rows = mixed_rows(analysis, with, without);
        if rows.is_empty() {
            continue;
        }
        let marks = rows.iter().flat_map(|row| [row.hollow, row.mark]).flatten();
        let values: Vec<f64> = marks.flat_map(|of| [of.min, of.max]).collect();
        let x = Axis::log(Metric::LatencyP50.axis_title(), &values, |value| {
            text::tick(Quantity::Microseconds, value)
        });
        let title = "Hot latency".to_owned();
        let size = text::size(beside.hot.0 as f64);
        let note = format!("{size} over {}, {}", connections_text(beside.hot.1), beside.note);
        let hollow = without.map(|_| LegendEntry::Hollow(beside.without));
        let legend = hollow.into_iter().chain([LegendEntry::Filled(beside.with)]).collect();
        let svg = plot::rows(&RowPlot { title: title.clone(), x, rows, neutral: None })?;
        figures.push(Figure { title, note, legend, svg });
    }
    Ok(figures)
}

fn mixed_rows(analysis: &Analysis, with: &ScenarioAnalysis, without: Option<&ScenarioAnalysis>) -> Vec<Row> {
    let shown = [
        (Metric::LatencyP50, "p50"),
        (Metric::LatencyP99, "p99"),
        (Metric::LatencyP999, "p99.9"),
        (Metric::LatencyMax, "max"),
    ];
    let mut rows = Vec::new();
    for peer in &analysis.peers {
        for (metric, name) in shown {
            let of = |scenario: &ScenarioAnalysis| Some(scenario.row(metric)?.cell(peer)?.measured);
            let (hollow, mark) = (without.and_then(of), of(with));
            if hollow.is_some() || mark.is_some() {
                let label = format!("{} {name}", text::printable(peer));
                rows.push(Row { label, style: style_of(analysis, peer), band: None, hollow, mark });
            }
        }
    }
    rows
}
