//! A chart of a report, for the docs.

use std::path::Path;

use anyhow::Result;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use super::comparison::{Comparison, Figure, Run, Side};
use super::figures::{Goal, median};
use super::measurement::Measurement;
use super::report::Report;

/// Sizes in pixels.
const WIDTH: u32 = 900;
const BAR_HEIGHT: u32 = 22;
const LABEL_WIDTH: u32 = 330;
const TITLE_SIZE: u32 = 18;
const LINE_CHART_HEIGHT: u32 = 360;
const AROUND: u32 = 90;

const SUBJECT: RGBColor = RGBColor(31, 119, 180);
const LIMIT: RGBColor = RGBColor(170, 170, 170);
const MISSED: RGBColor = RGBColor(214, 39, 40);

/// Values beyond the longest bar, as a share of it.
const HEADROOM: f64 = 1.05;

/// One bar.
struct Bar {
    label: String,
    value: f64,
    color: RGBColor,
}

/// Draws the charts of a report into a folder, each in a file named after the case; gives the
/// names.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(report: &Report, folder: &Path) -> Result<Vec<String>> {
    let case = &report.case;
    let mut files = Vec::new();
    let mut named = |suffix: &str| {
        files.push(format!("{case}{suffix}.svg"));
        folder.join(format!("{case}{suffix}.svg"))
    };
    if !report.comparisons.is_empty() {
        let (figure, unit) = charted(&report.comparisons);
        let bars = report.comparisons.iter().flat_map(|it| bars_of(it, figure)).collect::<Vec<_>>();
        draw_bars(&named(""), &format!("{case}: {unit}"), &bars)?;
    }
    let bars: Vec<Bar> = report.measurements.iter().filter_map(share_of_goal).collect();
    if !bars.is_empty() {
        draw_bars(&named("-bounds"), &format!("{case}: share of what is allowed"), &bars)?;
    }
    if let Some(steps) = report.measurements.iter().find(|it| it.by_step) {
        draw_line(&named("-steps"), &format!("{case}: {}", steps.name), &steps.values)?;
    }
    Ok(files)
}

/// What is charted of comparisons: CPU seconds where they are what is compared, otherwise rates.
fn charted(comparisons: &[Comparison]) -> (Figure, &'static str) {
    let of_cpu = comparisons.iter().flat_map(|it| &it.goals).any(|(it, _)| *it == Figure::Cpu);
    if of_cpu { (Figure::Cpu, "CPU s per million") } else { (Figure::Rate, "a second") }
}

fn bars_of(comparison: &Comparison, figure: Figure) -> Vec<Bar> {
    let value = |runs: &[Run]| median(runs.iter().filter_map(|run| figure.of(run)));
    let color = if comparison.meets_goals() { SUBJECT } else { MISSED };
    let sides = [(&comparison.subject, color), (&comparison.limit, LIMIT)];
    let bar = |(side, color): (&Side, RGBColor)| {
        let label = format!("{}: {}", comparison.name, side.name);
        Some(Bar { label, value: value(&side.runs)?, color })
    };
    sides.into_iter().filter_map(bar).collect()
}

/// How much of its upper bound a measurement takes up; `None` where it has none.
fn share_of_goal(measurement: &Measurement) -> Option<Bar> {
    let Some(Goal::AtMost(most)) = measurement.goal else { return None };
    let color = if measurement.meets_goal() { SUBJECT } else { MISSED };
    let value = measurement.median()?;
    // Of a bound of zero nothing can be a share.
    (most > 0.0).then(|| Bar { label: measurement.name.clone(), value: value / most, color })
}

fn draw_bars(path: &Path, title: &str, bars: &[Bar]) -> Result<()> {
    let count = bars.len();
    let height = AROUND + BAR_HEIGHT * u32::try_from(count)?;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", TITLE_SIZE))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(LABEL_WIDTH)
        .build_cartesian_2d(0.0..longest * HEADROOM, (0..count).into_segmented())?;
    // From the top down, as they are in the table.
    let from_top = |place: usize| count - 1 - place;
    let label = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(place) if *place < count => bars[from_top(*place)].label.clone(),
        _ => String::new(),
    };
    chart.configure_mesh().disable_y_mesh().y_labels(count + 1).y_label_formatter(&label).draw()?;
    chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
        let place = from_top(place);
        let corners =
            [(0.0, SegmentValue::Exact(place)), (bar.value, SegmentValue::Exact(place + 1))];
        let mut rectangle = Rectangle::new(corners, bar.color.filled());
        rectangle.set_margin(3, 3, 0, 0);
        rectangle
    }))?;
    root.present()?;
    Ok(())
}

fn draw_line(path: &Path, title: &str, values: &[f64]) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, LINE_CHART_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", TITLE_SIZE))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(80)
        .build_cartesian_2d(1..values.len(), 0.0..most * HEADROOM)?;
    chart.configure_mesh().draw()?;
    let points = (1..).zip(values.iter().copied());
    chart.draw_series(LineSeries::new(points, SUBJECT.stroke_width(2)))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::measurement::Unit;
    use crate::bench::usage::Usage;

    #[test]
    fn a_chart_names_what_it_shows() {
        let run = |count| {
            let usage = Usage { wall_seconds: 2.0, cpu_seconds: [].into(), wal_bytes: 0 };
            Run { count, usage, memory_bytes: None }
        };
        let mut comparison = Comparison::new("1 lane".to_owned(), "writer", "COPY", Vec::new());
        comparison.add(&run(500_000), &run(1_000_000));
        let most = Some(Goal::AtMost(0.5));
        let start = Measurement::new("start", Unit::Seconds, most).with(0.25);
        let mut steps = Measurement::by_step("rate", Unit::PerSecond);
        steps.values.extend([3.0, 2.0, 1.0]);
        let report = Report {
            case: "case".to_owned(),
            machine: Machine::any(),
            comparisons: vec![comparison],
            measurements: vec![start, steps],
        };
        let folder = tempfile::tempdir().unwrap();
        let files = draw(&report, folder.path()).unwrap();
        assert_eq!(files, ["case.svg", "case-bounds.svg", "case-steps.svg"]);
        let expected = [["1 lane: writer", "1 lane: COPY"], ["start", "allowed"], ["rate", "step"]];
        for (file, expected) in files.iter().zip(expected) {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            for expected in expected {
                assert!(text.contains(expected), "{expected} is not in {file}:\n{text}");
            }
        }
    }
}
