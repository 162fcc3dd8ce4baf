//! The naive reading: JSON in, and one yes or no for every world that the scene allows. What differs between worlds is
//! unclear. It knows no index, no defaults of its own and no type of the evaluator.
//!
//! A world chooses an address of each end, a number for each name of a port, and whether an end without an address is
//! inside every block or in none.

use regex_lite::Regex;
use serde_json::{Value, json};

/// Everything as JSON. Pods: `{namespace, name, labels, addresses, hostNetwork, ports: [[name, protocol, number]]}`.
pub struct Naive<'a> {
    pub namespaces: &'a Value,
    pub pods: &'a [Value],
    pub policies: &'a [Value],
}

/// `open`, `allowed` or `blocked`, for egress and ingress; `None` is unclear.
pub type Sides = Option<(&'static str, &'static str)>;

struct World {
    from: Option<String>,
    to: Option<String>,
    ports: Vec<Value>,
    unknown_is_inside: bool,
}

impl Naive<'_> {
    pub fn ask(&self, from: &Value, to: &Value, protocol: &str, port: u64) -> Sides {
        if port == 0 {
            return None;
        }
        let (from_pod, from_addresses) = self.end(from)?;
        let (to_pod, to_addresses) = self.end(to)?;
        if from_pod.is_some() && from_pod.map(id) == to_pod.map(id) {
            return Some(("open", "open"));
        }
        for pod in [from_pod, to_pod].into_iter().flatten() {
            if pod["hostNetwork"] != json!(true) && !self.readable(&pod["namespace"]) {
                return None;
            }
        }
        let egress = self.isolating(from_pod, "Egress");
        let ingress = self.isolating(to_pod, "Ingress");
        let mut seen: Vec<(bool, bool)> = Vec::new();
        for world in worlds(&from_addresses, &to_addresses, to_pod) {
            let passes =
                |policies: &[&Value], rules: &str, peers: &str, peer: Option<&Value>, address: &Option<String>| {
                    policies.iter().any(|policy| {
                        list(&policy["spec"][rules]).iter().any(|rule| {
                            self.peer_fits(policy, &rule[peers], peer, address.as_deref(), world.unknown_is_inside)
                                && port_fits(&rule["ports"], protocol, port, &world.ports)
                        })
                    })
                };
            seen.push((
                passes(&egress, "egress", "to", to_pod, &world.to),
                passes(&ingress, "ingress", "from", from_pod, &world.from),
            ));
        }
        let side = |policies: &[&Value], seen: Vec<bool>| match (policies.len(), seen.first()) {
            (0, _) => Some("open"),
            (_, None) => None,
            (_, Some(first)) if seen.iter().any(|each| each != first) => None,
            (_, Some(true)) => Some("allowed"),
            (_, Some(false)) => Some("blocked"),
        };
        Some((
            side(&egress, seen.iter().map(|(egress, _)| *egress).collect())?,
            side(&ingress, seen.iter().map(|(_, ingress)| *ingress).collect())?,
        ))
    }

    /// The pod, if it is one, and its addresses.
    fn end(&self, end: &Value) -> Option<(Option<&Value>, Vec<String>)> {
        if let Some(address) = end.as_str() {
            let has = |pod: &&Value| list(&pod["addresses"]).contains(end) && pod["hostNetwork"] != json!(true);
            let owners: Vec<&Value> = self.pods.iter().filter(has).collect();
            return match owners[..] {
                [] => Some((None, vec![address.to_owned()])),
                [owner] => Some((Some(owner), vec![address.to_owned()])),
                _ => None,
            };
        }
        let pod = self.pods.iter().find(|pod| id(pod) == id(end))?;
        self.namespaces.get(pod["namespace"].as_str()?)?;
        Some((Some(pod), list(&pod["addresses"]).iter().map(|address| address.as_str().unwrap().to_owned()).collect()))
    }

    /// Whether each policy that could matter in the namespace is one that a server stores.
    fn readable(&self, namespace: &Value) -> bool {
        let name = |policy: &Value| policy["metadata"]["name"].clone();
        let placed = |policy: &&Value| !policy["metadata"]["namespace"].is_null();
        let here: Vec<&Value> =
            self.policies.iter().filter(|policy| policy["metadata"]["namespace"] == *namespace).collect();
        let twice = here.iter().any(|one| here.iter().filter(|other| name(one) == name(other)).count() > 1);
        self.policies.iter().all(|policy| placed(&policy)) && !twice && here.iter().all(|policy| valid(policy))
    }

    fn isolating(&self, pod: Option<&Value>, direction: &str) -> Vec<&Value> {
        let Some(pod) = pod.filter(|pod| pod["hostNetwork"] != json!(true)) else { return Vec::new() };
        let isolates = |policy: &&Value| {
            let spec = &policy["spec"];
            let types = match list(&spec["policyTypes"]) {
                [] if list(&spec["egress"]).is_empty() => vec!["Ingress"],
                [] => vec!["Ingress", "Egress"],
                types => types.iter().filter_map(Value::as_str).collect(),
            };
            policy["metadata"]["namespace"] == pod["namespace"]
                && selects(&spec["podSelector"], &pod["labels"])
                && types.contains(&direction)
        };
        self.policies.iter().filter(isolates).collect()
    }

    fn peer_fits(
        &self,
        policy: &Value,
        peers: &Value,
        pod: Option<&Value>,
        address: Option<&str>,
        inside: bool,
    ) -> bool {
        let peers = list(peers);
        peers.is_empty()
            || peers.iter().any(|peer| {
                if !peer["ipBlock"].is_null() {
                    return address.map_or(inside, |address| block_holds(&peer["ipBlock"], address));
                }
                let Some(pod) = pod.filter(|pod| pod["hostNetwork"] != json!(true)) else { return false };
                let namespace = pod["namespace"].as_str().unwrap();
                let mut labels = self.namespaces[namespace].clone();
                labels["kubernetes.io/metadata.name"] = json!(namespace);
                let namespace_fits = if peer["namespaceSelector"].is_null() {
                    pod["namespace"] == policy["metadata"]["namespace"]
                } else {
                    selects(&peer["namespaceSelector"], &labels)
                };
                namespace_fits && selects(&peer["podSelector"], &pod["labels"])
            })
    }
}

