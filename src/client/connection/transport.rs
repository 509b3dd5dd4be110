//! Makes the byte stream that a connection runs on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::client::error::{ClientError, Retriable};
use crate::client::settings::ClientSettings;
use crate::config::Address;

use super::tls::Tls;

/// Both directions of a stream, each by itself.
pub(super) struct Transport {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Transport {
    /// Tries every address that the host has, in the order in which the resolver gives them.
    pub async fn connect(
        address: &Address,
        settings: &ClientSettings,
        tls: Option<&Tls>,
    ) -> Result<Transport, ClientError> {
        let stream = tcp(address, settings).await?;
        match tls {
            None => {
                let (reader, writer) = stream.into_split();
                Ok(Transport { reader: Box::new(reader), writer: Box::new(writer) })
            }
            Some(tls) => {
                let (reader, writer) = tokio::io::split(tls.wrap(stream, address).await?);
                Ok(Transport { reader: Box::new(reader), writer: Box::new(writer) })
            }
        }
    }
}

async fn tcp(address: &Address, settings: &ClientSettings) -> Result<TcpStream, ClientError> {
    let resolve = |source| Retriable::Resolve { address: address.clone(), source: Arc::new(source) };
    let found = lookup_host((address.host.as_str(), address.port)).await.map_err(resolve)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in found {
        match one(candidate, settings).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(Retriable::Connect { address: address.clone(), source: Arc::new(last) }.into())
}

async fn one(candidate: SocketAddr, settings: &ClientSettings) -> io::Result<TcpStream> {
    let socket = if candidate.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = settings.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    // A peer that is gone without a word is found out while nothing is asked, too.
    socket.set_keepalive(true)?;
    // A request must not wait for the acknowledgement of the one before.
    socket.set_nodelay(true)?;
    socket.connect(candidate).await
}
