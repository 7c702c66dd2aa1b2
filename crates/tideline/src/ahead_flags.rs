//! Flags of planning ahead: whether nodes are bought for replicas that are known to come, and how much.
//!
//! Owns their translation into policies; what has no flag is set in the configuration, under `policies.ahead`.

use crate::duration;
use crate::policy_flags::switch;
use clap::Args;
use jiff::SignedDuration;
use model::{MicroUsdPerHour, Policies};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Planning ahead")]
pub(crate) struct AheadFlags {
    /// Buy nodes for replicas that portraits and CronJobs tell of, so that they are ready when those are due
    /// [default: false]
    #[arg(long = "plan-ahead", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    enabled: Option<bool>,
    /// Also for where HorizontalPodAutoscalers are heading, up to their maximum [default: false]
    #[arg(long = "plan-ahead-trends", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    trends: Option<bool>,
    /// How long a machine is reckoned to take until its pool's own have been measured [default: 5m]
    #[arg(long = "plan-ahead-unknown-lead", value_name = "DURATION", value_parser = duration::wait)]
    unknown_lead: Option<SignedDuration>,
    /// A node that is needed again within this time may be kept in place of being bought again [default: 20m]
    #[arg(long = "plan-ahead-keep-for", value_name = "DURATION", value_parser = duration::wait)]
    keep_for: Option<SignedDuration>,
    /// Share of a pool's maximum that may wait for what is to come, in percent [default: 50]
    #[arg(long = "plan-ahead-most-share", value_name = "0..100", value_parser = clap::value_parser!(u32).range(0..=100))]
    most_share: Option<u32>,
    /// What such machines may cost in an hour, all together, in US dollars; 0 is no limit [default: 0]
    #[arg(long = "plan-ahead-most-per-hour", value_name = "USD", value_parser = dollars)]
    most_per_hour: Option<MicroUsdPerHour>,
}

/// Reads `2.5` as dollars an hour.
fn dollars(text: &str) -> Result<MicroUsdPerHour, String> {
    let amount: f64 = text.parse().map_err(|_| format!("\"{text}\" is no amount of dollars; write 2.5"))?;
    if !(0.0..=1e9).contains(&amount) {
        return Err(format!("\"{text}\" is not between 0 and a thousand million"));
    }
    Ok(MicroUsdPerHour((amount * 1e6).round() as u64))
}

impl AheadFlags {
    /// Changes the policies that a flag was given for.
    pub(crate) fn apply(&self, policies: &mut Policies) {
        let ahead = &mut policies.ahead;
        ahead.enabled = self.enabled.unwrap_or(ahead.enabled);
        ahead.trends = self.trends.unwrap_or(ahead.trends);
        ahead.unknown_lead = self.unknown_lead.unwrap_or(ahead.unknown_lead);
        ahead.keep_for = self.keep_for.unwrap_or(ahead.keep_for);
        ahead.most_share_percent = self.most_share.unwrap_or(ahead.most_share_percent);
        ahead.most_per_hour = self.most_per_hour.unwrap_or(ahead.most_per_hour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AheadFlags,
    }

    #[test]
    fn nothing_is_on_that_was_not_asked_for() {
        let policies = |arguments: &[&str]| {
            let line =
                Line::try_parse_from([&["x"], arguments].concat()).map_err(|error| error.to_string())?;
            let mut policies = Policies::default();
            line.flags.apply(&mut policies);
            Ok::<_, String>(policies)
        };
        assert_eq!(policies(&[]).unwrap(), Policies::default());
        let asked = policies(&["--plan-ahead", "--plan-ahead-most-per-hour=2.5"]).unwrap().ahead;
        assert!(asked.enabled && !asked.trends);
        assert_eq!(asked.most_per_hour, MicroUsdPerHour(2_500_000));
        assert!(policies(&["--plan-ahead-most-per-hour=much"]).unwrap_err().contains("2.5"));
        assert!(policies(&["--plan-ahead-most-share=101"]).is_err());
    }
}
