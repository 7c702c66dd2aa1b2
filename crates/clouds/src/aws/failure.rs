//! What an error of the SDK means for a call.
//!
//! Owns the sorting of AWS's codes and the sentence that names the missing permission, its principal and the fix.

use crate::calls::{Failure, FailureKind};
use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Codes that mean: the key is good, and may not do this.
const NO_PERMISSION: &[&str] = &["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"];
/// Codes that mean: nobody knows this key, or it is not signed as it should be.
const NO_KEY: &[&str] = &[
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "OptInRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];
const BUSY: &[&str] =
    &["ScalingActivityInProgress", "ScalingActivityInProgressFault", "ResourceInUse", "ResourceContention"];
const ILL: &[&str] =
    &["RequestLimitExceeded", "ServiceUnavailable", "Unavailable", "InternalError", "InternalFailure"];

/// Sorts an error of an action, named as in policies: `autoscaling:SetDesiredCapacity`.
pub fn failure<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(answer) = error else {
        // No answer, half of one, or no key to sign with: the chain of causes says which.
        let message = format!("{action}: {}", DisplayErrorContext(error));
        return Failure::new(FailureKind::Ill, "", one_line(&message));
    };
    let status = answer.raw().status().as_u16();
    let code = answer.err().code().unwrap_or_default();
    let told = answer.err().message().unwrap_or("AWS gives no message");
    let kind = kind_of(status, code, told);
    let message = match kind {
        FailureKind::Denied if NO_PERMISSION.contains(&code) => {
            let who = principal(told).unwrap_or("the key's owner");
            format!("{who} lacks the permission {action}: grant it in IAM ({told})")
        }
        FailureKind::Denied if told.contains("xpired") || told.contains("too skewed") => format!(
            "{action}: the key or its signature is out of time; set the clock of this machine, or renew the key ({told})"
        ),
        FailureKind::Denied => {
            format!(
                "{action}: the key is not accepted; check the role of the service account or instance ({told})"
            )
        }
        _ => format!("{action}: {told}"),
    };
    let code = if code.is_empty() { status.to_string() } else { code.to_owned() };
    Failure::new(kind, code, one_line(&message))
}

/// Whether a failure means that a permission is missing, not that the key is bad.
pub(super) fn is_missing_permission(failure: &Failure) -> bool {
    NO_PERMISSION.contains(&&*failure.code)
}

fn kind_of(status: u16, code: &str, message: &str) -> FailureKind {
    if NO_PERMISSION.contains(&code) || NO_KEY.contains(&code) {
        return FailureKind::Denied;
    }
    if BUSY.contains(&code) {
        return FailureKind::Busy;
    }
    if code.starts_with("Throttl") || ILL.contains(&code) || status == 429 || status >= 500 {
        return FailureKind::Ill;
    }
    let about_absence = message.contains("not found") || message.contains("does not exist");
    if status == 404 || code.contains("NotFound") || about_absence {
        return FailureKind::Missing;
    }
    FailureKind::Refused
}

/// Who was refused, as the message tells: `User: arn:… is not authorized`.
fn principal(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("User: ")?;
    rest.split_once(" is not authorized").map(|(who, _)| who)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted() {
        for (status, code, message, kind) in [
            (400, "Throttling", "Rate exceeded", FailureKind::Ill),
            (503, "RequestLimitExceeded", "", FailureKind::Ill),
            (500, "", "", FailureKind::Ill),
            (400, "ScalingActivityInProgress", "", FailureKind::Busy),
            (403, "AccessDenied", "", FailureKind::Denied),
            (403, "UnauthorizedOperation", "", FailureKind::Denied),
            (403, "ExpiredToken", "", FailureKind::Denied),
            (400, "ValidationError", "Group name not found - null", FailureKind::Missing),
            (400, "InvalidLaunchTemplateId.NotFound", "", FailureKind::Missing),
            (
                400,
                "ValidationError",
                "New SetDesiredCapacity value 9 is above max value 5",
                FailureKind::Refused,
            ),
        ] {
            assert_eq!(kind_of(status, code, message), kind, "{status} {code} {message}");
        }
    }

    #[test]
    fn the_principal_is_read_from_the_message() {
        let told = "User: arn:aws:sts::1:assumed-role/node/i-0 is not authorized to perform: \
                    autoscaling:DescribeAutoScalingGroups because no identity-based policy allows it";
        assert_eq!(principal(told), Some("arn:aws:sts::1:assumed-role/node/i-0"));
        assert_eq!(principal("no"), None);
    }
}
