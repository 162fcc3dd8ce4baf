//! What answers in each pod: every byte and every datagram goes back to where it came from.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use countersign_truth::PORTS;
use tokio::{
    io,
    net::{TcpListener, UdpSocket},
};

/// Answers on every port of the tables, by both protocols, as long as the runtime lives.
pub async fn listen() -> Result<()> {
    for port in PORTS {
        let at = (Ipv4Addr::UNSPECIFIED, port);
        let streams = TcpListener::bind(at).await.with_context(|| format!("port {port}/TCP of a pod is taken"))?;
        let datagrams = UdpSocket::bind(at).await.with_context(|| format!("port {port}/UDP of a pod is taken"))?;
        tokio::spawn(accept(streams));
        tokio::spawn(reflect(datagrams));
    }
    Ok(())
}

async fn accept(listener: TcpListener) {
    // A caller that went away is the caller's loss.
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            io::copy(&mut from, &mut to).await
        });
    }
}

async fn reflect(socket: UdpSocket) {
    let mut datagram = [0; 64];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            let _ = socket.send_to(&datagram[..length], from).await;
        }
    }
}
