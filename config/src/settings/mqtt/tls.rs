//! How the broker proves who it is, and how we do, over TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::super::Surroundings;
use crate::document::Section;

/// TLS to a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttTls {
    /// Who may vouch for the broker; `None`: whom this machine trusts.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// With which we prove who we are, where the broker asks for it.
    pub identity: Option<TlsIdentity>,
    /// For which the broker's certificate must be made out.
    pub server_name: ServerName<'static>,
}

/// A certificate and its key. The key is never shown.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsIdentity {
    /// Our certificate first, then those of whoever vouches for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of our certificate.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Without TLS they would be of no use, and their owner would think otherwise.
const ONLY_WITH_TLS: [&str; 4] = ["ca_file", "client_cert_file", "client_key_file", "server_name"];

/// `None` without TLS, or where something is missing; what is wrong is noted.
pub(super) fn read(
    s: &mut Section<'_>,
    wanted: bool,
    host: Option<&str>,
    around: &Surroundings<'_>,
) -> Option<MqttTls> {
    let authorities = s.parsed("ca_file", |path| certificates(around.path(path)));
    let chain = s.parsed("client_cert_file", |path| certificates(around.path(path)));
    let key = s.parsed("client_key_file", |path| private_key(around.path(path)));
    let named = s.parsed("server_name", |name| server_name(name).map_err(|()| NO_NAME.to_owned()));
    if !wanted {
        for key in ONLY_WITH_TLS.into_iter().filter(|key| s.has(key)) {
            s.refuse(key, "is for TLS, which is off; say `tls = true`");
        }
        return None;
    }
    for (key, other) in [("client_cert_file", "client_key_file"), ("client_key_file", "client_cert_file")] {
        if s.has(key) && !s.has(other) {
            s.refuse(key, format_args!("stands without `{other}`; a certificate and its key go together"));
        }
    }
    let server_name = match (named, host) {
        (Some(name), _) => name,
        (None, _) if s.has("server_name") => return None,
        (None, Some(host)) => match server_name(host.trim_matches(['[', ']'])) {
            Ok(name) => name,
            Err(()) => {
                s.refuse("host", "cannot stand in a certificate; say `server_name`");
                return None;
            }
        },
        (None, None) => return None,
    };
    let identity = chain.zip(key).map(|(chain, key)| TlsIdentity { chain, key: Arc::new(key) });
    Some(MqttTls { authorities, identity, server_name })
}

const NO_NAME: &str = "is neither a host name nor an address";

fn server_name(name: &str) -> Result<ServerName<'static>, ()> {
    ServerName::try_from(name.to_owned()).map_err(|_| ())
}

/// Certificates of a file in PEM, at least one.
pub(in super::super) fn certificates(path: PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(&path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(format!("{} holds no certificate in PEM", path.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{} is not sound PEM: {}", path.display(), complaint(&error))),
    }
}

fn private_key(path: PathBuf) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read_file(&path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        PemError::NoItemsFound if contains(&pem, b"ENCRYPTED PRIVATE KEY") => {
            format!(
                "{} is encrypted; a key without a passphrase is needed, in a file that only we can read",
                path.display()
            )
        }
        PemError::NoItemsFound => format!("{} holds no private key in PEM", path.display()),
        other => format!("{} is not sound PEM: {}", path.display(), complaint(&other)),
    })
}

/// In words of our own: those of the library may repeat what the file holds.
fn complaint(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::IllegalSectionStart { .. } => "a section begins wrongly",
        PemError::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    }
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
