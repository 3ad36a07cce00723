//! A Postgres server and its standby, which has each commit before the commit is answered.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::postgres::Postgres;
use super::small_disk::SmallDisk;
use super::tuning::Tuning;

/// The table space that the tables lie in, where there is a disk that can be filled up.
pub const TABLE_SPACE: &str = "small";

/// A server and, if there is one, the disk of its tables.
#[derive(Debug)]
pub struct Node {
    // In the order in which they go.
    postgres: Postgres,
    disk: Option<SmallDisk>,
}

/// The pair.
#[derive(Debug)]
pub struct ReplicatedPostgres {
    folder: PathBuf,
    disk_mib: Option<u32>,
    primary: Node,
    standby: Option<Node>,
    /// Nodes made so far.
    nodes: usize,
}

impl Node {
    /// The server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Starts the server again after its end.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.postgres.restart().await
    }

    /// The disk of its tables.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }
}

impl ReplicatedPostgres {
    /// Starts a server below `folder`. With `disk_mib` it has a table space [`TABLE_SPACE`] on a
    /// disk of so many MiB, which only root can make.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn start(folder: &Path, disk_mib: Option<u32>) -> Result<Self> {
        let postgres = Postgres::start(folder, None, Tuning::Tests).await?;
        let disk = mount(folder, 0, disk_mib)?;
        if let Some(disk) = &disk {
            let location = disk.space();
            let create =
                format!("CREATE TABLESPACE {TABLE_SPACE} LOCATION '{}'", location.display());
            postgres.sql().await?.batch_execute(&create).await?;
        }
        let primary = Node { postgres, disk };
        let folder = folder.to_owned();
        Ok(Self { folder, disk_mib, primary, standby: None, nodes: 1 })
    }

    /// The server that takes writes.
    pub fn primary(&self) -> &Node {
        &self.primary
    }

    /// The same, to restart it.
    pub fn primary_mut(&mut self) -> &mut Node {
        &mut self.primary
    }

    /// The server that follows, if there is one.
    pub fn standby(&self) -> Option<&Node> {
        self.standby.as_ref()
    }

    /// Makes a standby from the primary; from then on no commit is answered that it does not have.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn add_standby(&mut self) -> Result<()> {
        let disk = mount(&self.folder, self.nodes, self.disk_mib)?;
        self.nodes += 1;
        let spaces: Vec<_> = self
            .primary
            .disk
            .iter()
            .zip(&disk)
            .map(|(theirs, ours)| (theirs.space(), ours.space()))
            .collect();
        let primary = &self.primary.postgres;
        let postgres = primary.standby(&self.folder, &spaces).await.context("the standby")?;
        self.standby = Some(Node { postgres, disk });
        self.primary.postgres.wait_for_standby().await
    }

    /// Kills the primary; the standby takes its place, alone.
    ///
    /// # Errors
    /// When there is no standby, or a step fails.
    pub async fn fail_over(&mut self) -> Result<()> {
        let standby = self.standby.take().context("there is no standby")?;
        self.primary.postgres.kill().await?;
        standby.postgres.promote().await?;
        self.primary = standby;
        Ok(())
    }
}

fn mount(folder: &Path, number: usize, size_mib: Option<u32>) -> Result<Option<SmallDisk>> {
    size_mib.map(|size| SmallDisk::mount(&folder.join(format!("disk-{number}")), size)).transpose()
}
