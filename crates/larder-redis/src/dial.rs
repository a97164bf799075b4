//! Opening the socket.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[cfg(feature = "tls")]
use crate::tls::Tls;

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A place that can be dialled.
pub(crate) enum Target {
    Tcp {
        host: String,
        port: u16,
    },
    #[cfg(feature = "tls")]
    Tls {
        host: String,
        port: u16,
        tls: Tls,
    },
    #[cfg(unix)]
    Unix {
        path: PathBuf,
    },
}

impl Target {
    /// Opens a socket. Names are resolved anew each time: a failover may be a change of address.
    pub(crate) async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Target::Tcp { host, port } => Box::new(tcp(host, *port).await?),
            #[cfg(feature = "tls")]
            Target::Tls { host, port, tls } => Box::new(tls.over(tcp(host, *port).await?).await?),
            #[cfg(unix)]
            Target::Unix { path } => Box::new(tokio::net::UnixStream::connect(path).await?),
        })
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Small commands must not wait for each other's acknowledgements.
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp { host, port } => write!(f, "{host}:{port}"),
            #[cfg(feature = "tls")]
            Target::Tls { host, port, .. } => write!(f, "{host}:{port} by TLS"),
            #[cfg(unix)]
            Target::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}
