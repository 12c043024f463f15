//! Whose heads count: keys whose certificates a root of the trust domain signed for this purpose.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_identity::{Timestamp, TrustDomain, oid};
use chancery_tlog::{Head, HeadError, Note, Sha256};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::FeedRefused;

/// The most keys that one connection may show.
const KEYS_MAX: usize = 8;
/// RFC 8410 §4: a SubjectPublicKeyInfo of an Ed25519 key, up to the key itself.
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// RFC 8410 §3: id-Ed25519, as an AlgorithmIdentifier's contents.
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// What a feed is judged by.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "those who follow a feed set every field")]
pub struct FeedTrust {
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// Its trust anchors.
    pub roots: Arc<[CertificateDer<'static>]>,
    /// With which signatures are verified; Ed25519 must be among them.
    pub algorithms: WebPkiSupportedAlgorithms,
    /// SHA-256.
    pub sha256: Sha256,
}

impl fmt::Debug for FeedTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedTrust").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// The keys that one connection showed.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadKeys {
    /// Each with its certificate, as PEM.
    keys: Vec<([u8; 32], String)>,
    /// Why one does not count.
    refused: Option<String>,
    shown: usize,
}

impl HeadKeys {
    /// Takes a key whose certificate holds at `now`. One that does not may be another root's, and signs nothing here.
    pub(super) fn take(&mut self, pem: &str, trust: &FeedTrust, now: Timestamp) -> Result<(), FeedRefused> {
        self.shown += 1;
        if self.shown > KEYS_MAX {
            return Err(FeedRefused::Oversize { most: KEYS_MAX });
        }
        match public_key(pem, trust, now) {
            Ok(public) => self.keys.push((public, format!("{}\n", pem.trim_end()))),
            Err(why) => self.refused = Some(why),
        }
        Ok(())
    }

    /// Reads a head that one of the keys signed.
    pub(super) fn open(&self, note: &Note, trust: &FeedTrust) -> Result<Head, FeedRefused> {
        let publics: Vec<[u8; 32]> = self.keys.iter().map(|(public, _)| *public).collect();
        let verify = |public: &[u8; 32], message: &[u8], signature: &[u8; 64]| {
            let mut ed25519 = trust.algorithms.all.iter().filter(|one| one.signature_alg_id().as_ref() == ED25519);
            ed25519.any(|algorithm| algorithm.verify_signature(public, message, signature).is_ok())
        };
        Head::open(note, &trust.trust_domain, trust.sha256, &publics, verify).map_err(|error| match error {
            HeadError::Checkpoint(_) => FeedRefused::Signer { head: error, key: self.refused.clone() },
            error => FeedRefused::Head(error),
        })
    }

    /// The certificates of the keys that count.
    pub(super) fn to_pem(&self) -> String {
        self.keys.iter().map(|(_, pem)| pem.as_str()).collect::<Vec<_>>().join("")
    }
}

/// The Ed25519 key of a certificate that a root signed for heads.
fn public_key(pem: &str, trust: &FeedTrust, now: Timestamp) -> Result<[u8; 32], String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "it is not PEM".to_owned())?;
    let certificate = EndEntityCert::try_from(&der).map_err(|error| error.to_string())?;
    let anchors: Vec<TrustAnchor<'_>> =
        trust.roots.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let seconds = Duration::from_secs(u64::try_from(now.unix_seconds()).unwrap_or(0));
    let time = UnixTime::since_unix_epoch(seconds);
    let usage = KeyUsage::required(oid::HEAD_KEY_USAGE);
    // No intermediates: a root signs it, and nobody below.
    let verified = certificate.verify_for_usage(trust.algorithms.all, &anchors, &[], time, usage, None, None);
    verified.map_err(|error| error.to_string())?;
    let spki = certificate.subject_public_key_info();
    let key = spki.as_ref().strip_prefix(ED25519_SPKI).and_then(|key| key.try_into().ok());
    key.ok_or_else(|| "its key is not Ed25519".to_owned())
}
