//! Pages of a wanted size, made of the recordings, and no two alike.

use anyhow::{Result, ensure};

use crate::recordings::{self, Session};

/// Makes pages.
pub(super) struct Pages {
    /// All recorded pages, one after the other.
    text: String,
}

impl Pages {
    /// Pages made of the recordings.
    ///
    /// # Errors
    /// When the recordings cannot be read.
    pub(super) fn recorded() -> Result<Self> {
        let sessions = recordings::all()?;
        let captures = sessions.iter().flat_map(Session::pages);
        let contents = captures.filter_map(|capture| capture.html_content.as_deref());
        let text: String = contents.collect();
        ensure!(!text.is_empty(), "the recordings hold no pages");
        Ok(Self { text })
    }

    /// A page of `bytes` bytes, give or take a character. Those of other numbers hold other parts
    /// of the recordings, and none is another's twin.
    pub(super) fn page(&self, number: u64, bytes: usize) -> String {
        let mut page = format!("<!DOCTYPE html><!-- {number:016x} -->");
        let place = usize::try_from(number).unwrap_or(0).wrapping_mul(bytes / 2);
        let mut begin = self.boundary(place % self.text.len());
        while page.len() < bytes {
            let end = self.boundary((begin + bytes - page.len()).min(self.text.len()));
            page.push_str(&self.text[begin..end]);
            // At the end of the recordings it goes on from their beginning.
            begin = 0;
        }
        page
    }

    /// The first boundary of a character from there on.
    fn boundary(&self, at: usize) -> usize {
        (at..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pages_have_the_wanted_size_and_differ() {
        let pages = Pages::recorded().unwrap();
        for bytes in [50_000, 200_000, 1_000_000] {
            let made: Vec<_> = (0..20).map(|number| pages.page(number, bytes)).collect();
            assert!(made.iter().all(|page| page.len().abs_diff(bytes) < 8), "{bytes}");
            assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 20);
        }
    }
}
