//! Cron schedules: when the next and the last time is, and whether a window between two schedules is open.
//!
//! Owns reading schedule texts in several dialects (each surface that users write them on has its own rules) and
//! the search in a time zone, across daylight saving. What happens at those times is decided elsewhere; the present
//! time is always passed in.

mod calendar;
mod daylight;
mod error;
mod parse;
mod window;

pub use error::CronError;
pub use window::{Window, WindowState};

use calendar::Calendar;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// What a surface accepts, and what its times mean when clocks are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// As error messages call it.
    pub name: &'static str,
    /// Whether day of week 7 is Sunday; else only 0 is.
    pub sunday_is_seven_too: bool,
    /// Whether `@hourly` and its like are known.
    pub descriptors: bool,
    /// Whether `@every 10m` is known.
    pub every: bool,
    /// Whether `TZ=` or `CRON_TZ=` may stand in front.
    pub zone_prefix: bool,
    pub daylight: DaylightSaving,
}

/// What becomes of local times that do not exist or exist twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaylightSaving {
    /// A time that does not exist is left out; one that exists twice comes twice. So does Kubernetes.
    Literal,
    /// A fixed hour comes exactly once a day: at the first moment after the gap, or the first of two. Schedules that
    /// step through the hours follow elapsed time. A window whose start falls in the gap opens all the same.
    OncePerDay,
}

impl Dialect {
    /// `CronJob.spec.schedule` and what shares its parser.
    pub const KUBERNETES: Self = Self {
        name: "Kubernetes",
        sunday_is_seven_too: false,
        descriptors: true,
        every: true,
        zone_prefix: true,
        daylight: DaylightSaving::Literal,
    };
    /// Cron portraits of IntelligentHorizontalPodAutoscaler: the same texts, but windows must not be lost.
    pub const KAPACITY: Self =
        Self { name: "IHPA", daylight: DaylightSaving::OncePerDay, ..Self::KUBERNETES };
    /// `cronTrigger.schedule` of HorizontalNodeAutoscaler: five fields and nothing else.
    pub const NODE_RULES: Self = Self {
        name: "HorizontalNodeAutoscaler",
        sunday_is_seven_too: true,
        descriptors: false,
        every: false,
        zone_prefix: false,
        daylight: DaylightSaving::OncePerDay,
    };
}

/// A schedule that was understood, in its time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    times: Times,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    Calendar(Box<Calendar>, TimeZone),
    /// From whenever it is asked: it has no phase of its own.
    Every(SignedDuration),
}

impl Schedule {
    /// Reads `text` as `dialect` does; `zone` holds unless the text names another.
    pub fn parse(text: &str, dialect: &Dialect, zone: &TimeZone) -> Result<Self, CronError> {
        let times = parse::schedule(text, dialect, zone)?;
        Ok(Self { text: text.to_owned(), times })
    }

    /// The first time after this moment; none where there is none within nine years, as on 30 February.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Calendar(calendar, zone) => calendar.next_after(moment, zone),
            Times::Every(step) => {
                let whole = Timestamp::from_second(moment.as_second()).ok()?;
                whole.checked_add(*step).ok()
            }
        }
    }

    /// The newest time that is not after this moment. `@every` has none: it counts from the moment it is asked.
    pub fn last_until(&self, moment: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Calendar(calendar, zone) => calendar.last_until(moment, zone),
            Times::Every(_) => None,
        }
    }

    /// The times after this moment, one after another.
    pub fn after(&self, moment: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next_after(moment), |last| self.next_after(*last))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A time zone by its IANA name. Empty means UTC, `Local` what the caller says.
pub fn time_zone(name: &str, local: &TimeZone) -> Result<TimeZone, CronError> {
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        "Local" => Ok(local.clone()),
        // The rules that the program was built with: the same answer on every machine.
        _ => TimeZoneDatabase::bundled().get(name).map_err(|_| CronError::Zone { name: name.to_owned() }),
    }
}
