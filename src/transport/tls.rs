//! Who a node is, by certificate: mutual TLS 1.3 with the cluster's own authority, from files that may change at any time.
//!
//! A node `n1` of cluster `prod` shows a certificate with the DNS name `n1.prod`, signed by an authority in the `ca` file, for
//! both client and server use (or with no extended key usage). The caller holds the other's certificate to the name of the node
//! it means to reach; the other holds the caller's to the name that it says in its hello. Names are whole: one label for the
//! node, no wildcards. DNS names are used because every authority issues them and the TLS library itself compares them.
//!
//! Sessions are not resumed: each connection shows its certificate anew, so what was replaced or has expired stays out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use syncline_actors::id::NodeId;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::clock::SharedClock;

/// Where a node's certificate, its key and the cluster's authorities are, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities whose nodes are let in. While one replaces another, both stand here.
    pub ca: PathBuf,
    /// The node's certificate, then those between it and the authority.
    pub cert: PathBuf,
    /// The certificate's private key, not encrypted.
    pub key: PathBuf,
}

/// Why files cannot be used. What was used before is still used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or does not hold what it should.
    #[error("the transport's {what} in {}: {problem}", path.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// No certificate can carry the name.
    #[error(
        "the {what} `{name}` cannot stand in a certificate: use lower-case letters, digits and hyphens{}",
        if *what == "cluster" { ", in labels separated by dots" } else { "" }
    )]
    Name {
        /// `node` or `cluster`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// The name that the certificate of `node` carries.
pub fn certificate_name(node: &NodeId, cluster: &str) -> Result<String, TlsError> {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        label.bytes().all(plain) && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    let wrong = |what, name: &str| TlsError::Name { what, name: name.to_owned() };
    if !is_label(&node.0) {
        return Err(wrong("node", &node.0));
    }
    let name = format!("{node}.{cluster}");
    let fits = cluster.split('.').all(is_label) && DnsName::try_from(name.as_str()).is_ok();
    if fits { Ok(name) } else { Err(wrong("cluster", cluster)) }
}

/// The node's certificate and authorities, as they were last read.
#[derive(Debug)]
pub(super) struct Identity {
    files: TlsFiles,
    /// The name that the own certificate must carry.
    name: String,
    clock: SharedClock,
    loaded: Mutex<Loaded>,
}

/// One reading of the files.
#[derive(Clone)]
struct Loaded {
    /// The bytes of the three files: what they were made of.
    bytes: [Vec<u8>; 3],
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loaded") // it holds a private key
    }
}

impl Identity {
    /// Reads the files. The node's own certificate is held to what its peers will ask of it.
    pub(super) fn load(
        files: TlsFiles,
        node: &NodeId,
        cluster: &str,
        clock: SharedClock,
    ) -> Result<Self, TlsError> {
        let name = certificate_name(node, cluster)?;
        let loaded = Mutex::new(load(&files, &name, &clock, read(&files)?)?);
        Ok(Self { files, name, clock, loaded })
    }

    /// Reads the files again; whether they are others. On an error the former ones stay in use.
    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let bytes = read(&self.files)?;
        if self.loaded().bytes == bytes {
            return Ok(false);
        }
        let fresh = load(&self.files, &self.name, &self.clock, bytes)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.loaded().server)
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.loaded().client)
    }

    fn loaded(&self) -> Loaded {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether `certificate` was issued to `name` and to it alone.
pub(super) fn check_name(certificate: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    let is_for = |name: String| {
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        verify_server_name(&parsed, &name).map_err(|error| in_words(&error))
    };
    is_for(name.to_owned())?;
    // No node can be called `_`: a certificate that is valid for it has a wildcard, and its holder could be any node.
    let cluster = name.split_once('.').map_or("", |(_node, cluster)| cluster);
    match is_for(format!("_.{cluster}")) {
        Err(_) => Ok(()),
        Ok(()) => Err(format!("its certificate is for any node, `*.{cluster}`; issue one to `{name}` alone")),
    }
}

/// An error of TLS as a person needs it.
pub(super) fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => {
            // The library shows each as `DnsName("n1.prod")`.
            let bare = |name: &String| {
                name.trim_start_matches("DnsName(").trim_end_matches(')').trim_matches('"').to_owned()
            };
            let presented = presented.iter().map(bare).collect::<Vec<_>>().join(", ");
            format!("the certificate names [{presented}], not `{}`", expected.to_str())
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate is signed by an authority that is not in the ca file".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::ExpiredContext { .. } | CertificateError::Expired,
        ) => "the certificate has expired".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYetContext { .. } | CertificateError::NotValidYet,
        ) => "the certificate is not valid yet; compare the clocks".to_owned(),
        rustls::Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        rustls::Error::AlertReceived(alert) => {
            format!("it does not take this node's certificate, or speaks another TLS: alert {alert:?}")
        }
        other => other.to_string(),
    }
}

