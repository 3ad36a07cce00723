//! `reporter serve`: windows, full recounts, replicas, failures and its end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::stack::postgres::wait_blocked;
use tests::stack::{Environment, Service, Stack};

use crate::reporter_fixture::{DEADLINE, Fixture, GIVE_LOCK, TAKE_LOCK, figures, month_back};

const RUNS: &str = "tapedeck_reporter_runs_total";
const LAST_SUCCESS: &str = "tapedeck_reporter_last_success_timestamp_seconds";
const STANDBY: &str = "tapedeck_reporter_standby";

/// How long a service may take to end that is not given the time to finish.
const PROMPTLY: Duration = Duration::from_secs(10);

async fn serve(fixture: &Fixture) -> Result<Service> {
    let reporter = fixture.environment.reporter();
    reporter.variable("TAPEDECK_REPORTER_INTERVAL_SECONDS", "1").start().await
}

fn succeeded(kind: &str) -> [(&str, &str); 2] {
    [("kind", kind), ("outcome", "success")]
}

async fn wait_for_runs(reporter: &Service, kind: &str, more_than: f64) -> Result<f64> {
    reporter.wait_for_metric(RUNS, &succeeded(kind), DEADLINE, |runs| runs > more_than).await
}

async fn metric(reporter: &Service, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    reporter.metrics().await?.sum(name, labels).with_context(|| format!("no {name}{labels:?}"))
}

#[tokio::test]
async fn a_window_counts_on_from_the_stored_report_before_it() -> Result<()> {
    let fixture = Fixture::new().await?;
    // More than there are rows, so that what counted on is told from what counted all.
    fixture.store_report(4, 1_000, "1 hour").await?;
    for time in [month_back(6), month_back(3), month_back(0)] {
        fixture.add_user(&time).await?;
        fixture.add_replay(&time).await?;
    }
    // The last microsecond before the window belongs to the base.
    fixture.add_user(&format!("{} - INTERVAL '1 microsecond'", month_back(3))).await?;
    let reporter = serve(&fixture).await?;
    wait_for_runs(&reporter, "window", 0.0).await?;
    let day = async |months| fixture.month_back(months).await;
    assert_eq!(
        fixture.reports().await?,
        [
            figures(&day(4).await?, (0, 1_000), (0, 1_000)),
            figures(&day(3).await?, (1, 1_001), (1, 1_001)),
            figures(&day(2).await?, (0, 1_001), (0, 1_001)),
            figures(&day(1).await?, (0, 1_001), (0, 1_001)),
            figures(&day(0).await?, (1, 1_002), (1, 1_002)),
        ]
    );
    assert!(metric(&reporter, RUNS, &succeeded("full")).await? == 0.0);
    Ok(())
}

#[tokio::test]
async fn a_window_without_that_report_counts_everything() -> Result<()> {
    let fixture = Fixture::new().await?;
    for time in [month_back(5), month_back(0)] {
        fixture.add_user(&time).await?;
        fixture.add_replay(&time).await?;
    }
    let reporter = serve(&fixture).await?;
    wait_for_runs(&reporter, "full", 0.0).await?;
    let mut expected = vec![];
    for months in [5, 4, 3, 2, 1] {
        let new = i64::from(months == 5);
        expected.push(figures(&fixture.month_back(months).await?, (new, 1), (new, 1)));
    }
    expected.push(figures(&fixture.month_back(0).await?, (1, 2), (1, 2)));
    assert_eq!(fixture.reports().await?, expected);
    // From then on the stored report is there to count on from.
    wait_for_runs(&reporter, "window", 0.0).await?;
    Ok(())
}

#[tokio::test]
async fn late_data_is_counted_by_the_window_and_older_data_by_the_next_full_recount() -> Result<()>
{
    let fixture = Fixture::new().await?;
    fixture.add_user(&month_back(5)).await?;
    let reporter = serve(&fixture).await?;
    let runs = wait_for_runs(&reporter, "window", 0.0).await?;
    let last_full = metric(&reporter, LAST_SUCCESS, &[("kind", "full")]).await?;
    assert!(last_full > 0.0);

    fixture.add_user(&month_back(2)).await?;
    fixture.add_user(&month_back(5)).await?;
    wait_for_runs(&reporter, "window", runs + 1.0).await?;
    let totals = async || -> Result<(i64, i64)> {
        let reports = fixture.reports().await?;
        Ok((reports[0].2, reports[5].2))
    };
    assert_eq!(totals().await?, (1, 2), "five months back is beyond the window");
    assert!(metric(&reporter, LAST_SUCCESS, &[("kind", "full")]).await? <= last_full);
    assert!(reporter.terminate().await?.success());

    // A restart forgets nothing: the stored reports tell when all were last counted.
    let reporter = serve(&fixture).await?;
    wait_for_runs(&reporter, "window", 0.0).await?;
    assert!(metric(&reporter, RUNS, &succeeded("full")).await? == 0.0);
    assert!(metric(&reporter, LAST_SUCCESS, &[("kind", "full")]).await? == last_full);

    let age = "UPDATE monthly_reports SET generated_at = generated_at - INTERVAL '7 days'";
    fixture.client.execute(age, &[]).await?;
    wait_for_runs(&reporter, "full", 0.0).await?;
    assert_eq!(totals().await?, (2, 3));
    assert!(metric(&reporter, LAST_SUCCESS, &[("kind", "full")]).await? > last_full);
    Ok(())
}

