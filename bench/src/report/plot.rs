//! Plots, drawn as SVG. Colours are fixed here and mapped to the reader's light or dark theme by the page's style
//! sheet, which selects elements by the colour that is written into them.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Polygon};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle};
use plotters_svg::SVGBackend;

use super::axis::Axis;
use super::error::ReportError;
use crate::statistics::Spread;

/// The colours of grid, axes, text and noise bands, which the style sheet knows.
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDC);
const FRAME: RGBColor = RGBColor(0x9A, 0x9A, 0x98);
const TEXT: RGBColor = RGBColor(0x55, 0x55, 0x53);
const BAND: RGBColor = RGBColor(0xCF, 0xD6, 0xDF);
/// The inside of hollow marks: the page's background.
const PAPER: RGBColor = RGBColor(0xFE, 0xFE, 0xFE);

/// Peers' colours, told apart with every common colour blindness (after Okabe and Ito); the last is for the
/// ceiling, which isn't a server that anyone runs.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xB4, 0x5C, 0x92),
    RGBColor(0xC9, 0x8B, 0x00),
    RGBColor(0x3F, 0x9F, 0xD6),
    RGBColor(0x77, 0x77, 0x77),
];

/// The style of the ceiling.
pub(crate) const CEILING_STYLE: usize = COLOURS.len() - 1;

/// Styles for all others, which repeat beyond that; the shapes do so later.
pub(crate) const PEER_STYLES: usize = COLOURS.len() - 1;

/// Plots are drawn at twice the size at which they are shown, since the library has whole pixels only.
const WIDTH: u32 = 880;
const HEIGHT: u32 = 560;
/// The library divides font sizes by 1.24: these are 23 and 24 in the drawing, half that on the page.
const TICK_FONT: f64 = 23.0 * 1.24;
const TITLE_FONT: f64 = 24.0 * 1.24;
const MARK: i32 = 8;
/// The distance of neighbouring series' marks, so that their whiskers don't cover each other.
const DODGE: i32 = 7;

/// Lines over an axis, one for each peer.
#[derive(Debug)]
pub(crate) struct LinePlot {
    /// The title for error texts.
    pub(crate) title: String,
    /// The horizontal axis.
    pub(crate) x: Axis,
    /// The vertical axis.
    pub(crate) y: Axis,
    /// The lines.
    pub(crate) series: Vec<Series>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Series {
    /// The number of its colour and shape.
    pub(crate) style: usize,
    /// Its values over x, ascending.
    pub(crate) points: Vec<(f64, Spread)>,
    /// The noise around the line: x, least, greatest; empty where none is shown.
    pub(crate) band: Vec<(f64, f64, f64)>,
}

/// Rows of marks over a horizontal axis.
#[derive(Debug)]
pub(crate) struct RowPlot {
    /// The title for error texts.
    pub(crate) title: String,
    /// The horizontal axis.
    pub(crate) x: Axis,
    /// The rows from top to bottom.
    pub(crate) rows: Vec<Row>,
    /// The value that means no difference, at which a line is drawn from top to bottom.
    pub(crate) neutral: Option<f64>,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) label: String,
    /// The number of its colour and shape.
    pub(crate) style: usize,
    /// The noise around the neutral value.
    pub(crate) band: Option<(f64, f64)>,
    /// The value before, or without the load.
    pub(crate) hollow: Option<Spread>,
    /// The value itself.
    pub(crate) mark: Option<Spread>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;
type Outcome<T = ()> = Result<T, String>;
type Pixel = (i32, i32);

/// Gives the library the axis's own ticks, which it would otherwise choose itself.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.0) / (self.range.1 - self.range.0);
        let (from, to) = (f64::from(limit.0), f64::from(limit.1));
        #[expect(clippy::cast_possible_truncation, reason = "clamped to the pixels between two i32")]
        let pixel = (from + (to - from) * share.clamp(0.0, 1.0)).round() as i32;
        pixel
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(position, _)| *position).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, position: &f64) -> String {
        self.text(*position)
    }
}

/// Draws `plot` as an SVG element.
///
/// # Errors
/// When the library fails.
pub(crate) fn lines(plot: &LinePlot) -> Result<String, ReportError> {
    let drawn = draw((WIDTH, HEIGHT), |area| {
        let chart = frame(area, &plot.x, &plot.y, 130, true)?;
        let pixel = |x: f64, y: f64| chart.backend_coord(&(plot.x.place(x), plot.y.place(y)));
        let count = i32::try_from(plot.series.len()).unwrap_or(0);
        let leftmost = -DODGE * (count - 1) / 2;
        let dodged = || plot.series.iter().zip((0..).map(|index| leftmost + index * DODGE));
        for (series, dodge) in dodged() {
            draw_band(area, series, |x, y| shifted(pixel(x, y), dodge))?;
        }
        for (series, dodge) in dodged() {
            draw_series(area, series, |x, y| shifted(pixel(x, y), dodge))?;
        }
        Ok(())
    });
    drawn.map_err(|reason| ReportError::Plot { title: plot.title.clone(), reason })
}

