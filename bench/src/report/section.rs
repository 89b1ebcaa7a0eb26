//! The parts of a run's page: overview, figures, the table of each scenario.

use super::analysis::{Analysis, Cell, MetricRow, NoiseSource, ScenarioAnalysis};
use super::error::ReportError;
use super::figure::{Figure, LegendEntry, style_of};
use super::metric::key_metrics;
use super::plot;
use super::text::{escaped, measured, ratio_range, ratio_spread, verdict};
use crate::result::Work;
use crate::statistics::Verdict;

/// The numbers of each scenario in the overview.
const OVERVIEW_METRICS: usize = 2;

/// Writes the most telling numbers of every scenario, with every peer's ratio to the reference.
pub(crate) fn overview(html: &mut String, analysis: &Analysis) -> Result<(), ReportError> {
    html.push_str("<h2>At a glance</h2>\n");
    let Some(reference) =
        analysis.reference.filter(|_| analysis.scenarios.iter().any(|of| !of.rows.is_empty()))
    else {
        html.push_str("<p>Nothing was measured.</p>\n");
        return Ok(());
    };
    if analysis.others().next().is_some() {
        let name = escaped(reference);
        html.push_str(&format!(
            "<p>Values of {name}; for the others their value divided by that of {name}, "
        ));
        html.push_str("median of the pairs [min..max].</p>\n");
    }
    html.push_str(
        "<div class=\"scroll\"><table>\n<thead><tr><th>Scenario</th><th class=\"name\">Number</th>",
    );
    peer_heads(html, analysis, &analysis.reference_first().collect::<Vec<_>>())?;
    html.push_str("<th>Noise</th></tr></thead>\n<tbody>\n");
    for scenario in &analysis.scenarios {
        let rows = key_metrics(&scenario.scenario.work).iter().filter_map(|metric| scenario.row(*metric));
        for (index, row) in rows.take(OVERVIEW_METRICS).enumerate() {
            let title = if index == 0 { escaped(&scenario.scenario.title) } else { String::new() };
            let class = if index == 0 { " class=\"first\"" } else { "" };
            let better = row.metric.better();
            html.push_str(&format!("<tr{class}><th class=\"scenario\">{title}</th>"));
            html.push_str(&format!("<td class=\"name\">{}<small>{better}</small></td>", row.metric.title()));
            for peer in analysis.reference_first() {
                html.push_str(&overview_cell(row, row.cell(peer)));
            }
            html.push_str(&format!("<td>{}</td></tr>\n", noise(row)));
        }
    }
    html.push_str("</tbody>\n</table></div>\n");
    Ok(())
}

/// Writes every number of every scenario.
pub(crate) fn scenarios(html: &mut String, analysis: &Analysis) -> Result<(), ReportError> {
    if analysis.scenarios.is_empty() {
        return Ok(());
    }
    html.push_str("<h2>All measurements</h2>\n");
    for scenario in &analysis.scenarios {
        html.push_str(&format!("<h3>{}</h3>\n", escaped(&scenario.scenario.title)));
        html.push_str(&format!("<p class=\"quiet\">{}</p>\n", escaped(&conditions(scenario))));
        if scenario.rows.is_empty() {
            html.push_str("<p>No peer has a counted round.</p>\n");
        } else {
            scenario_table(html, analysis, scenario)?;
        }
        for (reason, peers) in scenario.without(&analysis.peers) {
            let peers = peers.into_iter().map(escaped).collect::<Vec<_>>().join(", ");
            if let Some(reason) = reason {
                html.push_str(&format!(
                    "<p class=\"quiet\">Not measured: {peers}: {}.</p>\n",
                    escaped(reason)
                ));
            }
        }
    }
    Ok(())
}

/// Writes figures beside each other as far as the window allows.
pub(crate) fn figures(html: &mut String, figures: &[Figure]) -> Result<(), ReportError> {
    html.push_str("<div class=\"grid\">\n");
    for figure in figures {
        let (title, note) = (escaped(&figure.title), escaped(&figure.note));
        html.push_str(&format!(
            "<figure>\n<figcaption>{title}<span>{note}</span></figcaption>\n<ul class=\"legend\">"
        ));
        for entry in &figure.legend {
            html.push_str(&legend_entry(entry)?);
        }
        html.push_str("</ul>\n");
        html.push_str(&format!(
            "<div class=\"plot\" role=\"img\" aria-label=\"{title}, {note}\">{}</div>\n",
            figure.svg
        ));
        html.push_str("</figure>\n");
    }
    html.push_str("</div>\n");
    Ok(())
}