#[tokio::test]
async fn replicas_stand_by_while_one_works_and_take_over_when_it_is_gone() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.add_user("now()").await?;
    fixture.client.query_one(TAKE_LOCK, &[]).await?;
    let (first, second) = tokio::try_join!(serve(&fixture), serve(&fixture))?;
    for reporter in [&first, &second] {
        reporter.wait_for_metric(STANDBY, &[], DEADLINE, |standby| standby == 1.0).await?;
        reporter.wait_ready().await?;
        assert!(metric(reporter, RUNS, &[]).await? == 0.0);
    }
    assert_eq!(fixture.reports().await?, []);

    fixture.client.query_one(GIVE_LOCK, &[]).await?;
    first.wait_for_metric(RUNS, &[("outcome", "success")], DEADLINE, |runs| runs > 0.0).await?;
    first.kill()?;
    let labels = [("outcome", "success")];
    let before = metric(&second, RUNS, &labels).await?;
    second.wait_for_metric(RUNS, &labels, DEADLINE, |runs| runs > before).await?;
    let current = fixture.month_back(0).await?;
    fixture.wait_for_reports(&[figures(&current, (1, 1), (0, 0))]).await
}

#[tokio::test]
async fn an_outage_of_postgres_is_waited_out() -> Result<()> {
    let stack = Stack::shared().await?;
    let mut server = stack.private_postgres().await?;
    let environment = Environment::on(stack.folder(), stack.kafka(), &server).await?;
    let fixture = Fixture::of(environment).await?;
    fixture.add_user("now()").await?;
    let reporter = serve(&fixture).await?;
    let succeeded = [("outcome", "success")];
    reporter.wait_for_metric(RUNS, &succeeded, DEADLINE, |runs| runs > 0.0).await?;
    reporter.wait_ready().await?;

    server.stop().await?;
    let failed = [("outcome", "failure")];
    reporter.wait_for_metric(RUNS, &failed, DEADLINE, |runs| runs > 1.0).await?;
    assert!(reporter.readiness().await?.is_err());
    let live = reqwest::get(format!("{}/livez", reporter.admin_url())).await?;
    assert!(live.status().is_success(), "an outage is no reason to restart the reporter");

    server.restart().await?;
    let before = metric(&reporter, RUNS, &succeeded).await?;
    reporter.wait_for_metric(RUNS, &succeeded, DEADLINE, |runs| runs > before).await?;
    reporter.wait_ready().await?;
    assert!(metric(&reporter, "tapedeck_reporter_reconnects_total", &[]).await? > 0.0);
    Ok(())
}

#[tokio::test]
async fn a_frozen_postgres_is_given_up_and_found_again() -> Result<()> {
    let stack = Stack::shared().await?;
    let server = stack.private_postgres().await?;
    let environment = Environment::on(stack.folder(), stack.kafka(), &server).await?;
    let fixture = Fixture::of(environment).await?;
    let reporter = fixture
        .environment
        .reporter()
        .variable("TAPEDECK_REPORTER_INTERVAL_SECONDS", "1")
        .variable("TAPEDECK_REPORTER_ROLLUP_TIMEOUT_SECONDS", "2")
        .variable("TAPEDECK_DATABASE_CONNECT_TIMEOUT_MS", "1000")
        .variable("TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", "1000")
        .variable("TAPEDECK_DATABASE_DEAD_PEER_TIMEOUT_MS", "1000")
        .start()
        .await?;
    reporter.wait_ready().await?;
    // Its host still acknowledges every packet, so that only the reporter's own time-outs help.
    server.freeze()?;
    let failed = [("outcome", "failure")];
    reporter.wait_for_metric(RUNS, &failed, DEADLINE, |runs| runs > 1.0).await?;
    assert!(reporter.readiness().await?.is_err());
    server.thaw()?;
    reporter.wait_ready().await
}

#[tokio::test]
async fn a_termination_gives_up_a_roll_up_under_way() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.add_user("now()").await?;
    let mut holder = fixture.environment.sql().await?;
    let transaction = holder.transaction().await?;
    transaction.batch_execute("LOCK TABLE users").await?;
    let reporter = serve(&fixture).await?;
    wait_blocked(&fixture.client, "tapedeck-reporter", DEADLINE).await?;
    let asked = Instant::now();
    assert!(reporter.terminate().await?.success());
    assert!(asked.elapsed() < PROMPTLY, "{:?}", asked.elapsed());
    transaction.rollback().await?;
    assert_eq!(fixture.reports().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_full_recount_that_fails_does_not_hold_up_the_window() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.store_report(4, 10, "8 days").await?;
    fixture.store_report(7, 10, "8 days").await?;
    // Refuses what only a full recount writes.
    let refuse = format!(
        "ALTER TABLE monthly_reports ADD CONSTRAINT refused CHECK \
         (report_month_start >= '{}' OR total_users_end = 10)",
        fixture.month_back(3).await?
    );
    fixture.client.batch_execute(&refuse).await?;
    let reporter = serve(&fixture).await?;
    let failed = [("kind", "full"), ("outcome", "failure")];
    reporter.wait_for_metric(RUNS, &failed, DEADLINE, |runs| runs == 1.0).await?;
    wait_for_runs(&reporter, "window", 2.0).await?;
    assert!(metric(&reporter, RUNS, &failed).await? == 1.0, "it is put off for a minute");
    reporter.wait_ready().await
}

#[tokio::test]
async fn metrics_are_there_before_anything_has_happened() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.client.query_one(TAKE_LOCK, &[]).await?;
    let reporter = serve(&fixture).await?;
    let metrics = reporter.metrics().await?;
    for kind in ["window", "full"] {
        assert_eq!(metrics.sum(LAST_SUCCESS, &[("kind", kind)]), Some(0.0));
        for outcome in ["success", "failure"] {
            assert_eq!(metrics.sum(RUNS, &[("kind", kind), ("outcome", outcome)]), Some(0.0));
        }
    }
    Ok(())
}