fn worlds(from: &[String], to: &[String], to_pod: Option<&Value>) -> Vec<World> {
    let choices = |addresses: &[String]| -> Vec<Option<String>> {
        if addresses.is_empty() { vec![None] } else { addresses.iter().cloned().map(Some).collect() }
    };
    let mut numbers: Vec<Vec<Value>> = vec![vec![]];
    let named = to_pod.filter(|pod| pod["hostNetwork"] != json!(true)).map_or(&[][..], |pod| list(&pod["ports"]));
    for port in named {
        let same = |other: &&Value| other[0] == port[0] && other[1] == port[1];
        let rivals: Vec<&Value> = named.iter().filter(same).collect();
        if rivals[0] == port || !rivals.contains(&port) {
            let mut next = Vec::new();
            for chosen in &numbers {
                for rival in &rivals {
                    let mut chosen = chosen.clone();
                    if !chosen.iter().any(|known| same(&known)) {
                        chosen.push((*rival).clone());
                    }
                    next.push(chosen);
                }
            }
            numbers = next;
        }
    }
    let mut worlds = Vec::new();
    for from in choices(from) {
        for to in choices(to) {
            let family = |address: &str| address.contains(':');
            if let (Some(from), Some(to)) = (&from, &to)
                && family(from) != family(to)
            {
                continue;
            }
            for ports in &numbers {
                for unknown_is_inside in [false, true] {
                    let (from, to, ports) = (from.clone(), to.clone(), ports.clone());
                    worlds.push(World { from, to, ports, unknown_is_inside });
                }
            }
        }
    }
    worlds
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let equal =
        selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && list(&selector["matchExpressions"]).iter().all(|expression| {
            let found = labels.get(expression["key"].as_str().unwrap());
            let among = found.is_some_and(|found| list(&expression["values"]).contains(found));
            match expression["operator"].as_str().unwrap() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                other => panic!("{other}"),
            }
        })
}

fn port_fits(ports: &Value, protocol: &str, port: u64, named: &[Value]) -> bool {
    let ports = list(ports);
    ports.is_empty()
        || ports.iter().any(|entry| {
            let number_fits = match &entry["port"] {
                Value::Null => true,
                Value::String(name) => named.contains(&json!([name, protocol, port])),
                first => {
                    let first = first.as_u64().unwrap();
                    (first..=entry["endPort"].as_u64().unwrap_or(first)).contains(&port)
                }
            };
            entry["protocol"].as_str().unwrap_or("TCP") == protocol && number_fits
        })
}

