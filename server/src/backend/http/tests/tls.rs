//! Which certificates are trusted.

use std::env;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Tells the test that it runs as its own child, and what to call.
const CHILD: &str = "TEST_HTTPS_URL";

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    acceptor: TlsAcceptor,
}

/// An authority of our own, and a server with a certificate of it for `localhost`.
fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    Authority { certificate: issuer.der().clone(), pem: issuer.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
}

async fn call_with(clients: &Clients, url: &str) -> Result<CallToolResult, CallError> {
    let http = http(url, &json!({}));
    let tool = HttpTool::new(&http, None, false, Arc::new(Credentials::none()), clients).unwrap();
    call(&tool, json!({})).await
}

#[tokio::test]
async fn only_a_trusted_authority_is_believed() {
    let authority = authority();
    let api = StandIn::start_tls(authority.acceptor).await;
    let url = format!("https://localhost:{}/", api.address.port());
    assert_eq!(said(call_with(&Clients::new([authority.certificate]).unwrap(), &url).await), "secure");
    let error = call_with(&Clients::new([]).unwrap(), &url).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend cannot be reached: its certificate is not trusted, or it does not speak TLS");
    let other_name = format!("https://127.0.0.1:{}/", api.address.port());
    assert!(call_with(&Clients::new([self::authority().certificate]).unwrap(), &other_name).await.is_err());
}

/// The environment is read once, at the start of a process, so this test starts itself as one.
#[tokio::test]
async fn the_bundle_that_the_environment_names_is_trusted() {
    if let Ok(url) = env::var(CHILD) {
        let result = call_with(&Clients::from_environment().unwrap(), &url).await;
        println!("the child was told: {}", result.map_or_else(|error| error.to_string(), |result| said(Ok(result))));
        return;
    }
    let authority = authority();
    let api = StandIn::start_tls(authority.acceptor).await;
    let plain = StandIn::start(|_| text(200, "text/plain", "plain")).await;
    let folder = TempDir::new().unwrap();
    let bundle = folder.path().join("bundle.pem");
    fs::write(&bundle, authority.pem).unwrap();
    let secure = format!("https://localhost:{}/", api.address.port());
    for (url, bundle, told) in [
        (&secure, bundle.as_path(), "secure"),
        (&secure, "/nonexistent/bundle.pem".as_ref(), "the backend cannot be reached: its certificate is not trusted"),
        (&plain.url("/"), "/nonexistent/bundle.pem".as_ref(), "plain"),
    ] {
        let child = Command::new(env::current_exe().unwrap())
            .args(["backend::http::tests::tls::the_bundle_that_the_environment_names_is_trusted", "--exact", "--nocapture"])
            .env(CHILD, url)
            .env("SSL_CERT_FILE", bundle)
            .env_remove("SSL_CERT_DIR")
            .env("http_proxy", "http://127.0.0.1:1")
            .env("https_proxy", "http://127.0.0.1:1")
            .output()
            .await
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        assert!(output.contains(&format!("the child was told: {told}")), "{url}: {output}");
    }
}
