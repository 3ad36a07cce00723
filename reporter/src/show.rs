//! Printing stored reports.

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::options::{Format, ShowOptions};
use crate::store::StoredReport;
use crate::{APPLICATION_NAME, store};

/// A report in the columns of `monthly_reports`.
#[derive(Serialize)]
struct Line {
    report_month_start: String,
    new_users_count: i64,
    total_users_end: i64,
    new_replays_count: i64,
    total_replays_end: i64,
    generated_at: String,
}

impl From<&StoredReport> for Line {
    fn from(stored: &StoredReport) -> Self {
        let report = stored.report;
        Self {
            report_month_start: report.month.first_day().to_string(),
            new_users_count: report.new.users,
            total_users_end: report.total.users,
            new_replays_count: report.new.replays,
            total_replays_end: report.total.replays,
            generated_at: stored.generated_at.to_string(),
        }
    }
}

/// Prints the stored reports.
///
/// # Errors
/// When they cannot be read.
pub async fn run(options: &ShowOptions) -> anyhow::Result<()> {
    let mut session = options.database.connect(APPLICATION_NAME).await?;
    let loading = store::load(&mut session.connection, options.from, options.to);
    let stored = tokio::time::timeout(options.database.answer_timeout(), loading)
        .await
        .context("the database does not answer")?
        .context("cannot read the reports")?;
    print!("{}", render(&stored, options.format)?);
    Ok(())
}

/// The reports as text, ending with a line break.
///
/// # Errors
/// When they cannot be written in the format.
pub fn render(stored: &[StoredReport], format: Format) -> anyhow::Result<String> {
    match format {
        Format::Table => Ok(table(stored)),
        Format::Json => {
            let lines: Vec<Line> = stored.iter().map(Line::from).collect();
            Ok(serde_json::to_string_pretty(&lines)? + "\n")
        }
        Format::Csv => csv(stored),
    }
}

fn table(stored: &[StoredReport]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "month",
        "new users",
        "users at end",
        "new replays",
        "replays at end",
        "counted at",
    ]);
    for StoredReport { report, generated_at } in stored {
        table.add_row([
            report.month.to_string(),
            report.new.users.to_string(),
            report.total.users.to_string(),
            report.new.replays.to_string(),
            report.total.replays.to_string(),
            generated_at.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

fn csv(stored: &[StoredReport]) -> anyhow::Result<String> {
    // Written by hand, as the header must stand also where no report follows.
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record([
        "report_month_start",
        "new_users_count",
        "total_users_end",
        "new_replays_count",
        "total_replays_end",
        "generated_at",
    ])?;
    for report in stored {
        writer.serialize(Line::from(report))?;
    }
    Ok(String::from_utf8(writer.into_inner().context("cannot write CSV")?)?)
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;

    use super::*;
    use crate::report::{Counts, MonthlyReport};

    fn october() -> StoredReport {
        StoredReport {
            report: MonthlyReport {
                month: "2026-10".parse().unwrap(),
                new: Counts { users: 2, replays: 30 },
                total: Counts { users: 12, replays: 340 },
            },
            generated_at: Timestamp::parse_rfc3339("2026-11-24T10:00:00.5Z").unwrap(),
        }
    }

    #[test]
    fn the_same_figures_stand_in_every_format() {
        let reports = [october()];
        assert_eq!(
            render(&reports, Format::Csv).unwrap(),
            "report_month_start,new_users_count,total_users_end,new_replays_count,\
             total_replays_end,generated_at\n2026-10-01,2,12,30,340,2026-11-24T10:00:00.500000Z\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&render(&reports, Format::Json).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{
                "report_month_start": "2026-10-01", "new_users_count": 2, "total_users_end": 12,
                "new_replays_count": 30, "total_replays_end": 340,
                "generated_at": "2026-11-24T10:00:00.500000Z",
            }])
        );
        let table = render(&reports, Format::Table).unwrap();
        let row = table.lines().find(|line| line.contains("2026-10")).unwrap();
        let cells: Vec<&str> = row.split(['│', '┆']).map(str::trim).collect();
        assert_eq!(cells[1..7], ["2026-10", "2", "12", "30", "340", "2026-11-24T10:00:00.500000Z"]);
    }

    #[test]
    fn no_reports_are_an_empty_list() {
        assert_eq!(render(&[], Format::Json).unwrap(), "[]\n");
        assert_eq!(render(&[], Format::Csv).unwrap().lines().count(), 1);
    }
}
