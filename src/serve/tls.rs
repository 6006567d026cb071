//! TLS from PEM files: 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Error;

const CERT: &str = "http.tls.cert";
const KEY: &str = "http.tls.key";

/// What ends TLS with this chain and key.
///
/// # Errors
/// When a file cannot be read or holds something else, and when the two do not belong together.
pub(super) fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let chain = chain(cert)?;
    let private = private(key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| unusable(cert, key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |error| refused(CERT, path, &error, "CERTIFICATE");
    let read = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let chain = read.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if chain.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

fn private(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        let is_encrypted = std::fs::read_to_string(path).is_ok_and(|text| text.contains("ENCRYPTED"));
        if is_encrypted {
            let problem =
                "the private key is encrypted; decrypt it, e.g. with `openssl pkey -in FILE -out FILE`";
            return Error::Pem { key: KEY, path: path.to_owned(), problem: problem.to_owned() };
        }
        refused(KEY, path, &error, "PRIVATE KEY")
    })
}

fn refused(key: &'static str, path: &Path, error: &pem::Error, wanted: &str) -> Error {
    let problem = match error {
        pem::Error::Io(error) => {
            format!("the file cannot be read: {error}; check the path and who may read it")
        }
        pem::Error::NoItemsFound => {
            format!("the file holds no PEM block `BEGIN {wanted}`; name a PEM file that has one")
        }
        other => format!("the file is not valid PEM: {other}; write it anew"),
    };
    Error::Pem { key, path: path.to_owned(), problem }
}

fn unusable(cert: &Path, key: &Path, error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => Error::Pem {
            key: KEY,
            path: key.to_owned(),
            problem: format!(
                "the key does not belong to the certificate in {}; set both to the same pair, with the server's certificate first in the chain",
                cert.display()
            ),
        },
        rustls::Error::InvalidCertificate(problem) => Error::Pem {
            key: CERT,
            path: cert.to_owned(),
            problem: format!("the certificate cannot be used: {problem}; have it issued anew"),
        },
        other => Error::Pem {
            key: KEY,
            path: key.to_owned(),
            problem: format!("the key cannot be used: {other}; use an RSA, ECDSA or Ed25519 key"),
        },
    }
}
