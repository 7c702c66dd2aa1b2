//! A window that opens at the times of one schedule and closes at those of another.
//!
//! Owns whether it is open, from the schedules alone: nothing remembers whether the opening was seen.

use crate::{CronError, Dialect, Schedule};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Open from a time of `start` until the next time of `end`, that moment not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Schedule,
    pub end: Schedule,
}

/// What a window is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    Open {
        until: Timestamp,
    },
    /// `opens` is none where the start never comes.
    Closed {
        opens: Option<Timestamp>,
    },
    /// The end never comes: there is no telling whether the window is open.
    Endless,
}

impl Window {
    pub fn parse(start: &str, end: &str, dialect: &Dialect, zone: &TimeZone) -> Result<Self, CronError> {
        Ok(Self { start: Schedule::parse(start, dialect, zone)?, end: Schedule::parse(end, dialect, zone)? })
    }

    /// Open exactly when the end comes before the next start: also across midnight, and also if the window was made
    /// while it would have been open. Equal schedules never open.
    pub fn at(&self, moment: Timestamp) -> WindowState {
        let Some(end) = self.end.next_after(moment) else { return WindowState::Endless };
        match self.start.next_after(moment) {
            Some(start) if start > end => WindowState::Open { until: end },
            opens => WindowState::Closed { opens },
        }
    }
}
