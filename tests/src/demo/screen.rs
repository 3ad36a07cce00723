//! What the demo shows.

use std::fmt::Display;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::comparison::Line;
use super::monthly::Monthly;
use super::playing::Playing;
use crate::fleet::report::quantile;
use crate::recordings::Session;
use crate::stack::Addresses;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Where the durations of steps stand.
const STEP_WIDTH: usize = 60;

/// Shows a spinner while something is done, and a line once it is.
pub(super) async fn step<T, E>(
    name: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner:.cyan} {msg:.dim}") {
        spinner.set_style(style);
    }
    spinner.set_message(format!("{name} …"));
    spinner.enable_steady_tick(TICK);
    let begun = Instant::now();
    let result = work.await;
    spinner.finish_and_clear();
    match &result {
        Ok(_) => done(name, begun.elapsed()),
        Err(_) => println!("  ✗ Not so: {name}"),
    }
    result
}

/// A line for something that is done.
pub(super) fn done(name: &str, took: Duration) {
    println!("  ✓ {name:STEP_WIDTH$}{:>6.1} s", took.as_secs_f64());
}

/// A line for something that is so.
pub(super) fn note(text: &str) {
    println!("  ✓ {text}");
}

/// What will be played.
pub(super) fn recordings(sessions: &[Session]) {
    let events: usize = sessions.iter().map(|session| session.events().count()).sum();
    let pages: usize = sessions.iter().map(|session| session.pages().count()).sum();
    note(&format!("{} recordings with {events} events, {pages} page states", sessions.len()));
}

/// What was sent and what is stored, and how that went.
pub(super) fn playing(playing: &Playing) {
    println!("\n{}", comparison(&playing.comparison.lines));
    for difference in &playing.comparison.differences {
        println!("  ✗ {difference}");
    }
    println!("\n{}", figures(playing));
}

fn comparison(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "sent", "stored", "new rows", ""]);
    for line in lines {
        table.add_row([
            line.what.clone(),
            HumanCount(line.sent).to_string(),
            HumanCount(line.stored).to_string(),
            line.new.map_or_else(String::new, |new| HumanCount(new).to_string()),
            mark(line.agrees()).to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn figures(playing: &Playing) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let (pages, report) = (&playing.pages, &playing.report);
    let bytes = |bytes: u64| HumanBytes(bytes).to_string();
    row("page states seen", format!("{} = {}", pages.seen, bytes(pages.seen_bytes)));
    row("  each stored once", format!("{} = {}", pages.stored, bytes(pages.stored_plain_bytes)));
    row(
        "  saved by deduplication",
        format!(
            "{} ({})",
            bytes(pages.saved_bytes()),
            percent(pages.saved_bytes(), pages.seen_bytes)
        ),
    );
    row("  in the table, compressed", bytes(pages.stored_bytes));
    row(
        "  sent by recorders",
        format!("{} = {}", report.pages_uploaded, bytes(report.page_bytes_uploaded)),
    );
    row(
        "on the wire",
        format!("{} for {} of JSON", bytes(report.wire_bytes), bytes(report.plain_bytes)),
    );
    row("request until 200, p50 / p99", {
        let [half, most] = [0.5, 0.99].map(|share| millis(quantile(&report.request_micros, share)));
        format!("{half} / {most}")
    });
    row("request until committed, p50 / p99", {
        let show = |share| playing.freshness.quantile(share).map_or("–".to_owned(), millis);
        format!("{} / {}", show(0.5), show(0.99))
    });
    table
}

/// The monthly report, as the reporter shows it.
pub(super) fn monthly(monthly: &Monthly) {
    let agree = if monthly.agrees() { "which agrees" } else { "which DOES NOT AGREE" };
    println!("\n{}", monthly.shown.trim_end());
    println!("  {} {agree} with a count of the rows", mark(monthly.agrees()));
    if !monthly.agrees() {
        println!("  reported: {:?}\n  counted:  {:?}", monthly.reported, monthly.counted);
    }
    println!();
}

/// The second playing.
pub(super) fn again(again: &Playing) {
    let (sent, new) = (HumanCount(again.report.acknowledged.events), HumanCount(again.new_rows()));
    println!("\n  {} the same {sent} events again: {new} new rows", mark(again.new_rows() == 0));
    if !again.agrees() {
        println!("\n{}", comparison(&again.comparison.lines));
    }
}

/// Where everything is that goes on running.
pub(super) fn addresses(addresses: &Addresses) {
    println!("  Everything goes on running; deploy/local/down.sh stops it.\n");
    let row = |name: &str, value: &str| println!("  {name:10}{value}");
    row("gateway", &addresses.gateway_url);
    row("key", &addresses.key);
    row("metrics", &format!("{}/metrics", addresses.gateway_admin_url));
    row("", &format!("{}/metrics", addresses.writer_admin_url));
    row("", &format!("{}/metrics", addresses.reporter_admin_url));
    row("Kafka", &addresses.kafka_brokers);
    row("Postgres", &format!("psql '{}'", addresses.database_url));
    println!();
}

/// The last word.
pub(super) fn verdict(agrees: bool) {
    match agrees {
        true => println!("\n  ✓ Everything agrees.\n"),
        false => println!("\n  ✗ Not everything agrees.\n"),
    }
}

fn mark(agrees: bool) -> &'static str {
    if agrees { "✓" } else { "✗" }
}

fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1_000.0)
}

fn percent(part: u64, whole: u64) -> impl Display {
    format!("{} %", (part * 100).checked_div(whole).unwrap_or(0))
}
