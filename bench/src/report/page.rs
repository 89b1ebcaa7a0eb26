//! The page of a report, one HTML file that needs nothing else: no script, no font, no picture from anywhere.

use super::analysis::{Analysis, MetricRow, NoiseSource, PAIRS_MIN};
use super::chart;
use super::comparison::{self, Change};
use super::error::ReportError;
use super::metric::Metric;
use super::read::check_version;
use super::section::{self, details, figures};
use super::text::{command, escaped, measured, ratio_range, ratio_spread, size, verdict};
use crate::result::Run;
use crate::statistics::Verdict;

/// The most runs on one page: each has its own tables and plots, and a browser has to lay them all out.
const RUNS_MAX: usize = 16;

/// Turns runs, oldest first, into one HTML page. Each run after the first is compared with that.
///
/// # Errors
/// When there is no run, more than 16, one of another format version, or a plot can't be drawn.
pub fn page(runs: &[Run]) -> Result<String, ReportError> {
    check(runs)?;
    let analyses: Vec<Analysis> = runs.iter().map(Analysis::of).collect();
    let mut html = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<title>stream-bench report</title>\n<style>\n");
    html.push_str(include_str!("page.css"));
    html.push_str("</style>\n</head>\n<body>\n<main>\n");
    head(&mut html, runs);
    if let Some((first, rest)) = analyses.split_first() {
        for later in rest {
            before_and_after(&mut html, first, later)?;
        }
    }
    for analysis in &analyses {
        one_run(&mut html, analysis, runs.len() > 1)?;
    }
    words(&mut html, &analyses);
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(html)
}

fn check(runs: &[Run]) -> Result<(), ReportError> {
    if runs.is_empty() {
        return Err(ReportError::NoRun);
    }
    if runs.len() > RUNS_MAX {
        return Err(ReportError::TooManyRuns { found: runs.len(), max: RUNS_MAX });
    }
    runs.iter().try_for_each(|run| check_version(&run.started, u64::from(run.format_version)))
}

fn head(html: &mut String, runs: &[Run]) {
    html.push_str("<h1>stream-bench report</h1>\n");
    let dates: Vec<String> = runs.iter().map(|run| escaped(&run.started)).collect();
    html.push_str(&format!("<p class=\"quiet\">{}</p>\n", dates.join(" &middot; ")));
}

fn one_run(html: &mut String, analysis: &Analysis, titled: bool) -> Result<(), ReportError> {
    html.push_str("<section class=\"run\">\n");
    if titled {
        html.push_str(&format!("<h2 class=\"run\">Run of {}</h2>\n", escaped(&analysis.run.started)));
    }
    facts(html, analysis.run);
    notices(html, analysis);
    section::overview(html, analysis)?;
    for group in chart::groups(analysis)? {
        html.push_str(&format!("<h2>{}</h2>\n", group.title));
        figures(html, &group.figures)?;
    }
    section::scenarios(html, analysis)?;
    peers(html, analysis.run);
    html.push_str("</section>\n");
    Ok(())
}

fn facts(html: &mut String, run: &Run) {
    let host = &run.host;
    let pinned = format!("server on {}, client on {}", cores(&host.server_cores), cores(&host.client_cores));
    let facts = [
        ("Kernel", format!("Linux {}", host.kernel)),
        ("Processor", format!("{}, {} cores", host.cpu, host.cores)),
        ("Memory", size(host.memory_bytes as f64)),
        ("Pinning", pinned),
        ("Frequency governor", host.governor.clone()),
        ("Congestion control", host.congestion_control.clone()),
    ];
    html.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        html.push_str(&format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(&value)));
    }
    let line = escaped(&command(&run.command_line));
    html.push_str(&format!(
        "<div class=\"wide\"><dt>Command line</dt><dd><code>{line}</code></dd></div>\n</dl>\n"
    ));
}

