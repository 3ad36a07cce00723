//! Nothing that Tapedeck writes down shows a secret or what recorders sent.

mod finder;
mod run;

use anyhow::{Result, ensure};

use self::run::Run;

#[tokio::test(flavor = "multi_thread")]
async fn no_output_of_a_run_with_everything_on_and_much_going_wrong_shows_a_secret_or_content()
-> Result<()> {
    let mut run = Run::start().await?;
    run.send_what_is_taken().await?;
    run.send_what_is_refused().await?;
    run.write_what_postgres_refuses().await?;
    run.run_commands().await?;
    run.make_mistakes().await?;
    run.look_at_the_services().await?;
    let (outputs, markers) = run.end().await?;
    for source in ["ingest-gateway.log", "writer.log", "reporter.log", "/metrics", "cmdline"] {
        ensure!(outputs.has(source), "nothing was gathered from {source}");
    }
    let found = outputs.holding(&markers);
    ensure!(found.is_empty(), "{} in all:\n{}", found.len(), found.join("\n\n"));
    Ok(())
}
