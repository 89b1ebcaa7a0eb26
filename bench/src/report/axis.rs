//! Axes: they map values to positions, with ticks that are round or exactly where something was measured.

/// The mapping of values to positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

/// One axis of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The number that it shows, with the unit.
    pub(crate) title: String,
    /// Positions of its two ends.
    pub(crate) range: (f64, f64),
    /// Positions and texts of its ticks, ascending.
    pub(crate) ticks: Vec<(f64, String)>,
    scale: Scale,
}

/// The ratio of the greatest to the least value above which a linear axis would flatten the small values.
const LINEAR_FACTOR_MAX: f64 = 12.0;

/// The least factor that a logarithmic axis spans: noise shouldn't fill a plot.
const LOG_FACTOR_MIN: f64 = 3.0;

/// Share of an axis that a tick's text needs; ticks nearer than this to the last one are left out.
const TICK_DISTANCE_MIN: f64 = 0.12;

/// Ticks on a linear axis, roughly.
const LINEAR_TICKS: f64 = 5.0;

/// Margin on both sides of a ratio axis, as a logarithm.
const RATIO_MARGIN: f64 = 0.01;

/// Ticks of a ratio axis that stays near 1, and of one that doesn't.
const RATIOS_NEAR: [f64; 7] = [0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5];
const RATIOS_FAR: [f64; 9] = [0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0];

impl Axis {
    /// Makes an axis from zero where the values are of one magnitude, and a logarithmic one where they aren't.
    /// `values` are positive.
    pub(crate) fn fitting(title: String, values: &[f64], text: impl Fn(f64) -> String) -> Axis {
        let (min, max) = ends(values);
        if max / min > LINEAR_FACTOR_MAX {
            Axis::log(title, values, text)
        } else {
            Axis::linear(title, max, text)
        }
    }

    /// Makes an axis from zero to a little above `max`.
    fn linear(title: String, max: f64, text: impl Fn(f64) -> String) -> Axis {
        let step = round_step(max / LINEAR_TICKS);
        let steps = (max * 1.02 / step).ceil();
        let ticks = count_to(steps).map(|index| index * step);
        Axis {
            title,
            range: (0.0, steps * step),
            ticks: ticks
                .map(|value| (value, if value == 0.0 { "0".to_owned() } else { text(value) }))
                .collect(),
            scale: Scale::Linear,
        }
    }

    /// Makes a logarithmic axis with round ticks. `values` are positive.
    pub(crate) fn log(title: String, values: &[f64], text: impl Fn(f64) -> String) -> Axis {
        let range = log_range(values);
        let ticks = log_ticks(range).into_iter().map(|value| (value.log10(), text(value))).collect();
        Axis { title, range, ticks, scale: Scale::Log }
    }

    /// Makes a logarithmic axis with a tick at each of `values`, which are positive.
    pub(crate) fn log_at(title: String, values: &[f64], text: impl Fn(f64) -> String) -> Axis {
        let range = log_range(values);
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for value in sorted {
            let position = value.log10();
            let distance_min = TICK_DISTANCE_MIN * (range.1 - range.0);
            if ticks.last().is_none_or(|(last, _)| position - last >= distance_min) {
                ticks.push((position, text(value)));
            }
        }
        Axis { title, range, ticks, scale: Scale::Log }
    }

    /// Makes a logarithmic axis for ratios, whose ticks are ratios that people name.
    pub(crate) fn ratio(title: String, values: &[f64]) -> Axis {
        let (min, max) = ends(values);
        let range = (min.log10() - RATIO_MARGIN, max.log10() + RATIO_MARGIN);
        let series: &[f64] = if range.1 - range.0 < 0.45 { &RATIOS_NEAR } else { &RATIOS_FAR };
        let shown = series.iter().filter(|value| (range.0..=range.1).contains(&value.log10()));
        let ticks = shown.map(|value| (value.log10(), value.to_string()));
        Axis { title, range, ticks: ticks.collect(), scale: Scale::Log }
    }

    /// Makes an axis with one place for each of `names`, from 0 on.
    pub(crate) fn ordinal<S: Into<String>>(title: String, names: impl IntoIterator<Item = S>) -> Axis {
        let mut position = -1.0;
        let places = names.into_iter().map(|name| {
            position += 1.0;
            (position, name.into())
        });
        let ticks: Vec<(f64, String)> = places.collect();
        Axis { title, range: (-0.5, ticks.len() as f64 - 0.5), ticks, scale: Scale::Linear }
    }

