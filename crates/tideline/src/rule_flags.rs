//! Flags of node rules: the zone of schedules, how late a missed time may still run, the default target.
//!
//! Owns their translation into policies.

use crate::duration;
use clap::Args;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use model::Policies;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Node rules (HorizontalNodeAutoscaler)")]
pub(crate) struct RuleFlags {
    /// Zone of schedules whose object names none [default: the environment's TZ, else UTC]
    #[arg(long = "rules-time-zone", value_name = "ZONE", value_parser = zone)]
    time_zone: Option<String>,
    /// How late a time of a schedule may still run that nobody was there for, or whose pool could not grow
    /// [default: 5m]
    #[arg(long = "rules-missed-deadline", value_name = "DURATION", value_parser = duration::wait)]
    missed_deadline: Option<SignedDuration>,
    /// Allocation rate that metric rules with a value of -1 keep a pool under, in percent [default: 70]
    #[arg(long = "rules-default-target", value_name = "1..100", value_parser = clap::value_parser!(u32).range(1..=100))]
    default_target: Option<u32>,
}

/// A zone by its IANA name.
fn zone(name: &str) -> Result<String, String> {
    cron::time_zone(name, &TimeZone::UTC).map(|_| name.to_owned()).map_err(|error| error.to_string())
}

impl RuleFlags {
    /// Changes the policies that a flag was given for. `environment` is what TZ says: it counts where neither a flag
    /// nor the configuration names a zone. One that is no IANA name is the fault of nobody who wrote a rule: UTC.
    pub(crate) fn apply(&self, policies: &mut Policies, environment: Option<&str>) {
        if let Some(zone) = &self.time_zone {
            policies.rules_time_zone.clone_from(zone);
        } else if policies.rules_time_zone.is_empty()
            && let Some(Ok(zone)) = environment.map(|name| zone(name.trim_start_matches(':')))
        {
            policies.rules_time_zone = zone;
        }
        policies.rules_missed_deadline = self.missed_deadline.unwrap_or(policies.rules_missed_deadline);
        policies.rules_default_target_percent =
            self.default_target.unwrap_or(policies.rules_default_target_percent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: RuleFlags,
    }

    fn policies(arguments: &[&str], environment: Option<&str>) -> Result<Policies, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).map_err(|error| error.to_string())?;
        let mut policies = Policies::default();
        line.flags.apply(&mut policies, environment);
        Ok(policies)
    }

    #[test]
    fn the_zone_is_the_flags_then_the_environments_then_utc() {
        assert_eq!(
            policies(&["--rules-time-zone=Asia/Shanghai"], Some("UTC")).unwrap().rules_time_zone,
            "Asia/Shanghai"
        );
        assert_eq!(policies(&[], Some(":Europe/Berlin")).unwrap().rules_time_zone, "Europe/Berlin");
        assert_eq!(policies(&[], Some("CST6CDT,M3.2.0,M11.1.0")).unwrap(), Policies::default());
        assert_eq!(
            policies(&["--rules-default-target=70", "--rules-missed-deadline=5m"], None).unwrap(),
            Policies::default()
        );
        assert!(policies(&["--rules-time-zone=Mars"], None).unwrap_err().contains("IANA"));
        assert!(policies(&["--rules-default-target=0"], None).is_err());
    }
}
