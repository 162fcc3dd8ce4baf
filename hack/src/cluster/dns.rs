//! Asks a cluster's DNS server one question: the only check that shows Service address, proxy and CoreDNS working together.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Whether the server at `address` knows an address of the Service `kubernetes`.
pub fn answers(address: Ipv4Addr) -> bool {
    ask(address).is_ok_and(|answer| is_answer(&answer))
}

const ID: [u8; 2] = [0xC0, 0x5E];

fn ask(address: Ipv4Addr) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.connect((address, 53))?;
    socket.send(&question("kubernetes.default.svc.cluster.local"))?;
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// A query for the A records of `name` (RFC 1035, section 4).
fn question(name: &str) -> Vec<u8> {
    let mut query = ID.to_vec();
    // Recursion desired; one question, nothing else.
    query.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Our question, answered with at least one record and without error, which the low four bits of its byte name.
fn is_answer(message: &[u8]) -> bool {
    let [id0, id1, flags, code, _, _, count0, count1, ..] = message else { return false };
    [*id0, *id1] == ID && flags & 0x80 != 0 && code % 16 == 0 && [*count0, *count1] != [0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_not_an_answer_and_neither_is_an_unknown_name() {
        let mut message = question("a.bc");
        assert_eq!(message.get(12..), Some(&[1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1][..]));
        assert!(!is_answer(&message));
        message[2] |= 0x80;
        assert!(!is_answer(&message), "no record");
        message[7] = 1;
        assert!(is_answer(&message));
        message[3] = 3;
        assert!(!is_answer(&message), "NXDOMAIN");
        assert!(!is_answer(&message[..6]));
    }
}