/// Writes a part that is closed until it is clicked; `summary` and `content` are HTML.
pub(crate) fn details(html: &mut String, summary: &str, content: &str) {
    html.push_str(&format!("<details>\n<summary>{summary}</summary>\n{content}</details>\n"));
}

fn peer_heads(html: &mut String, analysis: &Analysis, peers: &[&str]) -> Result<(), ReportError> {
    for peer in peers {
        let swatch = plot::swatch(style_of(analysis, peer))?;
        html.push_str(&format!("<th>{swatch}{}</th>", escaped(peer)));
    }
    Ok(())
}

fn conditions(scenario: &ScenarioAnalysis) -> String {
    let plural = |count: u64, one: &str, several: &str| {
        if count == 1 { format!("1 {one}") } else { format!("{count} {several}") }
    };
    let rounds = plural(scenario.rounds as u64, "counted round", "counted rounds");
    let bodies = plural(scenario.digests_checked, "body", "bodies");
    let checked = match scenario.scenario.work {
        Work::Put { .. } => format!("{bodies} compared with what was uploaded"),
        _ => format!("SHA-256 of {bodies} compared with the source"),
    };
    format!("{}: {rounds}; {checked}", scenario.scenario.id)
}

fn scenario_table(
    html: &mut String,
    analysis: &Analysis,
    scenario: &ScenarioAnalysis,
) -> Result<(), ReportError> {
    let peers: Vec<&str> = analysis.reference_first().filter(|peer| scenario.has(peer)).collect();
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr><th>Number</th>");
    peer_heads(html, analysis, &peers)?;
    html.push_str("<th>Noise</th></tr></thead>\n<tbody>\n");
    for row in &scenario.rows {
        html.push_str(&format!("<tr><th>{}</th>", row.metric.title()));
        for peer in &peers {
            html.push_str(&full_cell(row, row.cell(peer)));
        }
        html.push_str(&format!("<td>{}</td></tr>\n", noise(row)));
    }
    html.push_str("</tbody>\n</table></div>\n");
    Ok(())
}

fn overview_cell(row: &MetricRow, cell: Option<&Cell>) -> String {
    match cell {
        None => "<td class=\"quiet\">–</td>".to_owned(),
        Some(cell) if cell.against.is_none() => {
            let text = measured(row.metric, cell.measured);
            format!("<td>{}<small>{}</small></td>", text.median, text.range)
        }
        Some(cell) => format!("<td>{}</td>", against(cell, false)),
    }
}

fn full_cell(row: &MetricRow, cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return "<td class=\"quiet\">–</td>".to_owned() };
    let text = measured(row.metric, cell.measured);
    format!("<td>{}<small>{}</small>{}</td>", text.median, text.range, against(cell, true))
}

/// Writes the ratio and its verdict: on two lines, or on one below a value.
fn against(cell: &Cell, below_value: bool) -> String {
    let Some(against) = cell.against else { return String::new() };
    let class = if against.verdict == Verdict::None { "" } else { " class=\"differs\"" };
    let (ratio, word) = (ratio_spread(against.ratio), verdict(against.verdict));
    if below_value {
        return format!("<small>× {ratio} <span{class}>{word}</span></small>");
    }
    format!("{ratio}<small{class}>{word}</small>")
}

fn noise(row: &MetricRow) -> String {
    match row.noise {
        None => "<span class=\"quiet\">not measured</span>".to_owned(),
        Some(noise) => {
            let mark = if noise.source == NoiseSource::Widest { " *" } else { "" };
            format!("{}{mark}", ratio_range(noise.spread))
        }
    }
}

fn legend_entry(entry: &LegendEntry) -> Result<String, ReportError> {
    Ok(match entry {
        LegendEntry::Peer { name, style } => format!("<li>{}{}</li>", plot::swatch(*style)?, escaped(name)),
        LegendEntry::Hollow(text) => format!("<li><span class=\"ring\"></span>{}</li>", escaped(text)),
        LegendEntry::Filled(text) => format!("<li><span class=\"ring full\"></span>{}</li>", escaped(text)),
        LegendEntry::Band(text) => format!("<li>{}{}</li>", plot::band_swatch()?, escaped(text)),
    })
}
