//! Small bodies that decode to gigabytes.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use futures::future::try_join_all;

use super::support::{BATCHES, Gateway, answer, envelope};

/// Bytes in a mebibyte.
const MIB: usize = 1 << 20;

/// How many bombs arrive at a time, of each encoding.
const AT_A_TIME: usize = 8;

/// What the gateway may need for them beyond what it needs at rest: on two cores two bodies of 32
/// MiB are decoded at a time, into buffers that double, beside windows of 16 MiB at most. All of
/// them together, decoded to their ends, would need more than 4 GiB.
const GROWTH_LIMIT_BYTES: usize = 256 * MIB;

fn gzip() -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(&vec![b' '; MIB])?;
    // A stream of many members is one content.
    Ok(encoder.finish()?.repeat(500))
}

fn zstd() -> Result<Vec<u8>> {
    Ok(zstd::encode_all(&*vec![b' '; MIB], 19)?.repeat(500))
}

fn brotli() -> Result<Vec<u8>> {
    let mut encoder = brotli::CompressorWriter::new(vec![], 4096, 1, 24);
    for _ in 0..200 {
        encoder.write_all(&vec![b' '; MIB])?;
    }
    Ok(encoder.into_inner())
}

/// The most memory that the process has had at a time, in bytes.
fn peak_memory(pid: i32) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_of_each_encoding_are_refused_in_bounded_memory() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    assert_eq!(gateway.send(&envelope(1)).await?.status, 200);
    let at_rest = peak_memory(gateway.service.pid())?;
    for (encoding, bomb) in [("gzip", gzip()?), ("zstd", zstd()?), ("br", brotli()?)] {
        assert!(bomb.len() < 8 * MIB, "{encoding} is larger than the wire takes");
        let requests = (0..AT_A_TIME).map(|_| {
            answer(gateway.post(BATCHES, bomb.clone()).header("content-encoding", encoding))
        });
        for answer in try_join_all(requests).await? {
            assert_eq!(answer.status, 413, "{encoding}: {answer:?}");
        }
        let growth = peak_memory(gateway.service.pid())? - at_rest;
        assert!(growth < GROWTH_LIMIT_BYTES, "{encoding} took {} MiB", growth / MIB);
    }
    assert_eq!(gateway.send(&envelope(1)).await?.status, 200);
    Ok(())
}
