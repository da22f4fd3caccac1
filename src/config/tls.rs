//! `server.tls`: the certificate by which the router proves who it is, and whose certificates it asks callers for.
//!
//! The files are read whenever the configuration is, and watched like it: a new pair is in force within two seconds for
//! new connections, and one that does not fit changes nothing. Nothing of a key is ever shown.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::reader::{Item, Section};

/// A certificate with its key, ready for connections: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ServerConfig>,
    /// Of everything that is public: tells one pair from the next.
    fingerprint: blake3::Hash,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.fingerprint)
    }
}

/// Longest file that is read. Chains have a few kilobytes, bundles of authorities some hundred.
const LONGEST_FILE: u64 = 1 << 20;

/// How long before its end a certificate is worth a warning. Those of 90 days are renewed when 30 are left.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// `None` after a problem, which is reported.
pub(super) fn tls(mut section: Section<'_>) -> Option<Tls> {
    let (cert, key, authority) = (section.get("cert"), section.get("key"), section.get("client_ca"));
    for name in ["cert", "key"] {
        if !section.has(name) {
            section.problem(format!("`{name}` is missing; TLS needs `cert` and `key`, two PEM files"));
        }
    }
    let chain = cert.as_ref().and_then(chain);
    let key = key.and_then(|item| Some((private_key(&item)?, item)));
    let authorities = authority.as_ref().map(certificates);
    section.finish();

    let mut hasher = blake3::Hasher::new();
    for certificate in chain.iter().flatten().chain(authorities.iter().flatten().flatten()) {
        hasher.update(certificate);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (key, key_item) = key?;
    let chain = chain?;
    let pair = match CertifiedKey::from_der(chain, key, &provider) {
        Ok(pair) => pair,
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            key_item.problem("this key is not that of the first certificate in `cert`; use the two files of one pair");
            return None;
        }
        Err(error) => {
            key_item.problem(format!("certificate and key cannot be used: {error}"));
            return None;
        }
    };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().ok()?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(authorities?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let fault = |error| authority.map(|item| item.problem(format!("cannot be used to check callers: {error}")));
            builder.with_client_cert_verifier(verifier.map_err(fault).ok()?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(Tls { config: Arc::new(config), fingerprint: hasher.finalize() })
}

/// The content of the file that an item names.
fn content(item: &Item<'_>) -> Option<Vec<u8>> {
    let path = item.report.beside(item.text()?);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => item.problem(format!("cannot read {}: {error}", item.shown())),
        Ok(_) if bytes.len() as u64 > LONGEST_FILE => {
            item.problem(format!(
                "{} has more than {LONGEST_FILE} bytes; a certificate or a key has a few",
                item.shown()
            ));
        }
        Ok(_) => return Some(bytes),
    }
    None
}

/// All certificates of a file; a problem if there is none.
fn certificates(item: &Item<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content(item)?).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        _ => {
            item.problem(format!("{} holds no certificate; it begins -----BEGIN CERTIFICATE-----", item.shown()));
            None
        }
    }
}

/// A chain, the server's own certificate first and valid now.
fn chain(item: &Item<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let chain = certificates(item)?;
    let Ok((_, own)) = X509Certificate::from_der(chain.first()?) else {
        item.problem(format!("the first certificate in {} cannot be read", item.shown()));
        return None;
    };
    let moment = |seconds| jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let validity = own.validity();
    let (from, to) = (moment(validity.not_before.timestamp()), moment(validity.not_after.timestamp()));
    let now = jiff::Timestamp::now();
    if now > to {
        item.problem(format!("the certificate in {} expired at {to}; renew it", item.shown()));
        return None;
    }
    if now < from {
        item.problem(format!("the certificate in {} is not valid before {from}", item.shown()));
        return None;
    }
    if now + SOON > to {
        let message = format!("the certificate in {} expires at {to}; renew it soon", item.shown());
        item.report.warn(item.node.at, &item.path, &message);
    }
    Some(chain)
}

/// A key in PKCS#8, PKCS#1 or SEC1.
fn private_key(item: &Item<'_>) -> Option<PrivateKeyDer<'static>> {
    let bytes = content(item)?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) {
        return Some(key);
    }
    let is_locked = memchr::memmem::find(&bytes, b"ENCRYPTED").is_some();
    let message = if is_locked {
        format!("the key in {} is locked by a passphrase; write it without one and guard the file", item.shown())
    } else {
        format!("{} holds no private key; it begins -----BEGIN PRIVATE KEY-----", item.shown())
    };
    item.problem(message);
    None
}
