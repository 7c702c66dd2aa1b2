//! Why a schedule cannot be read: which text, which field of it, and what would be accepted.
//!
//! Owns the wording; it goes into conditions and events as it is.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error(
        "schedule {text:?}: expected 5 fields (minute, hour, day of month, month, day of week), found {found}"
    )]
    FieldCount { text: String, found: usize },
    #[error("schedule {text:?}: {field} {entry:?}: {problem}")]
    Field { text: String, field: &'static str, entry: String, problem: String },
    #[error(
        "schedule {text:?}: unrecognized descriptor: known are @yearly, @annually, @monthly, @weekly, @daily, \
         @midnight, @hourly and @every with a duration such as 1h30m"
    )]
    Descriptor { text: String },
    #[error("schedule {text:?}: @every needs a duration of at least a second such as 1h30m: {problem}")]
    Every { text: String, problem: String },
    #[error("schedule {text:?}: {what} is not supported by {dialect}; write five fields")]
    NotInDialect { text: String, what: &'static str, dialect: &'static str },
    #[error("time zone {name:?} is unknown; name one of the IANA database, such as Asia/Shanghai, or UTC")]
    Zone { name: String },
    #[error("schedule {text:?} is longer than {limit} characters")]
    TooLong { text: String, limit: usize },
}
