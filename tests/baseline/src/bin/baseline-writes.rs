//! No server: it takes sockets, and writes one event to each in a loop. What a fan-out is compared with.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use mcp_baseline::{EVENT, listen, told_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const ACKNOWLEDGED: &str =
    "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\"}\n\n";
const DONE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";

type Sockets = Arc<Mutex<Vec<std::net::TcpStream>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let listener = match listen().await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("baseline-writes: {error}");
            return ExitCode::FAILURE;
        }
    };
    let sockets = Sockets::default();
    let serving = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, Arc::clone(&sockets)));
        }
    };
    tokio::select! {
        () = serving => {}
        () = told_to_end() => {}
    }
    ExitCode::SUCCESS
}

/// Every request is expected in one piece, as the load tool sends them.
async fn serve(mut stream: TcpStream, sockets: Sockets) -> std::io::Result<()> {
    let mut bytes = vec![0; 4096];
    loop {
        let read = stream.read(&mut bytes).await?;
        let request = String::from_utf8_lossy(&bytes[..read]);
        if read == 0 {
            return Ok(());
        }
        if request.contains("subscriptions/listen") {
            stream.write_all(HEAD.as_bytes()).await?;
            stream.write_all(ACKNOWLEDGED.as_bytes()).await?;
            let socket = stream.into_std()?;
            sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
            return Ok(());
        }
        if request.contains("\"raise\"") {
            for socket in sockets.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                let _ = socket.write(EVENT.as_bytes());
            }
        }
        stream.write_all(DONE.as_bytes()).await?;
    }
}
