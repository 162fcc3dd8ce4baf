//! Where a server of ours listens, as written in flags.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::net::TcpListener;

/// `:PORT` is every address of both IP versions; else one address with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddress {
    /// Every address of this machine.
    Every(u16),
    /// Just this one.
    One(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be :PORT, IPv4:PORT or [IPv6]:PORT";
        match text.strip_prefix(':') {
            Some(port) => port.parse().map(Self::Every).map_err(|_| wrong),
            None => text.parse().map(Self::One).map_err(|_| wrong),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(port) => write!(f, ":{port}"),
            Self::One(address) => address.fmt(f),
        }
    }
}

impl ListenAddress {
    /// Listens there.
    ///
    /// # Errors
    /// The address is in use, not ours, or not allowed.
    pub async fn bind(self) -> io::Result<TcpListener> {
        match self {
            Self::One(address) => TcpListener::bind(address).await,
            Self::Every(port) => {
                let both = TcpListener::bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), port)).await;
                match both {
                    // A node may have IPv6 compiled out or disabled.
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                        TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), port)).await
                    }
                    bound => bound,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back() {
        for text in [":8080", "127.0.0.1:0", "[::1]:8081"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["", "8080", ":", ":65536", "localhost:80", "127.0.0.1", "::1:80x"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn every_address_includes_ipv4_and_a_port_in_use_is_an_error() {
        let listener = ListenAddress::Every(0).bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        assert_eq!(ListenAddress::Every(port).bind().await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