fn cores(cores: &[usize]) -> String {
    match cores {
        [] => "any core".to_owned(),
        [one] => format!("core {one}"),
        several => format!("cores {}", several.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Lists the circumstances that limit the meaning of the run.
fn notices(html: &mut String, analysis: &Analysis) {
    let run = analysis.run;
    let mut notices = Vec::new();
    if run.interrupted {
        notices.push("Interrupted: the run ended early; this is what it had measured by then.".to_owned());
    }
    for absent in &run.absent {
        notices.push(format!("Absent: {} ({}).", absent.name, absent.reason));
    }
    for scenario in &analysis.scenarios {
        for failure in &scenario.failures {
            let (title, peer, what) = (&scenario.scenario.title, failure.peer, failure.what);
            notices.push(format!("Errors: {title}: {peer}: {} requests failed: {what}.", failure.count));
        }
    }
    if let Some(pairs) = analysis.pairs_max().filter(|pairs| *pairs < PAIRS_MIN) {
        let claim = format!("{PAIRS_MIN} is the least for a claim");
        notices.push(format!("No ratio rests on more than {pairs} pairs of rounds: {claim}."));
    }
    let rows = || analysis.scenarios.iter().flat_map(|scenario| &scenario.rows);
    let borrowed = |row: &&MetricRow| row.noise.is_some_and(|noise| noise.source == NoiseSource::Widest);
    if analysis.pairs_max().is_some() && rows().all(|row| row.noise.is_none()) {
        notices.push("Noise wasn’t measured: differences are judged by the pairs alone.".to_owned());
    } else if rows().any(|row| borrowed(&row)) {
        let mark = "Where noise is marked with *";
        notices.push(format!("{mark} it wasn’t measured in that scenario: the widest of the run stands in."));
    }
    for notice in notices {
        html.push_str(&format!("<p class=\"notice\">{}</p>\n", escaped(&notice)));
    }
}

fn peers(html: &mut String, run: &Run) {
    if run.peers.is_empty() {
        return;
    }
    html.push_str("<h2>Peers and their configuration</h2>\n");
    for peer in &run.peers {
        let setup =
            if peer.setup.is_empty() { String::new() } else { format!("set up for {}; ", peer.setup) };
        let summary = format!(
            "<strong>{}</strong> <span class=\"quiet\">{}</span>",
            escaped(&peer.name),
            escaped(&format!("{setup}{}", peer.version))
        );
        let line = escaped(&command(&peer.command_line));
        let file = if peer.configuration.is_empty() {
            "<p class=\"quiet\">No configuration file.</p>\n".to_owned()
        } else {
            format!("<pre>{}</pre>\n", escaped(peer.configuration.trim_end()))
        };
        details(html, &summary, &format!("<pre>{line}</pre>\n{file}"));
    }
}

fn before_and_after(html: &mut String, before: &Analysis, after: &Analysis) -> Result<(), ReportError> {
    let (one, two) = (escaped(&before.run.started), escaped(&after.run.started));
    let peer = escaped(before.reference.unwrap_or("nothing"));
    html.push_str(&format!("<h2>Before and after: {peer}</h2>\n"));
    html.push_str(&format!("<p>Before is the run of {one}, after that of {two}. "));
    html.push_str(
        "The two weren’t taken in turn, so drift of the machine counts as a change. The ends of a ",
    );
    html.push_str("spread are its worst cases; a change inside the noise is none.</p>\n");
    let differences = comparison::host_differences(before.run, after.run);
    if !differences.is_empty() {
        let list = differences.join(", ");
        html.push_str(&format!(
            "<p class=\"notice\">The hosts differ in {list}: ratios say nothing about {peer} alone.</p>\n"
        ));
    }
    let changes = comparison::changes(before, after);
    if changes.is_empty() {
        html.push_str("<p class=\"notice\">The two runs have no scenario in common.</p>\n");
        return Ok(());
    }
    figures(html, &comparison::figures(before, &changes)?)?;
    change_table(html, &changes);
    Ok(())
}

fn change_table(html: &mut String, changes: &[Change]) {
    html.push_str("<h3>All changes</h3>\n<div class=\"scroll\"><table>\n");
    html.push_str("<thead><tr><th>Scenario</th><th class=\"name\">Number</th><th>Before</th><th>After</th>");
    html.push_str("<th>After / before</th><th>Noise</th><th>Change</th></tr></thead>\n<tbody>\n");
    let mut last = "";
    for change in changes {
        let (before, after) = (measured(change.metric, change.before), measured(change.metric, change.after));
        // The title stands once for the rows of a scenario.
        let title = if change.title == last { String::new() } else { escaped(change.title) };
        last = change.title;
        let noise = change.noise.map_or_else(|| "not measured".to_owned(), ratio_range);
        let word = match change.verdict {
            Verdict::None => "none".to_owned(),
            other => format!("<strong>{}</strong>", verdict(other)),
        };
        let class = if title.is_empty() { "" } else { " class=\"first\"" };
        let name = change.metric.title();
        html.push_str(&format!(
            "<tr{class}><th class=\"scenario\">{title}</th><td class=\"name\">{name}</td>"
        ));
        html.push_str(&format!("<td>{}<small>{}</small></td>", before.median, before.range));
        html.push_str(&format!("<td>{}<small>{}</small></td>", after.median, after.range));
        html.push_str(&format!(
            "<td>{}</td><td>{noise}</td><td>{word}</td></tr>\n",
            ratio_spread(change.ratio)
        ));
    }
    html.push_str("</tbody>\n</table></div>\n");
}

/// Explains the numbers that are shown.
fn words(html: &mut String, analyses: &[Analysis]) {
    html.push_str("<h2>What the numbers mean</h2>\n<dl class=\"words\">\n");
    let shown = |metric: &Metric| {
        let scenarios = analyses.iter().flat_map(|analysis| &analysis.scenarios);
        scenarios.into_iter().any(|scenario| scenario.row(*metric).is_some())
    };
    for metric in Metric::ALL.iter().filter(|metric| shown(metric)) {
        let better = if metric.more_is_better() { "More is better." } else { "Less is better." };
        html.push_str(&format!("<dt>{}</dt><dd>{} {better}</dd>\n", metric.title(), metric.meaning()));
    }
    let others = [
        (
            "Value",
            "Median over the counted rounds, below it the least and the greatest. Round 0 isn’t counted.",
        ),
        (
            "Ratio",
            "Peer by reference, taken round by round from measurements made in turn: median [min..max], after × \
             where it stands below a value. \
             Ratios travel from machine to machine, absolute values don’t.",
        ),
        (
            "Noise",
            "The same ratio of the reference to a second copy of itself; whichever side reaches further from 1 \
             counts for both.",
        ),
        (
            "Higher, lower, none",
            "Higher and lower when every pair lies beyond the noise on one side of 1; otherwise the difference \
             is none.",
        ),
    ];
    for (word, meaning) in others {
        html.push_str(&format!("<dt>{word}</dt><dd>{meaning}</dd>\n"));
    }
    html.push_str("</dl>\n");
}
