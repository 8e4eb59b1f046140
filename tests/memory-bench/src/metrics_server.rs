//! metrics-server as a process of this machine, registered with the API server: what a stock HPA reads.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mcp_tests::apply::apply;
use mcp_tests::failure::While as _;
use mcp_tests::target::output;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim};
use serde_json::json;
use tokio::process::{Child, Command};

/// Where the API server of the local cluster reaches this machine (docs/local-cluster.md, The network).
const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const PORT: u16 = 4443;
const NAME: &str = "metrics-server";
const SERVICE: &str = "v1beta1.metrics.k8s.io";
/// It has figures after two rounds.
const ANSWERS_WITHIN: Duration = Duration::from_mins(3);

/// Runs until dropped.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    _process: Child,
}

impl MetricsServer {
    /// Starts it, and waits until it knows what a pod of the namespace uses.
    ///
    /// # Errors
    /// When it does not start, or has no figures.
    pub(crate) async fn start(namespace: &Namespace, program: &Path, folder: &Path) -> Outcome<Self> {
        let local = std::env::var("LOCAL_CLUSTER").doing("LOCAL_CLUSTER")?;
        let kubeconfig = output(Command::new(local).arg("kubeconfig")).await?;
        let kubeconfig = kubeconfig.trim();
        let log = folder.join("metrics-server.log");
        let log = std::fs::File::create(&log).doing(&log.display().to_string())?;
        // The kernel ends it when this process ends. Fifteen seconds are what its own manifests say.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args([
                format!("--kubeconfig={kubeconfig}"),
                format!("--authentication-kubeconfig={kubeconfig}"),
                format!("--authorization-kubeconfig={kubeconfig}"),
                format!("--cert-dir={}", folder.join("metrics-server-pki").display()),
                format!("--bind-address={HOST}"),
                format!("--secure-port={PORT}"),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                "--kubelet-insecure-tls".to_owned(),
                "--metric-resolution=15s".to_owned(),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().doing("the log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .doing(&format!("starting {}", program.display()))?;
        for object in objects(namespace.name()) {
            apply(namespace.client(), namespace.name(), &object).await.doing("registering metrics-server")?;
        }
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", namespace.name());
        eventually("figures of metrics-server", ANSWERS_WITHIN, || async {
            let request = http::Request::get(&path).body(vec![]).map_err(Failure::from)?;
            let list: serde_json::Value = namespace.client().request(request).await?;
            claim!(list["items"].as_array().is_some_and(|items| !items.is_empty()), "it knows of no pod here");
            Ok(())
        })
        .await?;
        Ok(Self { _process: process })
    }

    /// Takes it out of the API server again.
    ///
    /// # Errors
    /// What kubectl says.
    pub(crate) async fn forget(namespace: &Namespace) -> Outcome {
        namespace.kubectl(&["delete", "apiservice", SERVICE, "--ignore-not-found"]).await.map(drop)
    }
}

fn objects(namespace: &str) -> [serde_json::Value; 3] {
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [HOST.to_string()], "conditions": {"ready": true}}], "ports": [{"name": "https", "port": PORT}]}),
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": SERVICE}, "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"name": NAME, "namespace": namespace},
        }}),
    ]
}
