//! Ports for servers that must be told theirs.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Lowest port handed out; below live the well-known services.
const FIRST: u32 = 15_000;
/// How many ports there are to hand out. All lie below 32768, where Linux begins to take the local ports of outgoing
/// connections: a port from there could be taken by any client while its server is down between kill and restart,
/// and a client that retries could even connect to itself.
const SPAN: u32 = 17_000;
/// Spreads the processes of a parallel test run over the range.
const STRIDE: u32 = 211;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A TCP port on 127.0.0.1 that nothing listened on a moment ago, between 15000 and 31999.
///
/// The same process never gets the same port twice, until all were used. Another process may still take the port
/// first, so whoever starts a server on it must be ready to try another one, as [`RedisServer`](crate::RedisServer)
/// does. A server that can listen on port 0 should do that instead.
///
/// # Panics
/// If every port of the range is taken.
pub fn free_port() -> u16 {
    let start = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..SPAN {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(turn) % SPAN;
        let port = u16::try_from(port).expect("FIRST + SPAN is below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + SPAN - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on_and_is_not_given_out_twice() {
        let (a, b) = (free_port(), free_port());
        assert_ne!(a, b);
        TcpListener::bind((Ipv4Addr::LOCALHOST, a)).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, b)).unwrap();
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let taken: Vec<_> =
            (0..20).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap()).collect();
        let port = free_port();
        assert!(taken.iter().all(|listener| listener.local_addr().unwrap().port() != port));
    }
}
