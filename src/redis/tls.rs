//! TLS to Sentinel and Redis, as they use it among themselves: both sides show a certificate, and
//! both check that the CA has signed it. Neither compares a host name.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error,
    InconsistentKeys, PeerMisbehaved, RootCertStore, SignatureScheme,
};

use super::certificate::Certificate;
use super::no_answer::NoAnswer;
use super::stream::{Stream, words};
use crate::config;
use crate::exit::Fault;
use crate::text::escape;
use crate::trusted_file::{self, Kind};

/// Which servers are believed, and the certificate that is shown to them.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    files: Arc<Files>,
}

/// What the files hold; a key belongs to its certificate.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    trusted: Vec<CertificateDer<'static>>,
    shown: Vec<CertificateDer<'static>>,
}

/// Whether the same is believed and shown.
impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.files == other.files
    }
}

impl Eq for Tls {}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Those of [`trusted_file::read`], and files that do not hold what they should, permanent.
    pub fn load(of: &config::Tls) -> Result<Tls, Fault> {
        let provider = Arc::new(ring::default_provider());
        let (certificate, shown) = match &of.client {
            None => (None, Vec::new()),
            Some(client) => {
                let shown = certificates(&client.cert_file)?;
                (Some(certificate(client, shown.clone(), &provider)?), shown)
            }
        };
        let verifier = OfItsCa::load(&of.ca_file, &provider)?;
        let trusted = verifier.trusted.clone();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::permanent(format!("cannot use TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(certificate)),
        };
        // A run asks once.
        config.resumption = Resumption::disabled();
        Ok(Tls {
            config: Arc::new(config),
            files: Arc::new(Files { trusted, shown }),
        })
    }

    /// Returns the same without a certificate to show.
    pub fn without_certificate(&self) -> Tls {
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
        let mut files = Files::clone(&self.files);
        files.shown.clear();
        Tls {
            config: Arc::new(config),
            files: Arc::new(files),
        }
    }

    /// Agrees on TLS with the server at the other end of a stream.
    pub(super) async fn connect(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<TlsStream<Box<dyn Stream>>, NoAnswer> {
        // No host name is sent (SNI) or compared; 0.0.0.0 stands in, as rustls wants a name.
        let nobody = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
        TlsConnector::from(self.config.clone())
            .connect(nobody, stream)
            .await
            .map_err(|error| {
                let broken =
                    || NoAnswer::Broken(format!("{} before TLS was agreed", words(&error)));
                no_agreement(&error).unwrap_or_else(broken)
            })
    }
}

/// Shows no certificate.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Returns the certificate to show, with its key, which is read.
fn certificate(
    of: &config::ClientCertificate,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<SingleCertAndKey, Fault> {
    let text = trusted_file::read(&of.key_file, Kind::Key)?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| unusable(&of.key_file, "it holds no private key in PEM"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| unusable(&of.key_file, error))?;
    let certificate = CertifiedKey::new(chain, key);
    // Another error is that of a certificate of version 1, which the server may accept.
    if certificate.keys_match() == Err(InconsistentKeys::KeyMismatch.into()) {
        let why = format!("the certificate in {} has another", of.cert_file.display());
        return Err(unusable(&of.key_file, why));
    }
    Ok(certificate.into())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = trusted_file::read(path, Kind::Certificate)?;
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(path, "it holds no certificate in PEM")),
    }
}

fn unusable(path: &Path, why: impl fmt::Display) -> Fault {
    let why = escape(&why.to_string());
    Fault::permanent(format!("cannot use {}: {why}", path.display()))
        .remedy("Correct the files under [tls] in the configuration.")
}

