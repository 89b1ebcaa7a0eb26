//! A figure of the page: a drawing with its title, its conditions and its legend, and the style that each peer has in
//! all figures of a run.

use super::analysis::Analysis;
use super::axis::Axis;
use super::error::ReportError;
use super::metric::Metric;
use super::plot::{self, CEILING_STYLE, PEER_STYLES, Row, RowPlot};
use super::text;

/// Characters of a scenario's title beside a plot: as many as half the plot's width holds.
const LABEL_CHARACTERS_MAX: usize = 32;

/// A plot with what a reader needs beside it.
#[derive(Debug)]
pub(crate) struct Figure {
    /// The number that is shown.
    pub(crate) title: String,
    /// The conditions under which it was measured.
    pub(crate) note: String,
    /// The meaning of the marks.
    pub(crate) legend: Vec<LegendEntry>,
    /// The drawing.
    pub(crate) svg: String,
}

/// One entry of a legend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LegendEntry {
    /// A peer's line or marks.
    Peer {
        /// Its name.
        name: String,
        /// Its colour and shape.
        style: usize,
    },
    /// The meaning of hollow marks.
    Hollow(&'static str),
    /// The meaning of filled marks.
    Filled(&'static str),
    /// The meaning of the band.
    Band(String),
}

/// A figure of ratios, a row for each, around 1 and over the noise.
pub(crate) struct RatioFigure {
    /// The number of which there are ratios.
    pub(crate) metric: Metric,
    /// The name of the ratio: `After / before`.
    pub(crate) ratio: String,
    /// The conditions under which it was measured.
    pub(crate) note: String,
    /// The peers whose ratios are shown.
    pub(crate) peers: Vec<LegendEntry>,
    /// The ratios as marks, the noise as bands.
    pub(crate) rows: Vec<Row>,
}

impl RatioFigure {
    /// Draws the figure.
    ///
    /// # Errors
    /// When the plot can't be drawn.
    pub(crate) fn draw(self) -> Result<Figure, ReportError> {
        let RatioFigure { metric, ratio, note, peers: mut legend, rows } = self;
        let marks = rows.iter().filter_map(|row| row.mark).flat_map(|of| [of.min, of.max]);
        let bands = rows.iter().filter_map(|row| row.band).flat_map(|(low, high)| [low, high]);
        // The axis reaches from 0.8 to 1.25 at least, so that noise looks like noise.
        let values: Vec<f64> = marks.chain(bands).chain([0.8, 1.25]).collect();
        if rows.iter().any(|row| row.band.is_some()) {
            legend.push(LegendEntry::Band("noise".to_owned()));
        }
        let title = metric.title().to_owned();
        let x = Axis::ratio(format!("{ratio}, {}", metric.better()), &values);
        let svg = plot::rows(&RowPlot { title: title.clone(), x, rows, neutral: Some(1.0) })?;
        Ok(Figure { title, note, legend, svg })
    }
}

/// Returns the colour and shape of `peer`, the same in all plots of a run.
pub(crate) fn style_of(analysis: &Analysis, peer: &str) -> usize {
    if peer == "ceiling" {
        return CEILING_STYLE;
    }
    let mut order = analysis.reference_first().filter(|name| *name != "ceiling");
    order.position(|name| name == peer).unwrap_or(0) % PEER_STYLES
}

/// Makes a row's label of a scenario's title: printable, and cut where it is too long.
pub(crate) fn row_label(title: &str) -> String {
    let title = text::printable(title);
    if title.chars().count() <= LABEL_CHARACTERS_MAX {
        return title;
    }
    let kept: String = title.chars().take(LABEL_CHARACTERS_MAX - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::row_label;

    #[test]
    fn long_titles_are_cut() {
        assert_eq!(row_label("1 GiB hot"), "1 GiB hot");
        assert_eq!(row_label(&"é".repeat(40)), format!("{}…", "é".repeat(31)));
    }
}