    /// Returns the position of `value`.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        }
    }

    /// Returns the text of the tick at `position`; empty where there is none.
    pub(crate) fn text(&self, position: f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| (at - position).abs() < 1e-9);
        tick.map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

fn ends(values: &[f64]) -> (f64, f64) {
    let positive = values.iter().copied().filter(|value| value.is_finite() && *value > 0.0);
    let (min, max) =
        positive.fold((f64::INFINITY, 0.0), |(min, max), value| (value.min(min), value.max(max)));
    if max > 0.0 { (min, max) } else { (1.0, 1.0) }
}

/// Returns the logarithms of both ends, with a margin so that no mark touches the frame.
fn log_range(values: &[f64]) -> (f64, f64) {
    let (min, max) = ends(values);
    let (low, high) = (min.log10(), max.log10());
    let lacking = (LOG_FACTOR_MIN.log10() - (high - low)).max(0.0);
    let margin = lacking / 2.0 + (high - low).max(LOG_FACTOR_MIN.log10()) * 0.07;
    (low - margin, high + margin)
}

/// Returns round values between the logarithms in `range`: the densest of the usual series that doesn't crowd.
fn log_ticks(range: (f64, f64)) -> Vec<f64> {
    let decades = range.1 - range.0;
    let mantissas: &[f64] = match decades {
        few if few <= 1.3 => &[1.0, 2.0, 5.0],
        some if some <= 2.6 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let every = (decades / 7.0).ceil().max(1.0);
    let mut ticks = Vec::new();
    let mut exponent = range.0.floor();
    while exponent <= range.1 {
        if exponent.rem_euclid(every) == 0.0 {
            let values = mantissas.iter().map(|mantissa| mantissa * 10f64.powf(exponent));
            ticks.extend(values.filter(|value| (range.0..=range.1).contains(&value.log10())));
        }
        exponent += 1.0;
    }
    ticks
}

/// Returns the next of 1, 2, 2.5, 5 and their decades.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0].map(|mantissa| mantissa * decade);
    steps.into_iter().find(|step| *step >= least * 0.999).unwrap_or(10.0 * decade)
}

fn count_to(last: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.0), move |index| (index + 1.0 <= last).then_some(index + 1.0))
}

#[cfg(test)]
mod tests {
    use super::Axis;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn plain(value: f64) -> String {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    #[test]
    fn values_of_one_magnitude_start_at_zero() {
        let axis = Axis::fitting("y".to_owned(), &[4.1, 9.3], plain);
        assert_eq!(texts(&axis), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!((axis.range, axis.place(9.3)), ((0.0, 10.0), 9.3));
    }

    #[test]
    fn values_of_many_magnitudes_are_logarithmic() {
        let axis = Axis::fitting("y".to_owned(), &[6.0, 40_000.0], plain);
        assert_eq!(texts(&axis), ["10", "100", "1000", "10000"]);
        assert_eq!(axis.place(1000.0), 3.0);
        let axis = Axis::fitting("y".to_owned(), &[0.9, 21.0], plain);
        assert_eq!(texts(&axis), ["1", "3", "10"]);
        let axis = Axis::log("y".to_owned(), &[1e-3, 1e12], |value| format!("{:.0}", value.log10()));
        assert_eq!(texts(&axis), ["-3", "0", "3", "6", "9", "12"]);
    }

    #[test]
    fn ticks_stand_where_something_was_measured_unless_they_collide() {
        let axis = Axis::log_at("x".to_owned(), &[64.0, 1.0, 60.0, 16.0], plain);
        assert_eq!(texts(&axis), ["1", "16", "60"]);
        assert_eq!(axis.text(16f64.log10()), "16");
        assert_eq!(axis.text(0.5), "");
    }

    #[test]
    fn a_single_or_missing_value_has_an_axis_too() {
        let axis = Axis::log("y".to_owned(), &[100.0], plain);
        assert!(axis.range.0 < 2.0 && axis.range.1 > 2.0 && texts(&axis).contains(&"100"), "{axis:?}");
        assert!(Axis::fitting("y".to_owned(), &[], plain).range.1 > 0.0);
        assert_eq!(Axis::ordinal("x".to_owned(), ["a", "b"]).range, (-0.5, 1.5));
    }
}
