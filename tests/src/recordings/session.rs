//! A recorded session in the words of the recorder API.

use common::page_hash::PageHash;
use common::record::events::Replay;
use common::time::Timestamp;

use super::envelope::{Capture, Envelope, Event};

/// One session, from its first event to its end.
#[derive(Clone, Debug)]
pub struct Session {
    /// The file's name without its endings.
    pub name: String,
    /// Who was recorded, where and when; with the end, which a recorder knows last.
    pub replay: Replay<'static>,
    /// What happened, in the order in which the recorder emitted it.
    pub moments: Vec<Moment>,
}

/// One thing that a recorder emits.
#[derive(Clone, Debug)]
pub enum Moment {
    /// The page as it was.
    Page(Capture),
    /// Something that happened on it.
    Event(Event),
}

impl Moment {
    /// When it was emitted.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Page(capture) => capture.captured_at,
            Self::Event(event) => event.timestamp,
        }
    }
}

impl Session {
    /// Its events in recording order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.moments.iter().filter_map(|moment| match moment {
            Moment::Event(event) => Some(event),
            Moment::Page(_) => None,
        })
    }

    /// Its page states in recording order, repeated ones too.
    pub fn pages(&self) -> impl Iterator<Item = &Capture> {
        self.moments.iter().filter_map(|moment| match moment {
            Moment::Page(capture) => Some(capture),
            Moment::Event(_) => None,
        })
    }

    /// When its last moment was emitted, or its recording ended.
    pub fn end(&self) -> Timestamp {
        let last = self.moments.iter().map(Moment::time);
        last.chain(self.replay.end_time).max().unwrap_or(self.replay.start_time)
    }

    /// All of it as one envelope, with every page's content.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            replay: self.replay.clone(),
            events: self.events().cloned().collect(),
            webstates: self.pages().cloned().collect(),
        }
    }

    /// The same session, `micros` microseconds later (or earlier).
    pub fn shifted(mut self, micros: i64) -> Self {
        let shift = |time: &mut Timestamp| {
            *time = Timestamp::from_micros(time.micros().saturating_add(micros));
        };
        shift(&mut self.replay.start_time);
        self.replay.end_time.iter_mut().for_each(shift);
        self.replay.user.created_at.iter_mut().for_each(shift);
        for moment in &mut self.moments {
            match moment {
                Moment::Page(capture) => shift(&mut capture.captured_at),
                Moment::Event(event) => shift(&mut event.timestamp),
            }
        }
        self
    }

    /// Replaces pages one by one; the events that name them follow.
    pub(super) fn replace_pages(&mut self, mut replace: impl FnMut(&mut Capture)) {
        let mut current: Option<(PageHash, PageHash)> = None;
        for moment in &mut self.moments {
            match moment {
                Moment::Page(capture) => {
                    let before = capture.html_hash;
                    replace(capture);
                    current = Some((before, capture.html_hash));
                }
                Moment::Event(event) => {
                    if let Some((before, after)) = current
                        && event.webstate_hash == Some(before)
                    {
                        event.webstate_hash = Some(after);
                    }
                }
            }
        }
    }
}
