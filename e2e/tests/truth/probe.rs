//! One question put to the data plane: a token that must come back.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How often a datagram is sent within the limit: nobody else sends it again.
const DATAGRAMS: u32 = 3;

/// Where to, and how.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Address and port.
    pub to: SocketAddr,
    /// Else TCP.
    pub is_udp: bool,
}

/// Whether a fresh token came back within `limit`. Each probe has a socket of its own, so that no connection that was
/// let through earlier speaks for it.
pub async fn passes(probe: Probe, limit: Duration) -> bool {
    static TOKENS: AtomicU64 = AtomicU64::new(1);
    let token = TOKENS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let came_back = if probe.is_udp {
        timeout(limit, datagram(probe.to, token, limit / DATAGRAMS)).await
    } else {
        timeout(limit, stream(probe.to, token)).await
    };
    matches!(came_back, Ok(Ok(back)) if back == token)
}

async fn stream(to: SocketAddr, token: [u8; 8]) -> io::Result<[u8; 8]> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&token).await?;
    let mut back = [0; 8];
    stream.read_exact(&mut back).await?;
    Ok(back)
}

async fn datagram(to: SocketAddr, token: [u8; 8], patience: Duration) -> io::Result<[u8; 8]> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(to).await?;
    let mut back = [0; 8];
    loop {
        socket.send(&token).await?;
        if let Ok(received) = timeout(patience, socket.recv(&mut back)).await {
            received?;
            return Ok(back);
        }
    }
}