fn shifted((left, top): Pixel, dodge: i32) -> Pixel {
    (left + dodge, top)
}

fn draw_band(area: &Area, series: &Series, pixel: impl Fn(f64, f64) -> Pixel) -> Outcome {
    if series.band.len() < 2 {
        return Ok(());
    }
    let lower = series.band.iter().map(|(x, low, _)| pixel(*x, *low));
    let upper = series.band.iter().rev().map(|(x, _, high)| pixel(*x, *high));
    polygon(area, lower.chain(upper).collect(), BAND)
}

fn draw_series(area: &Area, series: &Series, pixel: impl Fn(f64, f64) -> Pixel) -> Outcome {
    let colour = colour(series.style);
    path(area, series.points.iter().map(|(x, of)| pixel(*x, of.median)).collect(), colour, 3)?;
    for (x, of) in &series.points {
        whisker(area, [pixel(*x, of.min), pixel(*x, of.max)], colour)?;
        mark(area, series.style, pixel(*x, of.median), false)?;
    }
    Ok(())
}

/// Draws `plot` as an SVG element.
///
/// # Errors
/// When the library fails.
pub(crate) fn rows(plot: &RowPlot) -> Result<String, ReportError> {
    let height = 130 + 40 * u32::try_from(plot.rows.len()).unwrap_or(1);
    let labels = plot.rows.iter().rev().map(|row| row.label.clone());
    let y = Axis::ordinal(String::new(), labels);
    let longest = plot.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let left = (u32::try_from(longest).unwrap_or(0) * 12 + 40).clamp(110, WIDTH / 2);
    let drawn = draw((WIDTH, height), |area| {
        let chart = frame(area, &plot.x, &y, left, false)?;
        let top_row = plot.rows.len() as f64 - 1.0;
        let pixel = |row: f64, x: f64| chart.backend_coord(&(plot.x.place(x), top_row - row));
        let mut index = 0.0;
        for row in &plot.rows {
            if let Some((low, high)) = row.band {
                let ((left, middle), (right, _)) = (pixel(index, low), pixel(index, high));
                let corners = [(left, -14), (right, -14), (right, 14), (left, 14)];
                polygon(area, corners.map(|(x, y)| (x, middle + y)).to_vec(), BAND)?;
            }
            index += 1.0;
        }
        if let Some(neutral) = plot.neutral {
            let ((x, top), (_, bottom)) = (pixel(-0.5, neutral), pixel(top_row + 0.5, neutral));
            path(area, vec![(x, top), (x, bottom)], FRAME, 2)?;
        }
        let mut index = 0.0;
        for row in &plot.rows {
            draw_row(area, row, |x| pixel(index, x))?;
            index += 1.0;
        }
        Ok(())
    });
    drawn.map_err(|reason| ReportError::Plot { title: plot.title.clone(), reason })
}

fn draw_row(area: &Area, row: &Row, pixel: impl Fn(f64) -> Pixel) -> Outcome {
    let colour = colour(row.style);
    if let (Some(from), Some(to)) = (row.hollow, row.mark) {
        path(area, vec![pixel(from.median), pixel(to.median)], colour, 2)?;
    }
    for (of, hollow) in [(row.hollow, true), (row.mark, false)] {
        if let Some(of) = of {
            whisker(area, [pixel(of.min), pixel(of.max)], colour)?;
            mark(area, row.style, pixel(of.median), hollow)?;
        }
    }
    Ok(())
}

/// Draws the colour and shape of `style` alone, as a small SVG element for legends.
///
/// # Errors
/// When the library fails.
pub(crate) fn swatch(style: usize) -> Result<String, ReportError> {
    let drawn = draw((28, 24), |area| {
        path(area, vec![(0, 12), (28, 12)], colour(style), 3)?;
        mark(area, style, (14, 12), false)
    });
    drawn.map_err(|reason| ReportError::Plot { title: "legend".to_owned(), reason })
}

