//! A connection, and who refused it when it is refused: whoever has the address, by a reset, or a router on the way, by an ICMP
//! error (`IP_RECVERR`, ip(7)). The first is a shard that does not listen, the second a data plane that knows no shard.

use std::io::{Error, ErrorKind, IoSliceMut, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};

/// Connects. A refusal says which port it came from and who refused.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    setsockopt(&socket, sockopt::Ipv4RecvErr, &address.is_ipv4())?;
    // Connecting consumes the socket, and what is known of the refusal with it.
    let kept = socket.as_fd().try_clone_to_owned()?;
    match socket.connect(address).await {
        Ok(stream) => {
            // A connection that stands is not to end for an ICMP error.
            setsockopt(&stream, sockopt::Ipv4RecvErr, &false)?;
            Ok(stream)
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            let from = port(&kept).map_or_else(String::new, |port| format!("port {port}: "));
            Err(Error::new(ErrorKind::ConnectionRefused, format!("{from}{}", who_refused(&kept))))
        }
        Err(error) => Err(error),
    }
}

fn port(socket: &OwnedFd) -> Option<u16> {
    Some(nix::sys::socket::getsockname::<SockaddrIn>(socket.as_raw_fd()).ok()?.port())
}

fn who_refused(socket: &OwnedFd) -> String {
    let mut sent = [0; 64];
    let mut sent = [IoSliceMut::new(&mut sent)];
    let mut control = nix::cmsg_space!([u8; 64]);
    let told = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut sent, Some(&mut control), MsgFlags::MSG_ERRQUEUE);
    let icmp = told.ok().and_then(|told| {
        told.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4RecvErr(error, router) => Some((error, router)),
            _ => None,
        })
    });
    match icmp {
        Some((error, router)) => {
            let router = router.map(|address| Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).to_string());
            format!("ICMP type {} code {} of {}", error.ee_type, error.ee_code, router.as_deref().unwrap_or("nobody known"))
        }
        None => "reset by who has the address".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_where_nobody_listens_resets() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            connect(address).await.unwrap();
            drop(listener);
            let refused = connect(address).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let why = refused.to_string();
            assert!(why.starts_with("port ") && why.ends_with(": reset by who has the address"), "{why}");
        });
    }
}
