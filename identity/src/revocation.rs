//! Revocation entries: what was stopped, how, and since when.

use std::fmt;
use std::str::FromStr;

use crate::name::clip;
use crate::{Certificate, RevocationId, Target, Timestamp};

/// One numbered entry of the revocation sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "issuer and verifiers read the same fields")]
pub struct Revocation {
    /// Its id.
    pub id: RevocationId,
    /// Its number; the sequence has no gaps.
    pub n: u64,
    /// The log's epoch.
    pub epoch: u64,
    /// Its position in the log.
    pub log_index: u64,
    /// The position it is ordered by: its own, or what an `issued-before` time was translated to.
    pub fence: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// What it names.
    pub target: Target,
    /// What happens to it.
    pub effect: Effect,
    /// Why, in the words of RFC 5280.
    pub reason: Reason,
    /// Whether descendants are meant too.
    pub cascade: bool,
}

impl Revocation {
    /// Whether the entry, while in force, ends the certificate.
    pub fn hits(&self, certificate: &Certificate) -> bool {
        self.effect != Effect::Forbid && self.reach().hits(&self.target, certificate)
    }

    /// How far it reaches.
    pub const fn reach(&self) -> Reach {
        Reach { position: (self.epoch, self.fence), cascade: self.cascade }
    }
}

/// How far an entry reaches among what its target names: back in time, and down to descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Epoch and fence.
    position: (u64, u64),
    cascade: bool,
}

impl Reach {
    /// Whether an entry for the target that reaches so far hits the certificate.
    pub fn hits(&self, target: &Target, certificate: &Certificate) -> bool {
        self.is_back_to(certificate) && target.matches(certificate, self.cascade)
    }

    /// Whether it reaches back to the certificate. Order is the log's and no clock's: what was planned at or before the
    /// fence.
    pub fn is_back_to(&self, certificate: &Certificate) -> bool {
        self.position >= certificate.grant.as_ref().map_or((0, 0), |grant| (grant.epoch, grant.planned_at))
    }

    /// Whether it reaches as far as the other in each direction.
    pub fn covers(&self, other: &Self) -> bool {
        self.position >= other.position && (self.cascade || !other.cascade)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| WordError {
                    wanted: concat!($what, ": one of" $(, " ", $word)+),
                    came: clip(text),
                })
            }
        }
    };
}

words! {
    /// What an entry does to what it names.
    Effect "an effect" {
        /// Ends what exists now, for good.
        Revoke = "revoke",
        /// Holds what exists and what would be issued, until resumed.
        Suspend = "suspend",
        /// Ends what exists and what would be issued, for good.
        Retire = "retire",
        /// Refuses every request that a scope covers, whoever makes it; ends no certificate.
        Forbid = "forbid",
    }
}

impl Effect {
    /// Whether new certificates for the target are refused while the entry is in force.
    pub const fn blocks_issuance(self) -> bool {
        matches!(self, Self::Suspend | Self::Retire)
    }

    /// Whether a resume can end it.
    pub const fn resumable(self) -> bool {
        matches!(self, Self::Suspend | Self::Forbid)
    }
}

words! {
    /// Why, as RFC 5280 §5.3.1 names it.
    Reason "a reason" {
        /// Not said.
        Unspecified = "unspecified",
        /// The private key is or may be in other hands.
        KeyCompromise = "key_compromise",
        /// The authority's private key is or may be in other hands.
        CaCompromise = "ca_compromise",
        /// It belongs elsewhere now.
        AffiliationChanged = "affiliation_changed",
        /// Another certificate took its place.
        Superseded = "superseded",
        /// It is not needed any more.
        CessationOfOperation = "cessation_of_operation",
        /// Held, and may come back.
        CertificateHold = "certificate_hold",
        /// What it allows was taken away.
        PrivilegeWithdrawn = "privilege_withdrawn",
    }
}

impl Reason {
    /// The CRLReason value.
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
        }
    }
}

/// The text is none of the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordError {
    wanted: &'static str,
    came: Box<str>,
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wanted {}, got {:?}", self.wanted, self.came)
    }
}

impl std::error::Error for WordError {}
