//! A plain TCP relay on `localhost`: for programs that refuse any other host.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::failure::{Outcome, While as _};

/// A port of this machine that is not yet connected to anything: its number is known before what it leads to exists.
#[derive(Debug)]
pub struct Entrance(TcpListener);

/// Carries bytes until it is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    carrying: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Entrance {
    /// Takes a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open() -> Outcome<Self> {
        Ok(Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.doing("listening on the loopback interface")?))
    }

    /// What a browser would call this place.
    ///
    /// # Errors
    /// When the port cannot be read.
    pub fn origin(&self) -> Outcome<String> {
        Ok(format!("http://localhost:{}", self.0.local_addr()?.port()))
    }

    /// Leads every connection to an address, each over a connection of its own.
    ///
    /// # Errors
    /// When the port cannot be read.
    pub fn leads_to(self, address: SocketAddr) -> Outcome<Relay> {
        let port = self.0.local_addr()?.port();
        let carrying = tokio::spawn(async move {
            while let Ok((mut connection, _)) = self.0.accept().await {
                tokio::spawn(async move {
                    // A connection that cannot be made is one that closes, as it would be without a relay.
                    if let Ok(mut onward) = TcpStream::connect(address).await {
                        let _ = copy_bidirectional(&mut connection, &mut onward).await;
                    }
                });
            }
        });
        Ok(Relay { port, carrying })
    }
}

impl Relay {
    /// The endpoint as its clients know it.
    pub fn url(&self) -> String {
        format!("http://localhost:{}/mcp", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_pass_in_both_directions_and_the_end_too() {
        let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let entrance = Entrance::open().await.unwrap();
        let origin = entrance.origin().unwrap();
        let relay = entrance.leads_to(behind.local_addr().unwrap()).unwrap();
        assert_eq!(relay.url(), format!("{origin}/mcp"));
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).await.unwrap();
        let (mut server, _) = behind.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        let mut said = [0; 8];
        server.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }
}
