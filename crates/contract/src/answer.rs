//! The answer to one request, and what is asserted of it in nearly every case.
//!
//! Owns the shape of refusals. Leaves sending requests to `World`.

use http::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Code, headers and body of a response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    pub code: u16,
    pub headers: HeaderMap,
    /// The body where it is JSON, else the text as a string.
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.code),
            "{} was refused with {}: {}",
            self.asked,
            self.code,
            self.body
        );
        self.body
    }

    /// The body of a success with this very code.
    #[track_caller]
    pub fn code(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{} answered {}", self.asked, self.body);
        self.body
    }

    /// The body of a success, read as a type.
    #[track_caller]
    pub fn read<T: DeserializeOwned>(self) -> T {
        let asked = self.asked.clone();
        let body = self.ok();
        serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{asked}: {error} in {body}"))
    }

    /// The `Status` of a refusal with this code and reason.
    #[track_caller]
    pub fn refused(self, code: u16, reason: &str) -> Value {
        assert_eq!(self.code, code, "{} answered {}", self.asked, self.body);
        let expected = serde_json::json!(["Status", "v1", "Failure", code, reason]);
        let [kind, version, status, number, why] =
            ["kind", "apiVersion", "status", "code", "reason"].map(|field| self.body[field].clone());
        assert_eq!(
            Value::Array(vec![kind, version, status, number, why]),
            expected,
            "{}: {}",
            self.asked,
            self.body
        );
        assert!(
            self.body["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{}: no message",
            self.asked
        );
        self.body
    }

    /// The `Status` of an optimistic-lock conflict, whose message clients match on.
    #[track_caller]
    pub fn conflict(self) -> Value {
        let status = self.refused(409, "Conflict");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Operation cannot be fulfilled on "), "{message}");
        assert!(
            message.contains("the object has been modified; please apply your changes to the latest version")
        );
        status
    }

    /// The `Status` of a 422 that blames these fields.
    #[track_caller]
    pub fn invalid(self, fields: &[&str]) -> Value {
        let asked = self.asked.clone();
        let status = self.refused(422, "Invalid");
        let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
        for field in fields {
            let found = causes.iter().find(|cause| cause["field"] == **field);
            let found = found.unwrap_or_else(|| panic!("{asked}: no cause for {field} in {status}"));
            assert!(found["reason"].is_string() && found["message"].is_string(), "{asked}: {found}");
        }
        status
    }

    /// A response header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
