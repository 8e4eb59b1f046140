//! TLS in front of a shard, as a listener would put it there: a certificate made for the test, and the connection path behind it.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mcp_server::listener::{self, Wire};
use mcp_server::shard::Shard;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// An encrypted connection: what is sent depends on more than the socket.
pub(crate) struct Encrypted(TlsStream<TcpStream>);

impl Wire for Encrypted {
    const IS_BARE: bool = false;

    fn into_std(self) -> io::Result<StdStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsRawFd for Encrypted {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// Serves a shard over TLS on a port of its own; returns where, and what its clients trust.
pub(crate) async fn serve_tls(shard: &Arc<Shard>) -> (SocketAddr, Arc<ClientConfig>) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = sockets.local_addr().unwrap();
    let (acceptor, shard) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(shard));
    tokio::spawn(async move {
        while let Ok((socket, _)) = sockets.accept().await {
            let (acceptor, shard) = (acceptor.clone(), Arc::clone(&shard));
            tokio::spawn(async move {
                let open = shard.admit_connection().unwrap();
                let encrypted = acceptor.accept(socket).await.unwrap();
                listener::serve(Encrypted(encrypted), shard, open).await;
            });
        }
    });
    (address, Arc::new(client))
}
