//! How much one statement carries of a batch: what is on its way is held several times over.

/// A statement carries so many bytes of content, and a row more: diesel, the client and the socket
/// each hold it once, and grow by doubling.
const PORTION_BYTES: usize = 1024 * 1024;

/// The rows, in order, a statement's portion at a time.
pub(super) fn in_portions<Row>(
    mut rows: &[Row],
    bytes: impl Fn(&Row) -> usize,
) -> impl Iterator<Item = &[Row]> {
    std::iter::from_fn(move || {
        let mut held = 0;
        let full = rows.iter().position(|row| {
            held += bytes(row);
            held >= PORTION_BYTES
        });
        let portion = rows.split_off(..full.map_or(rows.len(), |last| last + 1))?;
        (!portion.is_empty()).then_some(portion)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_out_in_order_and_none_is_missing() {
        fn check(sizes: &[usize], expected: &[&[usize]]) {
            let portions: Vec<_> = in_portions(sizes, |size| *size).collect();
            assert_eq!(portions, expected);
        }
        const HALF: usize = PORTION_BYTES / 2;
        check(&[], &[]);
        check(&[1], &[&[1]]);
        check(&[0, 0], &[&[0, 0]]);
        check(&[HALF, HALF, 1], &[&[HALF, HALF], &[1]]);
        check(&[HALF - 1, HALF, 1, 2], &[&[HALF - 1, HALF, 1], &[2]]);
        check(&[PORTION_BYTES * 9, 1], &[&[PORTION_BYTES * 9], &[1]]);
    }
}
