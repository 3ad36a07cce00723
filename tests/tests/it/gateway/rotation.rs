//! Keys change while recorders send, and no request with a valid key is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::Value;
use tests::stack::{Environment, Program, Stack};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use super::keys::wait_for;
use super::support::{BATCHES, DEADLINE, Gateway, answer, envelope};

/// How many send at a time.
const RECORDERS: usize = 4;

/// Requests that the recorders must have sent between one step and the next.
const REQUESTS_BETWEEN: f64 = 50.0;

/// What recorders send with. Each request holds it until it is answered, so who has changed it
/// knows that no request with the old key is under way.
struct KeyInUse(RwLock<String>);

impl KeyInUse {
    fn new(key: &str) -> Self {
        Self(RwLock::new(key.to_owned()))
    }

    async fn change(&self, key: &str) {
        key.clone_into(&mut *self.0.write().await);
    }
}

/// Has recorders send through the gateway, without a pause, while the keys are rotated; each
/// answer must be 200.
async fn send_during(
    gateway: &Gateway,
    key: &KeyInUse,
    rotation: impl Future<Output = Result<()>>,
) -> Result<()> {
    let stop = CancellationToken::new();
    let recorder = async || {
        while !stop.is_cancelled() {
            let key = key.0.read().await;
            let request = gateway.request(Method::POST, BATCHES).bearer_auth(&*key);
            let answer = answer(request.body(envelope(1).to_string())).await?;
            ensure!(answer.status == 200, "a valid key was refused: {answer:?}");
        }
        Ok(())
    };
    let rotation = async {
        rotation.await?;
        stop.cancel();
        Ok(())
    };
    tokio::try_join!(try_join_all((0..RECORDERS).map(|_| recorder())), rotation).map(drop)
}

/// Waits until so many more requests have been taken.
async fn go_on(gateway: &Gateway) -> Result<()> {
    let accepted = "tapedeck_gateway_envelopes_accepted_total";
    let begun = gateway.service.metrics().await?.sum(accepted, &[]).unwrap_or_default();
    let enough = |now| now >= begun + REQUESTS_BETWEEN;
    gateway.service.wait_for_metric(accepted, &[], DEADLINE, enough).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_by_the_commands_without_a_refused_request() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let environment = &gateway.environment;
    let old = environment.key();
    let key = KeyInUse::new(old);
    send_during(&gateway, &key, async {
        go_on(&gateway).await?;
        let new = environment.add_key("new").await?;
        wait_for(&gateway, &new, 200).await?;
        key.change(&new).await;
        go_on(&gateway).await?;
        let disable = environment.command(Program::Gateway).arguments(["keys", "disable", "local"]);
        disable.run().await?.success()?;
        wait_for(&gateway, old, 403).await?;
        go_on(&gateway).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_file_that_is_replaced_as_a_whole_refuses_no_valid_key() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    // As Kubernetes mounts a secret: the file is a link into a folder that is a link itself.
    let mounted = environment.folder().join("mounted");
    let file_of = |version: &str| mounted.join(version).join("keys.json");
    for version in ["1", "2", "3"] {
        fs::create_dir_all(mounted.join(version))?;
    }
    let add = async |version: &str, name: &str| {
        let command = environment.command(Program::Gateway).arguments(["keys", "add", name]);
        let command =
            command.variable("TAPEDECK_KEYS_FILE", file_of(version).display().to_string());
        anyhow::Ok(command.run().await?.success()?.trim().to_owned())
    };
    let old = add("1", "old").await?;
    fs::copy(file_of("1"), file_of("2"))?;
    let new = add("2", "new").await?;
    let mut without_old: Value = serde_json::from_slice(&fs::read(file_of("2"))?)?;
    without_old["keys"].as_array_mut().unwrap().retain(|key| key["name"] == "new");
    fs::write(file_of("3"), without_old.to_string())?;

    mount(&mounted, "1")?;
    let keys_file = mounted.join("keys.json");
    symlink("data/keys.json", &keys_file)?;
    let settings = [("TAPEDECK_KEYS_FILE", keys_file.to_str().unwrap())];
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    let key = KeyInUse::new(&old);
    send_during(&gateway, &key, async {
        go_on(&gateway).await?;
        mount(&mounted, "2")?;
        wait_for(&gateway, &new, 200).await?;
        key.change(&new).await;
        mount(&mounted, "3")?;
        wait_for(&gateway, &old, 401).await?;
        go_on(&gateway).await
    })
    .await
}

/// Puts a version of the mounted folder in place of the one before, at once.
fn mount(mounted: &Path, version: &str) -> Result<()> {
    let coming = mounted.join("coming");
    symlink(version, &coming)?;
    Ok(fs::rename(coming, mounted.join("data"))?)
}
