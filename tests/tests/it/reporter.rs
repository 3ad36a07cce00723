//! The reporter's one-off commands.

use anyhow::Result;
use tests::stack::{Program, eventually};

use crate::reporter_fixture::{DEADLINE, Fixture, GIVE_LOCK, TAKE_LOCK, figures};

/// Exit code of a command that found another reporter at work.
const ANOTHER_AT_WORK: Option<i32> = Some(75);

/// A user and a replay at each edge of February 2024, and one of each within.
async fn february() -> Result<Fixture> {
    let fixture = Fixture::new().await?;
    for time in [
        "'2024-01-31T23:59:59.999999Z'",
        "'2024-02-01T00:00:00Z'",
        "'2024-02-15T12:00:00Z'",
        "'2024-02-29T23:59:59.999999Z'",
        "'2024-03-01T00:00:00Z'",
    ] {
        fixture.add_user(time).await?;
        fixture.add_replay(time).await?;
        fixture.add_replay(time).await?;
    }
    Ok(fixture)
}

#[tokio::test]
async fn months_are_half_open_to_the_microsecond() -> Result<()> {
    let fixture = february().await?;
    for month in ["2024-03", "2024-01", "2024-02"] {
        fixture.run(&["run", "--month", month]).await?;
    }
    assert_eq!(
        fixture.reports().await?,
        [
            figures("2024-01-01", (1, 1), (2, 2)),
            figures("2024-02-01", (3, 4), (6, 8)),
            figures("2024-03-01", (1, 5), (2, 10)),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn months_are_those_of_utc_whatever_the_databases_time_zone() -> Result<()> {
    let fixture = february().await?;
    let zone = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', \
                current_database()); END $$";
    fixture.client.batch_execute(zone).await?;
    fixture.run(&["run", "--month", "2024-02"]).await?;
    assert_eq!(fixture.reports().await?, [figures("2024-02-01", (3, 4), (6, 8))]);
    Ok(())
}

#[tokio::test]
async fn a_month_counted_again_keeps_its_row_and_takes_in_what_came_late() -> Result<()> {
    let fixture = february().await?;
    let report_id = async || -> Result<i64> {
        let query = "SELECT report_id FROM monthly_reports";
        Ok(fixture.client.query_one(query, &[]).await?.get(0))
    };
    fixture.run(&["run", "--month", "2024-02"]).await?;
    let first = report_id().await?;
    fixture.run(&["run", "--month", "2024-02"]).await?;
    assert_eq!(fixture.reports().await?, [figures("2024-02-01", (3, 4), (6, 8))]);

    fixture.add_user("'2023-05-01T00:00:00Z'").await?;
    fixture.add_user("'2024-02-02T00:00:00Z'").await?;
    fixture.add_replay("'2024-02-02T00:00:00Z'").await?;
    fixture.run(&["run", "--month", "2024-02"]).await?;
    assert_eq!(fixture.reports().await?, [figures("2024-02-01", (4, 6), (7, 9))]);
    assert_eq!(report_id().await?, first);
    Ok(())
}

#[tokio::test]
async fn a_backfill_reports_every_month_up_to_now_also_those_without_rows() -> Result<()> {
    let fixture = february().await?;
    fixture.run(&["backfill", "--from", "2024-02"]).await?;
    let reports = fixture.reports().await?;
    assert_eq!(
        reports[..3],
        [
            figures("2024-02-01", (3, 4), (6, 8)),
            figures("2024-03-01", (1, 5), (2, 10)),
            figures("2024-04-01", (0, 5), (0, 10)),
        ]
    );
    let months: i64 = fixture
        .client
        .query_one(
            "SELECT count(*) FROM generate_series(TIMESTAMP '2024-02-01', \
             now() AT TIME ZONE 'UTC', INTERVAL '1 month')",
            &[],
        )
        .await?
        .get(0);
    assert_eq!(i64::try_from(reports.len())?, months);
    let current = fixture.month_back(0).await?;
    assert_eq!(reports.last(), Some(&figures(&current, (0, 5), (0, 10))));

    fixture.run(&["backfill"]).await?;
    let reports = fixture.reports().await?;
    assert_eq!(reports[0], figures("2024-01-01", (1, 1), (2, 2)));
    assert_eq!(i64::try_from(reports.len())?, months + 1);
    Ok(())
}

#[tokio::test]
async fn a_backfill_corrects_reports_of_months_whose_rows_are_gone() -> Result<()> {
    let fixture = february().await?;
    fixture.run(&["backfill"]).await?;
    fixture.client.batch_execute("DELETE FROM replays; DELETE FROM users").await?;
    fixture.add_user("'2024-03-05T00:00:00Z'").await?;
    fixture.run(&["backfill"]).await?;
    assert_eq!(
        fixture.reports().await?[..3],
        [
            figures("2024-01-01", (0, 0), (0, 0)),
            figures("2024-02-01", (0, 0), (0, 0)),
            figures("2024-03-01", (1, 1), (0, 0)),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_month_to_come_is_refused() -> Result<()> {
    let fixture = Fixture::new().await?;
    for command in [["run", "--month", "9999-12"], ["backfill", "--from", "9999-12"]] {
        let output =
            fixture.environment.command(Program::Reporter).arguments(command).run().await?;
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stderr.contains("9999-12 has not begun"), "{}", output.stderr);
    }
    assert_eq!(fixture.reports().await?, []);
    Ok(())
}

#[tokio::test]
async fn who_finds_another_at_work_exits_unless_told_to_wait() -> Result<()> {
    let fixture = february().await?;
    fixture.client.query_one(TAKE_LOCK, &[]).await?;
    for command in [&["run", "--month", "2024-02"][..], &["backfill"][..]] {
        let arguments = command.iter().copied();
        let output =
            fixture.environment.command(Program::Reporter).arguments(arguments).run().await?;
        assert_eq!(output.status.code(), ANOTHER_AT_WORK, "{}", output.stderr);
    }
    assert_eq!(fixture.reports().await?, []);
    fixture.client.query_one(GIVE_LOCK, &[]).await?;
    fixture.run(&["run", "--month", "2024-02"]).await?;
    fixture.run(&["run", "--month", "2024-02"]).await?;
    Ok(())
}

#[tokio::test]
async fn who_waited_counts_what_came_meanwhile() -> Result<()> {
    let fixture = february().await?;
    fixture.client.query_one(TAKE_LOCK, &[]).await?;
    let waiting = fixture
        .environment
        .command(Program::Reporter)
        .arguments(["run", "--month", "2024-02", "--wait"])
        // The wait outlasts it, so is asked for again.
        .variable("TAPEDECK_DATABASE_LOCK_TIMEOUT_MS", "500")
        .run();
    let other = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'tapedeck-reporter' AND wait_event = 'advisory' \
                     AND now() - backend_start > INTERVAL '1 second'";
        eventually("the reporter has waited for a second", DEADLINE, async || {
            match fixture.client.query_one(waits, &[]).await {
                Ok(row) if row.get::<_, i64>(0) == 1 => Ok(()),
                Ok(_) => Err("it does not wait".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        fixture.add_user("'2024-02-02T00:00:00Z'").await?;
        fixture.client.query_one(GIVE_LOCK, &[]).await?;
        anyhow::Ok(())
    };
    let (output, ()) = tokio::try_join!(waiting, other)?;
    output.success()?;
    assert_eq!(fixture.reports().await?, [figures("2024-02-01", (4, 5), (6, 8))]);
    Ok(())
}

#[tokio::test]
async fn several_at_once_come_to_the_same_as_one() -> Result<()> {
    let fixture = february().await?;
    let commands = [
        &["run", "--month", "2024-01", "--wait"][..],
        &["backfill", "--from", "2024-01", "--wait"],
        &["run", "--month", "2024-02", "--wait"],
        &["backfill", "--wait"],
    ];
    futures::future::try_join_all(commands.map(|command| fixture.run(command))).await?;
    let together = fixture.reports().await?;
    fixture.client.batch_execute("DELETE FROM monthly_reports").await?;
    fixture.run(&["backfill"]).await?;
    assert_eq!(together, fixture.reports().await?);
    Ok(())
}

#[tokio::test]
async fn reports_are_shown_by_range_and_format() -> Result<()> {
    let fixture = february().await?;
    fixture.run(&["backfill"]).await?;
    let csv =
        fixture.run(&["show", "--format", "csv", "--from", "2024-02", "--to", "2024-03"]).await?;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[1].starts_with("2024-02-01,3,4,6,8,"), "{csv}");
    assert!(lines[2].starts_with("2024-03-01,1,5,2,10,"), "{csv}");
    let table = fixture.run(&["show", "--to", "2024-01"]).await?;
    assert!(table.contains("2024-01") && !table.contains("2024-02"), "{table}");
    Ok(())
}
