//! Where the servers are, and how they stand to each other.

use std::fmt;

use crate::endpoint::Endpoint;

/// A password. Neither `Debug` nor `Display` gives it away.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which servers, without the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) servers: Servers,
    pub(crate) tls: bool,
    pub(crate) database: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// One server, whose failovers, if any, are a change of what its name means.
    One(Endpoint),
    /// Sentinels, which know the primary of a service.
    Sentinel { sentinels: Vec<Endpoint>, service: String },
    /// Some nodes of a cluster, which know the others.
    Cluster { seeds: Vec<Endpoint> },
}

impl Servers {
    /// The servers that were named.
    #[cfg(feature = "tls")]
    pub(crate) fn named(&self) -> &[Endpoint] {
        match self {
            Servers::One(server) => std::slice::from_ref(server),
            Servers::Sentinel { sentinels, .. } => sentinels,
            Servers::Cluster { seeds } => seeds,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { servers, tls, database } = self;
        let scheme = if *tls { "rediss" } else { "redis" };
        match servers {
            Servers::One(server @ Endpoint::Unix { .. }) => write!(f, "unix://{server}?db={database}"),
            Servers::One(server) => write!(f, "{scheme}://{server}/{database}"),
            Servers::Sentinel { sentinels, service } => {
                write!(f, "{scheme}-sentinel://{}/{service}/{database}", List(sentinels))
            }
            Servers::Cluster { seeds } => write!(f, "{scheme}-cluster://{}", List(seeds)),
        }
    }
}

struct List<'a>(&'a [Endpoint]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, server) in self.0.iter().enumerate() {
            write!(f, "{}{server}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