fn block_holds(block: &Value, address: &str) -> bool {
    in_network(address, block["cidr"].as_str().unwrap())
        && !list(&block["except"]).iter().any(|part| in_network(address, part.as_str().unwrap()))
}

fn in_network(address: &str, network: &str) -> bool {
    let (base, length) = network.split_once('/').unwrap();
    let length: usize = length.parse().unwrap();
    address.contains(':') == base.contains(':') && bits(address)[..length] == bits(base)[..length]
}

/// One character per bit.
fn bits(address: &str) -> String {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        std::net::IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    }
}

fn valid(policy: &Value) -> bool {
    let spec = &policy["spec"];
    let rules = list(&spec["ingress"]).iter().chain(list(&spec["egress"]));
    let types = list(&spec["policyTypes"]);
    types.len() < 3
        && types.iter().all(|entry| entry == "Ingress" || entry == "Egress")
        && selector_valid(&spec["podSelector"])
        && rules.into_iter().all(|rule| {
            list(&rule["from"]).iter().chain(list(&rule["to"])).all(peer_valid)
                && list(&rule["ports"]).iter().all(port_valid)
        })
}

fn peer_valid(peer: &Value) -> bool {
    let has = |field: &str| !peer[field].is_null();
    let selectors = has("podSelector") || has("namespaceSelector");
    if has("ipBlock") == selectors {
        return false;
    }
    if selectors {
        return selector_valid(&peer["podSelector"]) && selector_valid(&peer["namespaceSelector"]);
    }
    let cidr = &peer["ipBlock"]["cidr"];
    let length = |text: &Value| text.as_str().unwrap().split_once('/').unwrap().1.parse::<u32>().unwrap();
    let address = |text: &Value| text.as_str().unwrap().split_once('/').unwrap().0.to_owned();
    cidr_valid(cidr)
        && list(&peer["ipBlock"]["except"]).iter().all(|part| {
            cidr_valid(part) && length(part) > length(cidr) && in_network(&address(part), cidr.as_str().unwrap())
        })
}

fn cidr_valid(cidr: &Value) -> bool {
    let Some((address, length)) = cidr.as_str().unwrap().split_once('/') else { return false };
    let most = if address.contains(':') { 128 } else { 32 };
    address.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical() == address)
        && (0..=most).any(|plain: u32| plain.to_string() == length)
}

fn port_valid(port: &Value) -> bool {
    let in_range = |number: i64| (1..=65535).contains(&number);
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let end = port["endPort"].as_i64();
    let number_valid = match &port["port"] {
        Value::Null => end.is_none(),
        Value::String(name) => {
            let shape = Regex::new("^[a-z0-9]+(-[a-z0-9]+)*$").unwrap().is_match(name);
            end.is_none() && shape && name.len() <= 15 && Regex::new("[a-z]").unwrap().is_match(name)
        }
        first => {
            let first = first.as_i64().unwrap();
            in_range(first) && end.is_none_or(|end| end >= first && in_range(end))
        }
    };
    ["TCP", "UDP", "SCTP"].contains(&protocol) && number_valid
}

fn selector_valid(selector: &Value) -> bool {
    let label = Regex::new("^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$").unwrap();
    let prefix = Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").unwrap();
    let key_valid = |key: &str| match key.split('/').collect::<Vec<_>>()[..] {
        [name] => label.is_match(name),
        [before, name] => before.len() <= 253 && prefix.is_match(before) && label.is_match(name),
        _ => false,
    };
    let value_valid = |value: &Value| value == "" || label.is_match(value.as_str().unwrap());
    selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| key_valid(key) && value_valid(value))
        && list(&selector["matchExpressions"]).iter().all(|expression| {
            let values = list(&expression["values"]);
            let fits = match expression["operator"].as_str().unwrap() {
                "In" | "NotIn" => !values.is_empty(),
                "Exists" | "DoesNotExist" => values.is_empty(),
                _ => false,
            };
            fits && key_valid(expression["key"].as_str().unwrap()) && values.iter().all(value_valid)
        })
}

fn id(pod: &Value) -> (&Value, &Value) {
    (&pod["namespace"], &pod["name"])
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
