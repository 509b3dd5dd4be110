//! TLS by rustls, with the authorities, and perhaps a certificate of our own, from PEM files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::{TlsConnector, rustls};

use crate::client::error::{ClientError, Fatal, Retriable};
use crate::client::settings::TlsSettings;
use crate::config::Address;

/// Puts TLS on connections; made once a client.
pub(super) struct Tls {
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files. Errors: one cannot be read, or does not hold what it should.
    pub fn new(settings: &TlsSettings) -> Result<Tls, ClientError> {
        let unusable = |path: &Path, source: io::Error| {
            ClientError::from(Fatal::TlsFile { path: path.to_owned(), source: Arc::new(source) })
        };
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in
            certificates(&settings.truststore).map_err(|e| unusable(&settings.truststore, e))?
        {
            roots.add(certificate).map_err(|e| unusable(&settings.truststore, io::Error::other(e)))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| unusable(&settings.truststore, io::Error::other(e)))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what the protocol versions need");
        let builder = if settings.checks_host {
            builder.with_webpki_verifier(verifier)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHost(verifier)))
        };
        let config = match &settings.keystore {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let chain = certificates(path).map_err(|e| unusable(path, e))?;
                let key =
                    PrivateKeyDer::from_pem_file(path).map_err(|e| unusable(path, io::Error::other(e)))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| unusable(path, io::Error::other(e)))?
            }
        };
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Agrees on TLS. Errors: the connection was lost, or the broker is not who it should be.
    pub async fn wrap(
        &self,
        stream: TcpStream,
        address: &Address,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let failed = |source: io::Error| {
            let (address, is_tls) = (address.clone(), source.get_ref().is_some_and(|e| e.is::<Error>()));
            let source = Arc::new(source);
            match is_tls {
                true => ClientError::from(Fatal::Tls { address, source }),
                false => Retriable::Connect { address, source }.into(),
            }
        };
        let name = ServerName::try_from(address.host.clone())
            .map_err(|source| failed(io::Error::other(Error::General(source.to_string()))))?;
        self.connector.connect(name, stream).await.map_err(failed)
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "there is no certificate in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(rustls::pki_types::pem::Error::Io(error)) => Err(error),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Checks a certificate in everything but the host it is for (`ssl.endpoint.identification.algorithm` is empty).
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The verifier looks at the name last: whatever else is wrong is told before.
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
