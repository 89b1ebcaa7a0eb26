//! The report: the JSON of one or several runs becomes tables for the terminal and a page with plots.
//!
//! `read` takes a result file, `analysis` computes, `table` and `page` show; `chart` chooses what is plotted and
//! `plot` draws it.

mod analysis;
mod axis;
mod chart;
mod comparison;
mod error;
mod figure;
#[cfg(test)]
pub(crate) mod made_up;
mod metric;
mod page;
mod plot;
mod read;
mod section;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod uploads;

pub use error::ReportError;
pub use page::page;
pub use read::read;
pub use table::tables;
