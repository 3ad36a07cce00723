//! Content encodings, bombs among them.

use std::sync::{Arc, LazyLock};

use ingest_gateway::budget::Budget;
use ingest_gateway::encoding::Encoding;
use ingest_gateway::problem::Kind;
use prometheus::IntGauge;

/// The largest body once decoded: so small that fuzzing finds bombs.
const DECODED_LIMIT_BYTES: usize = 4_096;

/// What a request may hold while it is decoded: its bytes, and two steps of decoding, the second
/// of which finds the end.
const BUDGET_BYTES: usize = 2 * 256 * 1024 + 64 * 1024;

static HELD_BYTES: LazyLock<IntGauge> =
    LazyLock::new(|| IntGauge::new("held_bytes", "Bytes held.").expect("the name is valid"));

/// The input's first byte says which encoding the others have. What is decoded stays within the
/// limit, is what the reservation holds, and is the same when decoded again; what was reserved is
/// given back.
pub fn check(data: &[u8]) {
    let Some((choice, wire)) = data.split_first() else { return };
    let encoding = match choice % 5 {
        0 => Encoding::Unsaid,
        1 => Encoding::Identity,
        2 => Encoding::Gzip,
        3 => Encoding::Zstd,
        _ => Encoding::Brotli,
    };
    let budget = Budget::new(BUDGET_BYTES, HELD_BYTES.clone());
    match decode(&budget, encoding, wire) {
        Ok(decoded) => {
            assert!(decoded.len() <= DECODED_LIMIT_BYTES);
            match encoding {
                Encoding::Identity => assert_eq!(decoded, wire),
                Encoding::Unsaid if !wire.starts_with(&[0x1f, 0x8b]) => assert_eq!(decoded, wire),
                Encoding::Unsaid => {
                    assert_eq!(decode(&budget, Encoding::Gzip, wire), Ok(decoded));
                }
                Encoding::Gzip => {
                    assert_eq!(decode(&budget, Encoding::Unsaid, wire), Ok(decoded));
                }
                Encoding::Zstd | Encoding::Brotli => {}
            }
        }
        Err(kind) => assert!(matches!(kind, Kind::NotReadable | Kind::TooLarge), "{kind:?}"),
    }
    assert_eq!(HELD_BYTES.get(), 0, "all that was reserved is given back");
}

fn decode(budget: &Arc<Budget>, encoding: Encoding, wire: &[u8]) -> Result<Vec<u8>, Kind> {
    let mut reservation = budget.reservation();
    reservation.grow(wire.len()).expect("inputs are smaller than the budget");
    let decoded = encoding
        .decode(wire.to_vec(), DECODED_LIMIT_BYTES, &mut reservation)
        .map_err(|problem| problem.kind)?;
    assert_eq!(HELD_BYTES.get().cast_unsigned(), decoded.len() as u64);
    Ok(decoded)
}
