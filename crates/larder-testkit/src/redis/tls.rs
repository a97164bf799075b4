//! The certificates of a server with TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Files with a new authority and a certificate it gave to the server, for `localhost` and `127.0.0.1`.
pub(super) struct Certificates {
    pub(super) ca: PathBuf,
    pub(super) server: PathBuf,
    pub(super) server_key: PathBuf,
}

impl Certificates {
    /// Makes both and writes them, as PEM, into `directory`.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub(super) fn write(directory: &Path) -> Self {
        let mut authority = params([]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "larder test authority");
        let authority_key = key();
        let ca = authority.self_signed(&authority_key).expect("the parameters are complete");
        let issuer = Issuer::new(authority, authority_key);

        let mut server = params(["localhost", "127.0.0.1"]);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.distinguished_name.push(DnType::CommonName, "larder test server");
        let server_key = key();
        let server = server.signed_by(&server_key, &issuer).expect("the parameters are complete");

        let file = |name: &str, pem: String| {
            let path = directory.join(name);
            fs::write(&path, pem).expect("the server's directory is writable");
            path
        };
        Self {
            ca: file("ca.pem", ca.pem()),
            server: file("server.pem", server.pem()),
            server_key: file("server-key.pem", server_key.serialize_pem()),
        }
    }
}

fn params<const N: usize>(names: [&str; N]) -> CertificateParams {
    CertificateParams::new(names.map(str::to_owned)).expect("the names are valid")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
