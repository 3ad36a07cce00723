//! `writer page HASH`.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use common::database::DatabaseOptions;
use common::page_hash::PageHash;
use common::record::webstates;
use common::schema::webstates as table;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

/// No page is larger, whatever the limit was when it came.
const LARGEST_PAGE_BYTES: usize = 1 << 30;

/// Options of `page`.
#[derive(Debug, Args)]
pub struct PageOptions {
    /// The page state's hash: 64 hex digits.
    pub html_hash: PageHash,
    /// Where Postgres is.
    #[command(flatten)]
    pub database: DatabaseOptions,
}

/// Writes a page state's HTML, byte for byte.
///
/// # Errors
/// When the page is unknown or not yet there.
pub async fn page(options: &PageOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let mut session = options.database.connect(super::APPLICATION).await?;
    let stored: Option<Option<Vec<u8>>> = table::table
        .find(options.html_hash)
        .select(table::html_content)
        .first(&mut session.connection)
        .await
        .optional()?;
    let hash = options.html_hash;
    let Some(content) = stored else { bail!("no page state {hash} was ever seen") };
    let Some(content) = content else {
        bail!("page state {hash} was seen, but its content has not come yet")
    };
    let html = webstates::decode(&content, LARGEST_PAGE_BYTES).context("the content is damaged")?;
    out.write_all(&html)?;
    Ok(out.flush()?)
}
