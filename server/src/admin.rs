//! The open port: `/livez`, `/readyz`, `/metrics`. Nothing here changes anything or names a secret.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use crate::ports::{Whole, text, typed};
use crate::shard::Shard;

/// Answers a request of the admin port.
pub fn answer(shard: &Shard, request: &Whole) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "alive\n"),
        // A draining shard stays ready: readiness must not shed what placement has not moved.
        "/readyz" if shard.is_ready() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: no configuration is loaded\n"),
        "/metrics" => {
            typed(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", shard.metrics.encode(shard))
        }
        _ => text(StatusCode::NOT_FOUND, "/livez /readyz /metrics\n"),
    }
}
