//! How a Service or a pod is reached from here.
//!
//! On the local cluster this machine has routes to Services and pods. On any other, a listener on the loopback interface
//! forwards each connection through the API server: to a ready endpoint of the Service chosen in turn.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use reqwest::Url;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::failure::{Failure, Outcome, While as _};
use crate::namespace::Namespace;
use crate::wait::eventually;

/// Where an HTTP request goes: a URL and a client that knows the way.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What the request says.
    pub url: Url,
    /// Opens a connection for each request, so that the Service balances each of them.
    pub http: reqwest::Client,
    /// Where a connection of one's own goes.
    pub address: SocketAddr,
    _forwarder: Option<std::sync::Arc<Forwarder>>,
}

/// A listener that ends with the last endpoint that uses it.
#[derive(Debug)]
struct Forwarder(JoinHandle<()>);

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The endpoint `url` of a Service.
///
/// # Errors
/// When there is no such Service, or no way to it.
pub async fn service(namespace: &Namespace, name: &str, url: &str) -> Outcome<Endpoint> {
    let service = namespace.api::<Service>().get(name).await.doing("reading the Service")?;
    let spec = service.spec.unwrap_or_default();
    let port = spec.ports.iter().flatten().next().ok_or_else(|| Failure::new(format!("Service {name} has no port")))?.port;
    let port = u16::try_from(port).map_err(|_| Failure::new(format!("Service {name} has port {port}")))?;
    if namespace.run().target.is_local() {
        let address = spec.cluster_ip.ok_or_else(|| Failure::new(format!("Service {name} has no address")))?;
        let address = SocketAddr::new(parse_address(&address)?, port);
        // A data plane learns of a ready pod a moment after the API server.
        eventually("a connection through the Service", Duration::from_secs(15), || async {
            drop(TcpStream::connect(address).await?);
            Ok(())
        })
        .await?;
        return endpoint(url, address, None);
    }
    let destination = Destination::Service { namespace: namespace.clone(), name: name.to_owned() };
    let (address, forwarder) = forward(destination).await?;
    endpoint(url, address, Some(forwarder))
}

/// The endpoint at a port and path of a pod.
///
/// # Errors
/// When the pod has no address yet, or there is no way to it.
pub async fn pod(namespace: &Namespace, pod: &Pod, port: u16, path: &str) -> Outcome<Endpoint> {
    let name = pod.name_any();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let address = parse_address(&address.ok_or_else(|| Failure::new(format!("pod {name} has no address")))?)?;
    // The Host header of an address literal is always accepted by a shard.
    let url = format!("http://{}{path}", SocketAddr::new(address, port));
    if namespace.run().target.is_local() {
        return endpoint(&url, SocketAddr::new(address, port), None);
    }
    let (address, forwarder) = forward(Destination::Pod { namespace: namespace.clone(), name, port }).await?;
    endpoint(&format!("http://{address}{path}"), address, Some(forwarder))
}

fn parse_address(text: &str) -> Outcome<IpAddr> {
    text.parse().doing(text)
}

fn endpoint(url: &str, address: SocketAddr, forwarder: Option<Forwarder>) -> Outcome<Endpoint> {
    let mut url = Url::parse(url).map_err(|error| Failure::new(format!("{url}: {error}")))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    // A name is resolved here, to where it really is; the port of the URL must be the listener's then.
    let _ = url.set_port(Some(address.port()));
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(Duration::from_secs(10))
        .resolve(&host, address)
        .build()?;
    Ok(Endpoint { url, http, address, _forwarder: forwarder.map(std::sync::Arc::new) })
}

enum Destination {
    Service { namespace: Namespace, name: String },
    Pod { namespace: Namespace, name: String, port: u16 },
}

impl Destination {
    /// The pod and port that the next connection goes to.
    async fn resolve(&self, turn: usize) -> Outcome<(Api<Pod>, String, u16)> {
        match self {
            Self::Pod { namespace, name, port } => Ok((namespace.api(), name.clone(), *port)),
            Self::Service { namespace, name } => {
                let slices: Api<EndpointSlice> = namespace.api();
                let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
                let mut ready = Vec::new();
                for slice in slices.list(&of_service).await?.items {
                    let port = slice.ports.iter().flatten().find_map(|port| port.port).unwrap_or_default();
                    for endpoint in &slice.endpoints {
                        let is_ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
                        if let (true, Some(target)) = (is_ready, &endpoint.target_ref) {
                            ready.push((target.name.clone().unwrap_or_default(), u16::try_from(port).unwrap_or_default()));
                        }
                    }
                }
                let count = ready.len();
                let chosen = ready.into_iter().nth(turn.checked_rem(count).unwrap_or(0));
                let (pod, port) = chosen.ok_or_else(|| Failure::new(format!("Service {name} has no ready endpoint")))?;
                Ok((namespace.api(), pod, port))
            }
        }
    }
}

async fn forward(destination: Destination) -> Outcome<(SocketAddr, Forwarder)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.doing("listening on the loopback interface")?;
    let address = listener.local_addr()?;
    let destination = std::sync::Arc::new(destination);
    let accept = async move {
        for turn in 0.. {
            let Ok((connection, _)) = listener.accept().await else { return };
            let destination = destination.clone();
            tokio::spawn(async move {
                // A client sees a connection that closes, as with a Service whose endpoint went away.
                if let Err(why) = carry(connection, &destination, turn).await {
                    eprintln!("port-forward: {why}");
                }
            });
        }
    };
    Ok((address, Forwarder(tokio::spawn(accept))))
}

async fn carry(mut connection: TcpStream, destination: &Destination, turn: usize) -> Outcome {
    let (pods, name, port) = destination.resolve(turn).await?;
    let mut forwarder = pods.portforward(&name, &[port]).await?;
    let mut stream = forwarder.take_stream(port).ok_or_else(|| Failure::new("no stream for the port"))?;
    let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
    drop(stream);
    forwarder.join().await?;
    Ok(())
}
