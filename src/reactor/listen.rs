//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, getsockname,
    listen, setsockopt, socket, sockopt,
};

use super::fd::socket_address;

/// Connections the kernel finishes before the shard accepts them. Cut to `net.core.somaxconn` (4096 by default) by the kernel.
const BACKLOG: i32 = 4096;

/// Seen to take 10 ms on an idle machine and ten times that on a busy one.
const PORT_TRIES: u32 = 50;
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// A socket that listens on `address` beside those of the other shards: the kernel spreads connections over them.
/// Returns the address with the port the kernel chose, if `address` left it open.
pub(super) fn listening_socket(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = bound_socket(address, true)?;
    // Inherited by accepted sockets: replies leave at once, dead peers are found in time.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let bound = socket_address(&bound).expect("a socket made for an internet address is bound to one");
    Ok((socket, bound))
}

/// Checks that nobody listens on `address`, this process included. To be called before the shards listen: they share the port,
/// and with the same right another process of the same user could take a part of the connections unseen.
/// Blocks for up to a second while the port is taken: the sockets of a process that was killed live on, after it is gone,
/// until the kernel has taken its ring apart.
/// Errors: `AddrInUse`, or whatever else keeps this process from binding.
pub fn check_port_free(address: SocketAddr) -> io::Result<()> {
    for _ in 0..PORT_TRIES {
        match bound_socket(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result.map(drop),
        }
        #[allow(clippy::disallowed_methods, reason = "before there is a ring there is no timer of it")]
        std::thread::sleep(PORT_PAUSE);
    }
    bound_socket(address, false).map(drop)
}

fn bound_socket(address: SocketAddr, shares_port: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    // Blocking, as far as the socket knows: on a non-blocking one the ring's accept would fail with EAGAIN instead of waiting.
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Connections of a former run in TIME_WAIT do not hold the port; a listener does.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if shares_port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    match address {
        SocketAddr::V4(address) => bind(socket.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?,
    }
    Ok(socket)
}
