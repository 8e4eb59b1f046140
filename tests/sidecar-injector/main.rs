//! A mutating webhook as meshes and vendors install them: every pod that is created gets a sidecar, a label and an annotation.
//!
//! `INJECTOR_CERTIFICATE` and `INJECTOR_KEY` are PEM, `INJECTOR_IMAGE` is the sidecar's image, and port 8443 answers
//! `AdmissionReview`s of `admission.k8s.io/v1`. It is never given anything but pods, and never refuses one.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::ByteString;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// A review of a pod is smaller.
const MAX_REVIEW: usize = 3 << 20;
const PORT: u16 = 8443;
/// Name of the container.
const SIDECAR: &str = "sidecar";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let image: Arc<str> = std::env::var("INJECTOR_IMAGE")?.into();
    let tls = acceptor(&std::env::var("INJECTOR_CERTIFICATE")?, &std::env::var("INJECTOR_KEY")?)?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await?;
    println!("sidecar-injector listens on port {PORT}");
    // The first process of a container gets no default action for a signal.
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.recv() => return Ok(()),
        };
        let Ok((connection, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let (tls, image) = (tls.clone(), image.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(connection).await else { return };
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let service = service_fn(move |request| review(request, image.clone()));
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Box<dyn Error>> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key)?)))
}

async fn review(request: Request<Incoming>, image: Arc<str>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = Limited::new(request.into_body(), MAX_REVIEW).collect().await;
    let review = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok());
    let (status, answer) = match review {
        Some(review) => (StatusCode::OK, answer(&review["request"], &image)),
        None => (StatusCode::BAD_REQUEST, json!({"error": "this is no AdmissionReview"})),
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn answer(request: &Value, image: &str) -> Value {
    let patch = patch(&request["object"], image).to_string().into_bytes();
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": ByteString(patch)},
    })
}

/// What every pod gets, once: it is asked again when somebody else changed the pod after it. Of labels and annotations there
/// may be none yet.
fn patch(pod: &Value, image: &str) -> Value {
    let containers = pod["spec"]["containers"].as_array();
    if containers.into_iter().flatten().any(|container| container["name"] == SIDECAR) {
        return json!([]);
    }
    let put = |map: &str| {
        if pod["metadata"][map].is_object() {
            json!({"op": "add", "path": format!("/metadata/{map}/example.com~1injected"), "value": "yes"})
        } else {
            json!({"op": "add", "path": format!("/metadata/{map}"), "value": {"example.com/injected": "yes"}})
        }
    };
    let sidecar = json!({
        "name": SIDECAR,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "ECHO_LISTEN", "value": "0.0.0.0:15000"}],
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    // At the front: nobody may rely on the first container being theirs.
    json!([put("labels"), put("annotations"), {"op": "add", "path": "/spec/containers/0", "value": sidecar}])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pod_without_labels_gets_a_map_and_one_with_them_a_member() {
        let patch = patch(&json!({"metadata": {"labels": {"a": "b"}}}), "echo:1");
        assert_eq!(patch[0]["path"], "/metadata/labels/example.com~1injected");
        assert_eq!(
            (&patch[1]["path"], &patch[1]["value"]["example.com/injected"]),
            (&json!("/metadata/annotations"), &json!("yes"))
        );
        assert_eq!(patch[2]["value"]["image"], "echo:1");
    }

    #[test]
    fn a_pod_that_has_its_sidecar_is_left_alone() {
        assert_eq!(patch(&json!({"spec": {"containers": [{"name": "a"}, {"name": SIDECAR}]}}), "echo:1"), json!([]));
    }

    #[test]
    fn an_answer_names_the_request_and_allows_it() {
        let answer = answer(&json!({"uid": "u", "object": {}}), "echo:1");
        assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!("u"), &json!(true)));
    }
}
