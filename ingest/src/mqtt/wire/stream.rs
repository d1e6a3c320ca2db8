//! The bytes below: TCP, or TLS on it.

use std::io;
use std::sync::Arc;

use meterlake_config::{MqttBroker, MqttTls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore, crypto};

use super::super::source::SourceError;

pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects, and proves who is who where TLS is asked for.
pub(super) async fn open(broker: &MqttBroker) -> Result<(ReadHalf, WriteHalf), SourceError> {
    let tls =
        broker.tls.as_ref().map(|tls| Ok((tls, client_config(tls)?))).transpose().map_err(SourceError::Refused)?;
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await.map_err(|error| broken(&error))?;
    stream.set_nodelay(true).map_err(|error| broken(&error))?;
    let Some((tls, config)) = tls else {
        let (reading, writing) = stream.into_split();
        return Ok((Box::new(reading), Box::new(writing)));
    };
    let connecting = TlsConnector::from(Arc::new(config)).connect(tls.server_name.clone(), stream);
    let (reading, writing) = tokio::io::split(connecting.await.map_err(|error| broken(&error))?);
    Ok((Box::new(reading), Box::new(writing)))
}

/// What TLS needs, made anew for each connection: this machine may trust others by then.
///
/// The provider is named and never the process's own: others link a second one, and then there is no default.
pub(super) fn client_config(tls: &MqttTls) -> Result<ClientConfig, String> {
    let say = |what: &'static str| move |error: rustls::Error| format!("TLS: {what}: {error}");
    let mut roots = RootCertStore::empty();
    match &tls.authorities {
        Some(authorities) => {
            for certificate in authorities {
                roots.add(certificate.clone()).map_err(say("a certificate of `ca_file` is not sound"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("TLS: this machine trusts no certificate authority; name one with `ca_file`".to_owned());
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(say("no version"))?
        .with_root_certificates(roots);
    match &tls.identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(say("our certificate and key")),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// A fault of the connection. Certificates that do not convince are told apart: waiting does not mend them.
pub(super) fn broken(error: &io::Error) -> SourceError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => {
            SourceError::Refused(format!("TLS: the broker's certificate does not convince: {error}"))
        }
        Some(rustls::Error::AlertReceived(alert)) if is_about_us(*alert) => {
            SourceError::Refused(format!("TLS: our certificate does not convince the broker: {error}"))
        }
        Some(_) => SourceError::Lost(format!("TLS: {error}")),
        None => SourceError::Lost(error.to_string()),
    }
}

fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        DecryptError, NoCertificate, UnknownCA, UnsupportedCertificate,
    };
    matches!(
        alert,
        AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            // A signature on our certificate, or with our key, that does not hold.
            | DecryptError
            | NoCertificate
            | UnknownCA
            | UnsupportedCertificate
    )
}
