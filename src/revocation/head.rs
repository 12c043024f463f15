//! The herald: reads where all stands, signs it, keeps it, and tells all verifiers; at each entry and each second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_identity::{KeyId, TrustDomain};
use chancery_tlog::{Chained, Head};

use super::feed::{Beat, Feed, HEARTBEAT, bundle_event, entry_events, head_event, key_event, pace_event};
use super::kept::{KeptError, KeptHead};
use crate::authority::{Authorities, HeadKeys, OpenError};
use crate::clock::Clock;
use crate::store::{DbError, FeedLine, RolledBack, SHA256, Standing, Store};

/// A database that does not answer within this is not there: nobody is told anything then.
const ANSWER: Duration = Duration::from_secs(2);
/// Entries read at once.
const PAGE: u32 = 4096;

/// Signs heads, for as long as the service runs and may.
pub struct Herald {
    trust_domain: TrustDomain,
    store: Store,
    authorities: Arc<Authorities>,
    /// The newest key that all were told of.
    announced: Option<KeyId>,
    clock: Arc<dyn Clock>,
    kept: KeptHead,
    feed: Arc<Feed>,
    /// The head that all were told last.
    last: Option<Head>,
    sequence: u64,
}

impl Herald {
    /// Has its key, where the root certifies one unasked, and has said nothing yet.
    ///
    /// # Errors
    /// A seal that does not open, a root that does not sign, a database that does not commit.
    pub async fn open(
        trust_domain: TrustDomain,
        store: Store,
        authorities: Arc<Authorities>,
        kept: KeptHead,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        if store.rolled_back().is_none() {
            authorities.succeed_head_key(clock.now()).await?;
        }
        let feed = Arc::new(Feed::new(store.clone()));
        Ok(Self { trust_domain, store, authorities, announced: None, clock, kept, feed, last: None, sequence: 0 })
    }

    /// What it publishes to.
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Signs for as long as the service runs. What it cannot read anew it does not sign.
    pub async fn run(mut self) {
        let mut changes = self.store.state().revocation_changes();
        let mut silent = false;
        loop {
            let beaten = self.beat().await;
            if let Err(why) = &beaten
                && !silent
            {
                tracing::error!(why = %why, "no head is signed; verifiers are told nothing until this is over");
            }
            silent = beaten.is_err();
            match tokio::time::timeout(HEARTBEAT, changes.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) | Err(_) => {
                    changes.borrow_and_update();
                }
            }
        }
    }

    /// Reads, signs, keeps and tells once.
    ///
    /// # Errors
    /// Whatever leaves it silent.
    pub async fn beat(&mut self) -> Result<(), Silent> {
        if let Some(why) = self.store.rolled_back() {
            return Err(Silent::RolledBack(why));
        }
        let now = self.clock.now();
        if let Err(error) = self.authorities.succeed_head_key(now).await {
            tracing::error!(%error, "the key that signs heads has no successor yet");
        }
        let head_keys = self.authorities.head_keys();
        let signer = head_keys.signing(now).ok_or(Silent::NoKey)?;
        let read_at = monotonic();
        let (standing, lines) =
            tokio::time::timeout(ANSWER, self.read()).await.map_err(|_| Silent::NoAnswer(ANSWER))??;
        let bundle = self.authorities.bundle().map_err(|error| Silent::Bundle(error.to_string()))?;
        let version = bundle.spiffe_sequence.unwrap_or(0);
        let bundle = crate::store::document(&bundle);
        let Standing { epoch, tree, revocation, floor, standing } = standing;
        let head = Head {
            epoch,
            tree,
            revocation,
            floor,
            standing,
            bundle: Chained { n: version, hash: SHA256.digest(&[bundle.as_bytes()]) },
            at: now,
        };
        let note = head.sign(&self.trust_domain, SHA256, signer.public(), |message| signer.sign(message));
        let note = note.map_err(|error| Silent::Sign(error.to_string()))?.to_string();
        self.keep(&note, &head_keys).await?;

        let mut keys = Vec::new();
        head_keys.certificates().for_each(|pem| key_event(&mut keys, pem));
        let mut bundle_bytes = Vec::new();
        bundle_event(&mut bundle_bytes, &bundle);
        let mut news = Vec::new();
        if self.announced != head_keys.newest() {
            news.extend_from_slice(&keys);
        }
        if !lines.is_empty() {
            pace_event(&mut news, self.feed.listeners());
        }
        entry_events(&mut news, epoch, &lines);
        if self.last.as_ref().is_some_and(|last| last.bundle != head.bundle) {
            news.extend_from_slice(&bundle_bytes);
        }
        head_event(&mut news, &head, &note);
        self.announced = head_keys.newest();
        self.sequence += 1;
        self.last = Some(head.clone());
        let (keys, bundle) = (keys.into(), bundle_bytes.into());
        self.feed.publish(Beat { sequence: self.sequence, head, note, read_at, keys, bundle }, news);
        Ok(())
    }

    /// Where all stands now, and the entries since the last head, which lead from it to this one.
    async fn read(&self) -> Result<(Standing, Vec<FeedLine>), Silent> {
        let standing = self.store.standing().await?.ok_or(Silent::LeaseLost)?;
        let Some(last) = &self.last else { return Ok((standing, Vec::new())) };
        let mut chain = last.revocation;
        let mut lines = Vec::new();
        while chain.n < standing.revocation.n {
            let page = self.store.feed_lines(chain.n, standing.revocation.n, PAGE).await?;
            if page.is_empty() {
                return Err(DbError::Gap { after: chain.n }.into());
            }
            chain = page.iter().fold(chain, |chain, line| chain.then(SHA256, line.line.as_bytes()));
            lines.extend(page);
        }
        let behind = standing.epoch != last.epoch || standing.tree.size < last.tree.size;
        if (behind || chain != standing.revocation)
            && let Some(why) = self.store.hold_against(last).await?
        {
            return Err(Silent::RolledBack(why));
        }
        Ok((standing, lines))
    }

    /// For good, before anybody is told.
    async fn keep(&self, note: &str, keys: &HeadKeys) -> Result<(), Silent> {
        let (kept, note) = (self.kept.clone(), note.to_owned());
        let keys: Vec<String> = keys.certificates().map(str::to_owned).collect();
        let written = tokio::task::spawn_blocking(move || kept.write(&note, keys.iter().map(String::as_str)));
        Ok(written.await.map_err(|error| Silent::Sign(error.to_string()))??)
    }
}

/// Why no head was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Silent {
    /// The database failed.
    #[error("the database failed: {0}")]
    Read(#[from] DbError),
    /// The database did not answer.
    #[error("the database did not answer within {0:?}")]
    NoAnswer(Duration),
    /// Another issuer writes.
    #[error("this issuer does not write: another holds the lease, or it stops")]
    LeaseLost,
    /// The database lost something.
    #[error("the database is rolled back: {0}")]
    RolledBack(RolledBack),
    /// No key.
    #[error("there is no key for it that the root certified and that is not over")]
    NoKey,
    /// The bundle.
    #[error("there is no bundle: {0}")]
    Bundle(String),
    /// The signature.
    #[error("the head was not signed: {0}")]
    Sign(String),
    /// The file beside the database.
    #[error(transparent)]
    Kept(#[from] KeptError),
}

#[allow(clippy::disallowed_methods, reason = "an age must not depend on a clock that can be set")]
fn monotonic() -> Instant {
    Instant::now()
}
