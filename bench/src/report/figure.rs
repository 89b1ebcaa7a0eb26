//! A figure of the page: a drawing with its title, its conditions and its legend, and the style that each peer has in
//! all figures of a run.

use super::analysis::Analysis;
use super::plot::{CEILING_STYLE, PEER_STYLES};
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

/// The colour and shape of `peer`, the same in all plots of a run.
pub(crate) fn style_of(analysis: &Analysis, peer: &str) -> usize {
    if peer == "ceiling" {
        return CEILING_STYLE;
    }
    // The reference has the first style wherever it stands in the list.
    let mut order: Vec<&str> = analysis.reference.into_iter().chain(analysis.others()).collect();
    order.retain(|name| *name != "ceiling");
    order.iter().position(|name| *name == peer).unwrap_or(0) % PEER_STYLES
}

/// A scenario's title as the label of a row: printable, and cut where it is too long.
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
