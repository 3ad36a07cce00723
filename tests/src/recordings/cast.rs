//! Which sessions are played: the recordings themselves, or any number of copies.

use std::sync::Arc;

use super::clone::CloneOptions;
use super::session::Session;

/// The sessions of a run, made one at a time, so that a thousand copies need not be held.
#[derive(Clone, Debug)]
pub struct Cast {
    originals: Vec<Arc<Session>>,
    copies: Option<(usize, CloneOptions)>,
}

impl Cast {
    /// Every recording once, as it is.
    pub fn as_recorded(sessions: Vec<Session>) -> Self {
        Self { originals: sessions.into_iter().map(Arc::new).collect(), copies: None }
    }

    /// `count` copies, of every recording in turn.
    pub fn copies(sessions: Vec<Session>, count: usize, options: CloneOptions) -> Self {
        Self { copies: Some((count, options)), ..Self::as_recorded(sessions) }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        match (&self.copies, self.originals.len()) {
            (_, 0) => 0,
            (Some((count, _)), _) => *count,
            (None, originals) => originals,
        }
    }

    /// Whether there is nothing to play.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Session `number` of [`Cast::len`]; the same each time it is asked for.
    pub fn session(&self, number: usize) -> Arc<Session> {
        let original = &self.originals[number % self.originals.len()];
        match &self.copies {
            None => Arc::clone(original),
            Some((_, options)) => {
                let round = number / self.originals.len();
                Arc::new(options.copy(original, number as u64, round as u64))
            }
        }
    }

    /// Events of all sessions together.
    pub fn events(&self) -> u64 {
        let events = |number: usize| self.originals[number].events().count() as u64;
        let whole: u64 = (0..self.originals.len()).map(events).sum();
        let originals = self.originals.len().max(1);
        let rest: u64 = (0..self.len() % originals).map(events).sum();
        whole * (self.len() / originals) as u64 + rest
    }
}