/// Draws the colour of noise bands, as a small SVG element for legends.
///
/// # Errors
/// When the library fails.
pub(crate) fn band_swatch() -> Result<String, ReportError> {
    let drawn = draw((28, 24), |area| polygon(area, vec![(0, 4), (28, 4), (28, 20), (0, 20)], BAND));
    drawn.map_err(|reason| ReportError::Plot { title: "legend".to_owned(), reason })
}

fn draw(size: (u32, u32), content: impl FnOnce(&Area) -> Outcome) -> Outcome<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        content(&area)?;
        area.present().map_err(text_of)?;
    }
    Ok(svg)
}

/// Draws axes, ticks, titles and the grid.
fn frame<'a>(area: &Area<'a>, x: &Axis, y: &Axis, left: u32, y_grid: bool) -> Outcome<Chart<'a>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(16)
        .margin_right(30)
        .x_label_area_size(78)
        .y_label_area_size(if y.title.is_empty() { left } else { left + 34 })
        .build_cartesian_2d(x.clone(), y.clone())
        .map_err(text_of)?;
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(GRID.stroke_width(1))
        .light_line_style(GRID.mix(0.0))
        .axis_style(FRAME.stroke_width(2))
        .label_style(("sans-serif", TICK_FONT).into_font().color(&TEXT))
        .axis_desc_style(("sans-serif", TITLE_FONT).into_font().color(&TEXT))
        .set_all_tick_mark_size(6)
        .x_desc(x.title.as_str());
    if !y.title.is_empty() {
        mesh.y_desc(y.title.as_str());
    }
    if !y_grid {
        mesh.disable_y_mesh();
    }
    mesh.draw().map_err(text_of)?;
    Ok(chart)
}

fn colour(style: usize) -> RGBColor {
    COLOURS.get(style % COLOURS.len()).copied().unwrap_or(TEXT)
}

fn whisker(area: &Area, ends: [Pixel; 2], colour: RGBColor) -> Outcome {
    path(area, ends.to_vec(), colour, 2)?;
    let [(left, top), (right, bottom)] = ends;
    // The caps lie across the whisker, whichever way it runs.
    let (across_x, across_y) = if left == right { (5, 0) } else { (0, 5) };
    for (x, y) in [(left, top), (right, bottom)] {
        path(area, vec![(x - across_x, y - across_y), (x + across_x, y + across_y)], colour, 2)?;
    }
    Ok(())
}

/// Draws a mark of `style`, whose shape tells as much as its colour.
fn mark(area: &Area, style: usize, at: Pixel, hollow: bool) -> Outcome {
    let corners = corners(style).into_iter().map(|(x, y)| (at.0 + x, at.1 + y));
    let mut outline: Vec<Pixel> = corners.collect();
    polygon(area, outline.clone(), if hollow { PAPER } else { colour(style) })?;
    outline.extend(outline.first().copied());
    path(area, outline, colour(style), if hollow { 3 } else { 1 })
}

fn corners(style: usize) -> Vec<Pixel> {
    const WIDE: i32 = MARK + 2;
    match style % COLOURS.len() {
        // The corners of a circle, close enough at this size.
        0 => (0..16).map(|step| around(f64::from(step) / 16.0)).collect(),
        1 => vec![(-MARK, -MARK), (MARK, -MARK), (MARK, MARK), (-MARK, MARK)],
        2 => vec![(0, -WIDE), (WIDE, MARK), (-WIDE, MARK)],
        3 => vec![(0, -WIDE), (WIDE, 0), (0, WIDE), (-WIDE, 0)],
        4 => vec![(0, WIDE), (WIDE, -MARK), (-WIDE, -MARK)],
        5 => vec![(-WIDE, -4), (WIDE, -4), (WIDE, 4), (-WIDE, 4)],
        _ => vec![(-4, -WIDE), (4, -WIDE), (4, WIDE), (-4, WIDE)],
    }
}

fn around(turn: f64) -> Pixel {
    let radius = f64::from(MARK) + 0.6;
    let (sine, cosine) = (turn * std::f64::consts::TAU).sin_cos();
    #[expect(clippy::cast_possible_truncation, reason = "a radius of a few pixels")]
    let pixel = ((radius * cosine).round() as i32, (radius * sine).round() as i32);
    pixel
}

fn path(area: &Area, points: Vec<Pixel>, colour: RGBColor, width: u32) -> Outcome {
    area.draw(&PathElement::new(points, colour.stroke_width(width))).map_err(text_of)
}

fn polygon(area: &Area, points: Vec<Pixel>, colour: RGBColor) -> Outcome {
    area.draw(&Polygon::new(points, ShapeStyle::from(&colour).filled())).map_err(text_of)
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}