fn read(files: &TlsFiles) -> Result<[Vec<u8>; 3], TlsError> {
    let read = |what, path: &Path| {
        std::fs::read(path).map_err(|error: io::Error| {
            wrong(what, path, format!("cannot be read: {error}; check the path and who may read it"))
        })
    };
    Ok([read("authorities", &files.ca)?, read("certificate", &files.cert)?, read("key", &files.key)?])
}

fn wrong(what: &'static str, path: &Path, problem: String) -> TlsError {
    TlsError::File { what, path: path.to_owned(), problem }
}

fn load(files: &TlsFiles, name: &str, clock: &SharedClock, bytes: [Vec<u8>; 3]) -> Result<Loaded, TlsError> {
    let of_ca = |problem: String| wrong("authorities", &files.ca, problem);
    let of_cert = |problem: String| wrong("certificate", &files.cert, problem);
    let of_key = |problem: String| wrong("key", &files.key, problem);

    let mut roots = RootCertStore::empty();
    for certificate in certificates(&bytes[0]).map_err(of_ca)? {
        roots.add(certificate).map_err(|error| of_ca(format!("{error}; have it issued anew")))?;
    }
    let chain = certificates(&bytes[1]).map_err(of_cert)?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes[2]).map_err(|error| of_key(no_pem(&error, "PRIVATE KEY")))?;
    let provider = Arc::new(ring::default_provider());
    check_own(&chain, &roots, name, &provider, clock).map_err(of_cert)?;

    let roots = Arc::new(roots);
    let time = Arc::new(Time(clock.clone()));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| of_ca(error.to_string()))?;
    let unusable = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => of_key(format!(
            "does not belong to the certificate in {}; replace both, and the new pair is used",
            files.cert.display()
        )),
        other => of_key(format!("cannot be used: {other}; use an RSA, ECDSA or Ed25519 key")),
    };
    let mut server = ServerConfig::builder_with_details(provider.clone(), time.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has the suites of TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(unusable)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has the suites of TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    client.resumption = Resumption::disabled();
    Ok(Loaded { bytes, client: Arc::new(client), server: Arc::new(server) })
}

/// What peers will ask of the own certificate, asked first here: where the fix is.
fn check_own(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    name: &str,
    provider: &CryptoProvider,
    clock: &SharedClock,
) -> Result<(), String> {
    let (own, between) = chain.split_first().expect("a chain that was read is not empty");
    let parsed = ParsedCertificate::try_from(own).map_err(|error| format!("{error}; have it issued anew"))?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now(clock), algorithms)
        .map_err(|error| format!("peers would refuse it: {}; have it issued anew", in_words(&error)))?;
    check_name(own, name).map_err(|why| format!("{why}; have it issued to `{name}`"))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if chain.is_empty() => Err(no_pem(&pem::Error::NoItemsFound, "CERTIFICATE")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(no_pem(&error, "CERTIFICATE")),
    }
}

fn no_pem(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => {
            format!("holds no plain PEM block `BEGIN {wanted}`; name a file that has one")
        }
        other => format!("is not valid PEM: {other}; write it anew"),
    }
}

/// The node's clock, for the validity of certificates.
#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now(&self.0))
    }
}

fn now(clock: &SharedClock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(clock.now().0).unwrap_or(0)))
}
