//! Where a verifier's own identity, its trust anchors and its CRLs come from.

use std::fmt;
use std::sync::Arc;

use chancery_identity::{LeafError, TrustDomain};
#[cfg(feature = "tokio")]
use chancery_identity::{Scope, Serial, Timestamp};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::{Freshness, Known, Moment};

/// All that a verifier works from, as of one moment.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "those who make it set every field")]
pub struct Material {
    /// The own certificate and its intermediates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The own private key.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// The bundle of the own trust domain.
    pub roots: Arc<[CertificateDer<'static>]>,
    /// The CRLs of all its authorities, the roots included. The same `Arc` again means that nothing changed.
    pub crls: Arc<[CertificateRevocationListDer<'static>]>,
    /// When the last authenticated answer about these CRLs began; `None` when they are files, and thisUpdate decides.
    pub answered: Option<Moment>,
    /// What the issuer's feed taught, where it is followed. With it fresh no CRL is needed; the two are united.
    pub feed: Option<Arc<Known>>,
    /// How old knowledge may get, as the issuer tells.
    pub freshness: Freshness,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("trust_domain", &self.trust_domain)
            .field("chain", &self.chain.len())
            .field("roots", &self.roots.len())
            .field("crls", &self.crls.len())
            .field("answered", &self.answered)
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

/// Gives material, and newer material as it comes. A verifier needs no client of its own: this is where its knowledge
/// enters.
#[cfg(feature = "tokio")]
pub trait Credentials: Send + Sync + 'static {
    /// The present material, and through the channel what replaces it.
    fn material(&self) -> tokio::sync::watch::Receiver<Arc<Material>>;

    /// Called by each verifier that begins to work from it: what the verifier applied is told to the answer, which is
    /// dropped with the verifier. By default nobody listens.
    fn attach(&self) -> Box<dyn Attached> {
        Box::new(())
    }
}

#[cfg(feature = "tokio")]
impl Credentials for tokio::sync::watch::Receiver<Arc<Material>> {
    fn material(&self) -> tokio::sync::watch::Receiver<Arc<Material>> {
        self.clone()
    }
}

/// Hears what one verifier made of its material. Nothing here may wait.
#[cfg(feature = "tokio")]
pub trait Attached: Send + Sync + 'static {
    /// What the feed taught is in force, and the connections that it hits are cut. Of two that wait for their connections the
    /// older one may be told last: it takes nothing back.
    fn applied(&self, applied: Applied) {
        let _ = applied;
    }

    /// A certificate says that the issuer knew of this epoch and number, and the verifier does not.
    fn behind(&self, wanted: (u64, u64)) {
        let _ = wanted;
    }

    /// How the feed does, where there is one, and each change of that.
    fn health(&self) -> Option<tokio::sync::watch::Receiver<FeedHealth>> {
        None
    }
}

#[cfg(feature = "tokio")]
impl Attached for () {}

/// What a verifier has applied of the feed, for an acknowledgement.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The epoch of `n`.
    pub epoch: u64,
    /// Every entry up to this number is in force.
    pub n: u64,
    /// Since when, by the verifier's clock.
    pub at: Timestamp,
    /// Connections closed because of revocations since it was last told; those whose servers say goodbye because of later
    /// entries count already.
    pub closed_connections: u64,
    /// The last request let through, on one of them or of a peer that was stopped after it had hung up, and the scope it needed.
    pub last_accepted: Option<(Timestamp, Scope)>,
    /// Open connections by the certificate of the peer; `None` when more than 4096 peers have some.
    pub open_connections: Option<Vec<(Serial, u32)>>,
}

/// How the connection to the feed does, and what it is for. Counts are of this process.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by those who follow a feed")]
pub struct FeedHealth {
    /// Whether it is open and heads come.
    pub connected: bool,
    /// How often it was made anew.
    pub reconnects: u64,
    /// How often the issuer ended it: it stopped, or shed a reader that was too slow.
    pub ended: u64,
    /// What came and was refused.
    pub refused: Failures,
    /// Acknowledgements that the issuer did not take: it believes that less is in force here than is.
    pub unacknowledged: Failures,
    /// What could not be saved, and so was not acknowledged: a restart would know less.
    pub unsaved: Failures,
}

/// How often something failed, and why the last time.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by those who follow a feed")]
pub struct Failures {
    /// How often.
    pub count: u64,
    /// Why, the last time.
    pub last: Option<String>,
}

#[cfg(feature = "tokio")]
impl Failures {
    /// Once more, and why.
    pub fn add(&mut self, why: &dyn fmt::Display) {
        self.count += 1;
        self.last = Some(why.to_string());
    }
}

/// Material that no verifier can work from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaterialRefused {
    /// The own chain is empty.
    NoCertificate,
    /// The own certificate.
    Leaf(LeafError),
    /// The own certificate is of another trust domain than the material says.
    TrustDomain {
        /// What the material says.
        wanted: TrustDomain,
        /// What the certificate says.
        came: TrustDomain,
    },
    /// A trust anchor that is no certificate.
    Root,
    /// The private key is none, or not the certificate's.
    Key,
}

impl From<LeafError> for MaterialRefused {
    fn from(error: LeafError) -> Self {
        Self::Leaf(error)
    }
}

impl fmt::Display for MaterialRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("wanted the own certificate chain, got none"),
            Self::Leaf(error) => write!(f, "the own certificate: {error}"),
            Self::TrustDomain { wanted, came } => {
                write!(f, "the own certificate is of trust domain {came}, wanted {wanted}")
            }
            Self::Root => f.write_str("a trust anchor is no CA certificate"),
            Self::Key => f.write_str("the private key cannot be read, or is not the certificate's"),
        }
    }
}

impl std::error::Error for MaterialRefused {}
