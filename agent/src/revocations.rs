//! What the issuer says of revocations: the CRL of each authority, asked for each second over its mutual TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::WellKnown;
use chancery_api::client::{Client, ClientError, Fetched};
use chancery_verifier::{Clock, Freshness, Moment};
use rustls_pki_types::CertificateRevocationListDer;

/// How often the CRLs are asked for where somebody decides by them.
pub(crate) const EACH: Duration = Duration::from_secs(1);
/// When they are asked for after news, in milliseconds: at once, and again while they do not show them.
pub(crate) const CATCH_UP_MS: [u64; 6] = [0, 20, 40, 80, 160, 320];
/// How often where only our own connections do.
pub(crate) const EACH_FOR_CALLS: Duration = Duration::from_secs(15);
/// The part of `stale_after` that the list of authorities serves. A new authority is listed for twice `stale_after`
/// before it signs, so whoever is fresh has its CRL by then.
const LIST_SERVES: u32 = 3;

/// What was fetched, to be asked for again only if it changed.
#[derive(Default)]
pub(crate) struct Poll {
    authorities: Option<(Moment, WellKnown)>,
    fetched: BTreeMap<String, Copy>,
    crls: Arc<[CertificateRevocationListDer<'static>]>,
}

struct Copy {
    etag: Option<String>,
    crl: CertificateRevocationListDer<'static>,
}

/// What one round of questions brought.
pub(crate) struct Round {
    /// The same `Arc` as before when nothing changed.
    pub(crate) crls: Arc<[CertificateRevocationListDer<'static>]>,
    /// Before the first question of the round was asked: no answer of it is older.
    pub(crate) answered: Moment,
    pub(crate) freshness: Freshness,
    /// What the issuer said of itself, when it was asked in this round, and when it was asked.
    pub(crate) well_known: Option<(Moment, WellKnown)>,
}

impl Poll {
    /// Starts from CRLs that were fetched by an earlier process.
    pub(crate) fn from_disk(crls: Arc<[CertificateRevocationListDer<'static>]>) -> Self {
        Self { crls, ..Self::default() }
    }

    /// Holds none any more: the feed tells all that they tell.
    pub(crate) fn forget(&mut self) {
        self.fetched = BTreeMap::new();
        self.crls = Arc::default();
    }

    pub(crate) fn crls(&self) -> &Arc<[CertificateRevocationListDer<'static>]> {
        &self.crls
    }

    /// Asks for each authority's CRL. All of them are answered, or the round brings nothing.
    pub(crate) async fn round(&mut self, client: &Client, clock: &dyn Clock) -> Result<Round, ClientError> {
        let answered = clock.now();
        let known = self.authorities.take().filter(|(asked, known)| {
            let serves = Duration::from_secs(known.freshness.stale_after_s.into()) / LIST_SERVES;
            answered.since(*asked) < serves
        });
        let asking = known.is_none();
        let (asked, well_known): (Moment, WellKnown) = match known {
            Some(known) => known,
            None => (answered, client.get("/.well-known/chancery").await?.body),
        };
        let mut fetched = BTreeMap::new();
        let mut changed = false;
        for authority in &well_known.authorities {
            let path = &authority.crl;
            let before = self.fetched.get(path);
            let copy = match client.fetch(path, before.and_then(|copy| copy.etag.as_deref())).await? {
                Fetched::Changed { etag, contents } => {
                    changed |= before.is_none_or(|before| before.crl.as_ref() != &contents[..]);
                    Copy { etag, crl: contents.to_vec().into() }
                }
                Fetched::Unchanged => match self.fetched.remove(path) {
                    Some(copy) => copy,
                    // Only an answer to a question with our ETag can say so.
                    None => continue,
                },
            };
            fetched.insert(path.clone(), copy);
        }
        changed |= fetched.len() != self.crls.len();
        self.fetched = fetched;
        if changed {
            self.crls = self.fetched.values().map(|copy| copy.crl.clone()).collect();
        }
        let limits = well_known.freshness;
        let freshness = Freshness {
            stale_after: Duration::from_secs(limits.stale_after_s.into()),
            expired_after: Duration::from_secs(limits.expired_after_s.into()),
        };
        let new = asking.then(|| (asked, well_known.clone()));
        self.authorities = Some((asked, well_known));
        Ok(Round { crls: Arc::clone(&self.crls), answered, freshness, well_known: new })
    }
}
