//! Tables for the terminal: plain text, at most [`WIDTH`] columns, the same in a pipe.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::analysis::{Analysis, MetricRow, NoiseSource, PAIRS_MIN, ScenarioAnalysis};
use super::metric::{Metric, key_metrics};
use super::text::{self, printable};
use crate::result::Run;
use crate::statistics::Verdict;

/// The columns of a table; narrower terminals wrap it themselves.
const WIDTH: u16 = 110;

/// The style of tables: columns have an alignment, and rows no separators, as a pair of lines belongs to the peer
/// whose name stands at the first.
const TABLE_STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('-').junction(' ').left('-').right('-'));

/// Writes the tables of `run`, one for each scenario, with its key numbers.
pub fn tables(run: &Run) -> String {
    let analysis = Analysis::of(run);
    let mut out = String::new();
    head(&mut out, &analysis);
    for scenario in &analysis.scenarios {
        out.push('\n');
        scenario_text(&mut out, &analysis, scenario);
    }
    foot(&mut out, &analysis);
    out
}

fn line(out: &mut String, text: std::fmt::Arguments) {
    out.push_str(&text.to_string());
    out.push('\n');
}

fn head(out: &mut String, analysis: &Analysis) {
    let run = analysis.run;
    line(
        out,
        format_args!(
            "run of {} on Linux {}, {}",
            printable(&run.started),
            printable(&run.host.kernel),
            printable(&run.host.cpu)
        ),
    );
    if run.interrupted {
        line(
            out,
            format_args!("INTERRUPTED: the run ended early, what follows is what it had measured by then"),
        );
    }
    if let Some(failure) = &run.failure {
        line(out, format_args!("FAILED: {}; what follows is what was measured before", printable(failure)));
    }
    for absent in &run.absent {
        line(out, format_args!("absent: {} ({})", printable(&absent.name), printable(&absent.reason)));
    }
    if analysis.scenarios.is_empty() {
        line(out, format_args!("nothing was measured"));
    }
}

fn scenario_text(out: &mut String, analysis: &Analysis, scenario: &ScenarioAnalysis) {
    let rounds =
        if scenario.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", scenario.rounds) };
    line(out, format_args!("{} ({rounds})", printable(&scenario.scenario.title)));
    let rows: Vec<&MetricRow> =
        key_metrics(&scenario.scenario.work).iter().filter_map(|metric| scenario.row(*metric)).collect();
    if rows.is_empty() {
        line(out, format_args!("  no peer has a counted round"));
    } else {
        line(out, format_args!("{}", grid(analysis, scenario, &rows).trim_fmt()));
    }
    for (reason, peers) in scenario.without(&analysis.peers) {
        let peers = peers.into_iter().map(printable).collect::<Vec<_>>().join(", ");
        match reason {
            Some(reason) => line(out, format_args!("  not measured: {peers}: {}", printable(reason))),
            None if rows.is_empty() => {}
            None => line(out, format_args!("  not measured: {peers}")),
        }
    }
    for failure in &scenario.failures {
        let (peer, what) = (printable(failure.peer), printable(failure.what));
        line(out, format_args!("  ERRORS: {peer}: {} requests failed: {what}", failure.count));
    }
}