/// Accepts a certificate that the CA has signed, whatever name is in it.
///
/// That is the rule of Redis for its own connections, those of replicas and of Sentinels included:
/// `SSL_VERIFY_PEER` and never `X509_VERIFY_PARAM_set1_host` (src/tls.c and deps/hiredis/ssl.c).
/// Certificates from its utils/gen-test-certs.sh name no host at all.
#[derive(Debug)]
struct OfItsCa {
    chain: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    /// The same as they stand in the file.
    trusted: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OfItsCa {
    fn load(ca_file: &Path, provider: &Arc<CryptoProvider>) -> Result<OfItsCa, Fault> {
        let trusted = certificates(ca_file)?;
        let mut roots = RootCertStore::empty();
        for certificate in &trusted {
            roots
                .add(certificate.clone())
                .map_err(|error| unusable(ca_file, error))?;
        }
        let roots = Arc::new(roots);
        let chain =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        Ok(OfItsCa {
            chain: chain.map_err(|error| unusable(ca_file, error))?,
            roots,
            trusted,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

/// Returns a certificate of version 1, which webpki does not read.
fn version_1<'a>(der: &'a CertificateDer<'_>) -> Option<Certificate<'a>> {
    Certificate::read(der).filter(Certificate::is_version_1)
}

impl ServerCertVerifier for OfItsCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.contains(end_entity) {
            let own = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
            own.check_time(now)?;
            return Ok(ServerCertVerified::assertion());
        }
        if let Some(certificate) = version_1(end_entity) {
            certificate.check_issuer(&self.roots.roots, self.algorithms.all)?;
            certificate.check_time(now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is compared last, once all else is verified.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(certificate) = version_1(certificate) else {
            return self
                .chain
                .verify_tls12_signature(message, certificate, signature);
        };
        let mapping = self.algorithms.mapping.iter();
        let mut possible = mapping.filter(|(scheme, _)| *scheme == signature.scheme);
        let (_, possible) = possible
            .next()
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        match certificate.has_signed(message, signature.signature(), possible) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match version_1(certificate) {
            Some(certificate) => verify_tls13_signature_with_raw_key(
                message,
                &certificate.key(),
                signature,
                &self.algorithms,
            ),
            None => self
                .chain
                .verify_tls13_signature(message, certificate, signature),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Returns the failure of a server that has let the time for TLS pass.
pub(super) fn not_in_time(time: Duration) -> NoAnswer {
    let silent = NoAnswer::Silent(time);
    NoAnswer::Tls(format!("{silent}; it hangs, or does not speak TLS"))
}

/// Returns why TLS failed, `None` if an error is another one.
pub(super) fn no_agreement(error: &io::Error) -> Option<NoAnswer> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let certificate = |text: &str| NoAnswer::Certificate(text.to_owned());
    Some(match error {
        Error::InvalidMessage(_) => NoAnswer::NoTls,
        // By this host's clock, which may just be set.
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => {
            NoAnswer::Tls("the server's certificate is not valid yet, by this host's clock".into())
        }
        Error::InvalidCertificate(error) => NoAnswer::Certificate(unaccepted(error)),
        Error::NoCertificatesPresented => certificate("the server shows no certificate"),
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity,
        ) => certificate("no version or cipher of TLS that both know (TLS 1.2 or 1.3 here)"),
        Error::AlertReceived(alert) => refused(*alert),
        error => NoAnswer::Tls(escape(&error.to_string())),
    })
}

/// Returns what is wrong with the server's certificate.
fn unaccepted(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "the CA of ca_file has not signed the server's certificate".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".into()
        }
        CertificateError::BadSignature => {
            "the signature in the server's certificate is not that of the CA of ca_file".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate is signed in a way that is not accepted (SHA-1, or an RSA key below 2048 bits)".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the server's certificate is not for servers (extendedKeyUsage without serverAuth)".into()
        }
        CertificateError::BadEncoding => "the server's certificate cannot be read".into(),
        CertificateError::Other(error) if error.to_string() == "CaUsedAsEndEntity" => {
            "the server shows a CA's certificate (CA:TRUE) as its own, and it is not the one in ca_file".into()
        }
        error => {
            let text = match error {
                CertificateError::Other(error) => error.to_string(),
                error => error.to_string(),
            };
            format!("the server's certificate is not accepted: {}", escape(&spaced(&text)))
        }
    }
}

/// Returns why the server does not accept the certificate that it was shown, or that it was shown none.
fn refused(alert: AlertDescription) -> NoAnswer {
    NoAnswer::Certificate(match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
            "the server wants a certificate of its CA (cert_file, key_file)".into()
        }
        AlertDescription::UnknownCA => {
            "the server's CA has not signed the certificate of cert_file".into()
        }
        AlertDescription::CertificateExpired => "the certificate of cert_file has expired".into(),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => {
            "the server does not accept the certificate of cert_file".into()
        }
        alert => {
            let text = spaced(&format!("{alert:?}"));
            return NoAnswer::Tls(format!("the server ended it: {}", escape(&text)));
        }
    })
}

/// Returns a name in the library's way, `LikeThis`, as words.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && words.ends_with(char::is_lowercase) {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A CA, what it has signed, and another CA of the same name. From OpenSSL 3.0:
    ///
    /// ```sh
    /// own() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=ca -keyout $1.key -out $1.crt; }
    /// own ca; own other
    /// openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=redis -keyout redis.key |
    ///     openssl x509 -req -sha256 -CA ca.crt -CAkey ca.key -CAcreateserial -days 365
    /// ```
    pub const CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUMTDWYFhsz7b1ZZPFHgBpqYIqcmMwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwHhcNMjYxMTI1MjA0OTU2WhcNMzYxMTIyMjA0OTU2WjAN
MQswCQYDVQQDDAJjYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFGfTAKrCi3q
TNDO8d7DAoLQudZBUE7TQIjsYagFkpttF4mrHJrakivqiKc/l9OJpjDnWAEwL/jw
psn2HpOmAQajUzBRMB0GA1UdDgQWBBTSqbvCOLDYucxyHaUkERpXwbBYuzAfBgNV
HSMEGDAWgBTSqbvCOLDYucxyHaUkERpXwbBYuzAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQDDegyWseqWpfbKHWqhGy3oGE6ks2/8YswVQJ+Ths4c
3gIgJU6BmhfKZoZdbHgM+hwCUzokrQJjJ+zI2XMrJprIYm4=
-----END CERTIFICATE-----
";
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBFzCBvgIUW8gpV8EYDf2lIyk6BjN7Bp4GwXkwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwHhcNMjYxMTI1MjA0OTU2WhcNMjcxMTI1MjA0OTU2WjAQMQ4wDAYD
VQQDDAVyZWRpczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB3xbE9DFmRs+vWK
lT7gvbd4ZYrhn8vRsHNwyWDOuFddSS5LxV0S9rGyvVR5sJLLk8dZiHxGnqSVCD+n
RHWRkScwCgYIKoZIzj0EAwIDSAAwRQIgRgms2vX9esGkWGtVmRd23C+2FEXk0UlJ
EM/jYLv1gGcCIQD8fy/zBdahSXGu/rz0I5y0Pjm9/yjb03Vy6eZZyXl95g==
-----END CERTIFICATE-----
";
    const OTHER_CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIUdJeaUwgek2vTlBqi7XzUQztTJcowCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwHhcNMjYxMTI1MjA0OTU2WhcNMzYxMTIyMjA0OTU2WjAN
MQswCQYDVQQDDAJjYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABH5+oAzAOF3r
HfK7yJKdtLpYI+JKBuPb4ggH68QaL/KWFx6M2D/tv8AEshpyBjpROL1UMASJkEwL
HEB3Cwcd+NyjUzBRMB0GA1UdDgQWBBS80F+yrGv1VT57UK8Iobb0ELumDTAfBgNV
HSMEGDAWgBS80F+yrGv1VT57UK8Iobb0ELumDTAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCICVKPXggD7vWpcpBnGYMDr8Gux32XuvSbVcRoRkFBN0r
AiEAh51pm92TJGbI8XstQGderelbYSkSU7Z94d7bKaVraZw=
-----END CERTIFICATE-----
";

    /// Within the times of all three.
    const NOW: u64 = 1_800_000_000;

    fn verify(ca: &str, certificate: &[u8], now: u64) -> Result<ServerCertVerified, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, ca).unwrap();
        let verifier = OfItsCa::load(&file, &Arc::new(ring::default_provider())).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let name = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
        verifier.verify_server_cert(&certificate.into(), &[], &name, &[], now)
    }

    fn der(pem: &str) -> Vec<u8> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        certificate.to_vec()
    }

    #[test]
    fn a_certificate_without_extensions_counts_by_its_issuer_signature_and_time() {
        let version_1 = der(VERSION_1);
        verify(CA, &version_1, NOW).unwrap();
        let both = format!("{OTHER_CA}{CA}");
        verify(&both, &version_1, NOW).unwrap();
        // The seconds that `openssl x509 -dates` prints, and those beside them.
        for (now, error) in [
            (1_795_639_795, Some(CertificateError::NotValidYet)),
            (1_795_639_796, None),
            (1_827_175_796, None),
            (1_827_175_797, Some(CertificateError::Expired)),
        ] {
            let expected = error.map(Error::from);
            assert_eq!(verify(CA, &version_1, now).err(), expected, "{now}");
        }
        let unknown = Err(CertificateError::UnknownIssuer.into());
        let same = |result: Result<ServerCertVerified, Error>| result.map(drop);
        assert_eq!(same(verify(OTHER_CA, &version_1, NOW)), unknown);
    }

    #[test]
    fn no_byte_of_a_certificate_can_be_changed() {
        let version_1 = der(VERSION_1);
        for place in 0..version_1.len() {
            for bit in [1, 0x80] {
                let mut forged = version_1.clone();
                forged[place] ^= bit;
                assert!(verify(CA, &forged, NOW).is_err(), "{place} {bit}");
            }
        }
        for end in 0..version_1.len() {
            assert!(verify(CA, &version_1[..end], NOW).is_err(), "{end}");
        }
    }

    #[test]
    fn a_certificate_that_stands_in_ca_file_is_believed_in_its_time() {
        let own = der(CA);
        verify(CA, &own, NOW).unwrap();
        let expired = verify(CA, &own, 2_200_000_000).unwrap_err();
        assert_eq!(expired, CertificateError::Expired.into());
        // Of the same name, and self-signed.
        assert!(verify(OTHER_CA, &own, NOW).is_err());
    }

    #[test]
    fn files_without_what_they_should_hold_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "nothing\n").unwrap();
        let files = config::Tls {
            ca_file: path.clone(),
            client: None,
        };
        let fault = Tls::load(&files).err().unwrap();
        let expected = format!(
            "cannot use {}: it holds no certificate in PEM. Correct the files under [tls] in the configuration.",
            path.display()
        );
        assert_eq!(fault.to_string(), expected);
    }
}
