//! Opening the socket.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::endpoint::Endpoint;
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How sockets are opened.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    /// `None`: in the clear.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

impl Dialer {
    /// Opens a socket. Names are resolved anew each time: a failover may be a change of address.
    pub(crate) async fn dial(&self, server: &Endpoint) -> io::Result<Box<dyn Stream>> {
        match server {
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Small commands must not wait for each other's acknowledgements.
                stream.set_nodelay(true)?;
                #[cfg(feature = "tls")]
                if let Some(tls) = &self.tls {
                    return Ok(Box::new(tls.over(host, stream).await?));
                }
                Ok(Box::new(stream))
            }
            #[cfg(unix)]
            Endpoint::Unix { path } => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Endpoint::Unix { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
