//! Answers on their way out.
//!
//! Owns headers and codes of responses. Leaves their content to the handlers.

use super::body::ApiBody;
use crate::store::ApiError;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

pub(crate) const JSON: &str = "application/json";

/// An answer with a code and a body.
pub(crate) fn bytes(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn json(code: u16, value: &Value) -> Response<ApiBody> {
    bytes(code, JSON, value.to_string())
}

pub(crate) fn text(body: impl Into<Bytes>) -> Response<ApiBody> {
    bytes(200, "text/plain; charset=utf-8", body)
}

/// The `Status` of a refusal, with `Retry-After` where it has one.
pub(crate) fn refusal(error: &ApiError) -> Response<ApiBody> {
    let mut response = json(error.code(), &error.status());
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
