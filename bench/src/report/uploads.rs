//! The figure of uploads of all sizes and file systems: every peer by the reference.

use super::analysis::{Analysis, ScenarioAnalysis};
use super::error::ReportError;
use super::figure::{Figure, LegendEntry, RatioFigure, row_label, style_of};
use super::metric::Metric;
use super::plot::Row;
use super::text::printable;
use crate::result::Work;

/// The numbers by which uploads are judged.
const METRICS: [Metric; 2] = [Metric::ServerCpuPerGb, Metric::Throughput];

/// Draws a figure for each metric that has ratios.
///
/// # Errors
/// When a plot can't be drawn.
pub(crate) fn figures(analysis: &Analysis) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    for metric in METRICS {
        figures.extend(figure(analysis, metric)?);
    }
    Ok(figures)
}

fn figure(analysis: &Analysis, metric: Metric) -> Result<Option<Figure>, ReportError> {
    let uploads =
        analysis.scenarios.iter().filter(|scenario| matches!(scenario.scenario.work, Work::Put { .. }));
    let rows: Vec<Row> = uploads.flat_map(|scenario| rows(analysis, scenario, metric)).collect();
    let (Some(reference), false) = (analysis.reference, rows.is_empty()) else { return Ok(None) };
    let mut peers: Vec<LegendEntry> = Vec::new();
    for peer in analysis.others() {
        let style = style_of(analysis, peer);
        if rows.iter().any(|row| row.style == style) {
            peers.push(LegendEntry::Peer { name: peer.to_owned(), style });
        }
    }
    let reference = printable(reference);
    let ratio = format!("Peer / {reference}");
    RatioFigure { metric, ratio, note: format!("by that of {reference}"), peers, rows }.draw().map(Some)
}

/// Makes one row for each peer that has a ratio; the first bears the scenario's name.
fn rows(analysis: &Analysis, scenario: &ScenarioAnalysis, metric: Metric) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let Some(row) = scenario.row(metric) else { return rows };
    for peer in analysis.others() {
        let Some(against) = row.cell(peer).and_then(|cell| cell.against) else { continue };
        let label = if rows.is_empty() { row_label(&scenario.scenario.title) } else { String::new() };
        rows.push(Row {
            label,
            style: style_of(analysis, peer),
            band: row.noise.map(|noise| (noise.spread.min, noise.spread.max)),
            hollow: None,
            mark: Some(against.ratio),
        });
    }
    rows
}
