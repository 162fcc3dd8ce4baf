//! The command line, parsed by hand: three commands with a few flags each.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Shown when the command line is not understood.
pub const USAGE: &str = "\
usage:
  shop payment --client-id SPIFFE-ID... [--listen 0.0.0.0:8443] [--health 0.0.0.0:8080] [--certs /certs]
               [--database DIRECTORY]
  shop order   --server HOST:PORT [--server-id SPIFFE-ID] [--every 20ms] [--health 0.0.0.0:8080] [--certs /certs]
  shop probe   --server HOST:PORT [--certs /certs]

payment  serves HTTPS to clients whose certificate carries one of the SPIFFE ids; with --database it follows the files
         username, password and revision, and says with each answer which of them it uses
order    calls the server again and again, a new connection each time
probe    calls once without a certificate; exits 0 if refused, 1 if accepted, 2 if there was no verdict";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Payment(PaymentArgs),
    /// Call.
    Order(OrderArgs),
    /// Call once, without a certificate.
    Probe(ProbeArgs),
}

/// Arguments of `shop payment`.
#[derive(Debug, PartialEq, Eq)]
pub struct PaymentArgs {
    /// Where HTTPS is served.
    pub listen: SocketAddr,
    /// Where `/healthz` is served in the clear.
    pub health: SocketAddr,
    /// Directory of the certificate files.
    pub certs: PathBuf,
    /// SPIFFE ids that may call; at least one.
    pub client_ids: Vec<String>,
    /// Directory of the database login.
    pub database: Option<PathBuf>,
}

/// Arguments of `shop order`.
#[derive(Debug, PartialEq, Eq)]
pub struct OrderArgs {
    /// Whom to call.
    pub server: Target,
    /// SPIFFE id the server must have, besides the right name.
    pub server_id: Option<String>,
    /// Pause between the starts of two calls, at least 1 ms.
    pub every: Duration,
    /// Where `/healthz` is served in the clear.
    pub health: SocketAddr,
    /// Directory of the certificate files.
    pub certs: PathBuf,
}

/// Arguments of `shop probe`.
#[derive(Debug, PartialEq, Eq)]
pub struct ProbeArgs {
    /// Whom to call.
    pub server: Target,
    /// Directory that holds `ca.crt`.
    pub certs: PathBuf,
}

/// A host name with a port; the name is also what the server's certificate must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Reads the arguments after the program's name; the error says what is wrong with them.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments;
    let command = arguments.next().ok_or("a command is needed")?;
    let mut flags = Flags::read(arguments)?;
    let certs = PathBuf::from(flags.one("--certs")?.unwrap_or_else(|| "/certs".to_owned()));
    let parsed = match command.as_str() {
        "payment" => Command::Payment(PaymentArgs {
            listen: flags.address("--listen", "0.0.0.0:8443")?,
            health: flags.address("--health", "0.0.0.0:8080")?,
            certs,
            client_ids: flags.many("--client-id").ok_or("--client-id is needed")?,
            database: flags.one("--database")?.map(PathBuf::from),
        }),
        "order" => Command::Order(OrderArgs {
            server: flags.target()?,
            server_id: flags.one("--server-id")?,
            every: flags.one("--every")?.map_or(Ok(Duration::from_millis(20)), |text| interval(&text))?,
            health: flags.address("--health", "0.0.0.0:8080")?,
            certs,
        }),
        "probe" => Command::Probe(ProbeArgs { server: flags.target()?, certs }),
        other => return Err(format!("unknown command `{other}`")),
    };
    flags.nothing_left().map(|()| parsed)
}

/// Flags by name, taken out one by one so that what is left over is unknown.
struct Flags(BTreeMap<String, Vec<String>>);

impl Flags {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            flags.entry(name).or_default().push(value);
        }
        Ok(Self(flags))
    }

    fn many(&mut self, name: &str) -> Option<Vec<String>> {
        self.0.remove(name)
    }

    fn one(&mut self, name: &str) -> Result<Option<String>, String> {
        let mut values = self.many(name).unwrap_or_default();
        let value = values.pop();
        if values.is_empty() { Ok(value) } else { Err(format!("{name} is given more than once")) }
    }

    fn address(&mut self, name: &str, default: &str) -> Result<SocketAddr, String> {
        let text = self.one(name)?.unwrap_or_else(|| default.to_owned());
        text.parse().map_err(|_| format!("{name} wants an address with a port, not `{text}`"))
    }

    fn target(&mut self) -> Result<Target, String> {
        let text = self.one("--server")?.ok_or("--server is needed")?;
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("--server wants HOST:PORT, not `{text}`"))?;
        let port = port.parse().map_err(|_| format!("--server wants HOST:PORT, not `{text}`"))?;
        Ok(Target { host: host.to_owned(), port })
    }

    fn nothing_left(&self) -> Result<(), String> {
        self.0.keys().next().map_or(Ok(()), |name| Err(format!("unknown flag `{name}`")))
    }
}

/// `20ms` or `1s`; not zero, which would be a busy loop.
fn interval(text: &str) -> Result<Duration, String> {
    let misuse = || format!("--every wants a time such as 20ms or 1s, not `{text}`");
    let duration = if let Some(millis) = text.strip_suffix("ms") {
        Duration::from_millis(millis.parse().map_err(|_| misuse())?)
    } else {
        let seconds = text.strip_suffix('s').ok_or_else(misuse)?;
        Duration::from_secs(seconds.parse().map_err(|_| misuse())?)
    };
    if duration.is_zero() { Err(misuse()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Command, &str>) {
        let parsed = parse(line.split_whitespace().map(str::to_owned));
        assert_eq!(parsed, expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn commands() {
        check(
            "payment --listen 127.0.0.1:1 --health 127.0.0.1:2 --certs /c --database /d --client-id spiffe://a/b --client-id spiffe://a/c",
            Ok(Command::Payment(PaymentArgs {
                listen: ([127, 0, 0, 1], 1).into(),
                health: ([127, 0, 0, 1], 2).into(),
                certs: "/c".into(),
                client_ids: vec!["spiffe://a/b".to_owned(), "spiffe://a/c".to_owned()],
                database: Some("/d".into()),
            })),
        );
        check(
            "order --server payment.payments.svc:8443 --every 2s",
            Ok(Command::Order(OrderArgs {
                server: Target { host: "payment.payments.svc".to_owned(), port: 8443 },
                server_id: None,
                every: Duration::from_secs(2),
                health: ([0, 0, 0, 0], 8080).into(),
                certs: "/certs".into(),
            })),
        );
        check(
            "probe --server localhost:1 --certs /c",
            Ok(Command::Probe(ProbeArgs {
                server: Target { host: "localhost".to_owned(), port: 1 },
                certs: "/c".into(),
            })),
        );
    }

    #[test]
    fn misuse_is_named() {
        check("", Err("a command is needed"));
        check("pay", Err("unknown command `pay`"));
        check("payment", Err("--client-id is needed"));
        check("probe --server", Err("--server needs a value"));
        check("probe --server localhost", Err("--server wants HOST:PORT, not `localhost`"));
        check("probe --server a:1 --server b:2", Err("--server is given more than once"));
        check("probe --server a:1 --every 1s", Err("unknown flag `--every`"));
        check("order --server a:1 --every 0ms", Err("--every wants a time such as 20ms or 1s, not `0ms`"));
        check("order --server a:1 --every soon", Err("--every wants a time such as 20ms or 1s, not `soon`"));
    }
}