/// Makes a table of peers by metrics.
fn grid(analysis: &Analysis, scenario: &ScenarioAnalysis, rows: &[&MetricRow]) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE_STYLE);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    let titles = rows.iter().map(|row| row.metric.title().to_owned());
    table.set_header(std::iter::once("Peer".to_owned()).chain(titles));
    for peer in analysis.peers.iter().filter(|peer| scenario.has(peer)) {
        let cells = rows.iter().map(|row| cell_text(row, peer));
        table.add_row(std::iter::once(printable(peer)).chain(cells));
    }
    if rows.iter().any(|row| row.noise.is_some()) {
        table.add_row(std::iter::once("noise".to_owned()).chain(rows.iter().map(|row| noise_text(row))));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cell_text(row: &MetricRow, peer: &str) -> String {
    let Some(cell) = row.cell(peer) else { return "-".to_owned() };
    let median = text::measured(row.metric, cell.measured).median;
    let Some(against) = cell.against else { return median };
    let sign = match against.verdict {
        Verdict::Higher => '+',
        Verdict::Lower => '-',
        Verdict::None => '=',
    };
    format!("{median}\n{} {sign}", text::ratio_spread(against.ratio))
}

fn noise_text(row: &MetricRow) -> String {
    let Some(noise) = row.noise else { return "not measured".to_owned() };
    let mark = if noise.source == NoiseSource::Widest { " *" } else { "" };
    format!("{}{mark}", text::ratio_range(noise.spread))
}

/// Explains how to read the tables.
fn foot(out: &mut String, analysis: &Analysis) {
    let Some(reference) = analysis.reference else { return };
    let Some(pairs) = analysis.pairs_max() else { return };
    let reference = printable(reference);
    out.push('\n');
    line(
        out,
        format_args!(
            "Second lines: the peer's value / {reference}'s, median of the pairs [min..max], and a verdict:"
        ),
    );
    line(
        out,
        format_args!(
            "  + higher, - lower, = no difference: the pairs reach into the noise or lie on both sides of 1."
        ),
    );
    let noises = || analysis.scenarios.iter().flat_map(|scenario| &scenario.rows).filter_map(|row| row.noise);
    if noises().next().is_none() {
        line(out, format_args!("  Noise wasn't measured: differences are judged by the pairs alone."));
    }
    if noises().any(|noise| noise.source == NoiseSource::Widest) {
        line(out, format_args!("  * not measured in this scenario: the widest noise of the run."));
    }
    if pairs < PAIRS_MIN {
        line(
            out,
            format_args!(
                "  No ratio rests on more than {pairs} pairs: {PAIRS_MIN} is the least for a claim."
            ),
        );
    }
    let more: Vec<&str> =
        Metric::ALL.iter().filter(|metric| metric.more_is_better()).map(|metric| metric.title()).collect();
    line(out, format_args!("More is better for {}; less for all others.", more.join(", ").to_lowercase()));
}

#[cfg(test)]
mod tests {
    use super::tables;
    use crate::report::made_up;

    #[test]
    fn full_run_fits_the_width_and_names_what_is_missing() {
        let text = tables(&made_up::full());
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 110, "{widest}\n{text}");
        assert!(text.contains("absent: h2o (not installed)"), "{text}");
        assert!(text.contains("ERRORS: caddy: 3 requests failed: time-out after 30 s"), "{text}");
        assert!(!text.contains("INTERRUPTED") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("* not measured in this scenario"), "{text}");
        assert!(text.contains("  not measured: nginx, lighttpd, caddy, ceiling"), "{text}");
        assert!(text.contains("  not measured: lighttpd, caddy: takes no uploads"), "{text}");
        assert!(!text.contains("streamd-again"), "{text}");
    }

    #[test]
    fn interrupted_run_says_so_first() {
        let text = tables(&made_up::interrupted());
        assert!(text.lines().nth(1).unwrap().starts_with("INTERRUPTED"), "{text}");
        assert!(text.contains("no peer has a counted round"), "{text}");
        assert!(text.contains("No ratio rests on more than 2 pairs: 5 is the least for a claim."), "{text}");
    }

    #[test]
    fn one_peer_has_values_and_no_ratios() {
        let text = tables(&made_up::single());
        assert!(text.contains("streamd") && !text.contains("Second lines"), "{text}");
        assert!(tables(&made_up::bare_run()).contains("nothing was measured"));
    }

    #[test]
    fn escape_sequences_of_a_result_file_stay_text() {
        let mut run = made_up::single();
        run.peers[0].name = "a\u{1b}[31m".to_owned();
        run.scenarios[0].title = "b\u{7}".to_owned();
        let text = tables(&run);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        assert!(text.contains("b\\u{7}"), "{text}");
    }
}
