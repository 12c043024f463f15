//! OCSP: the status of one certificate, evaluated from the entries in force when it is asked for.
//!
//! An answer without a nonce is kept and given again until the next entry, or for a while; one with a nonce is signed each
//! time. What is signed is counted: whoever asks too much is told to try later, and what is kept is answered all the same.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chancery_ca::local::CRYPTO;
use chancery_ca::{CertId, CertStatus, OcspError, OcspPlan, OcspRequest, OcspTimes, Responder};
use chancery_identity::{KeyId, Timestamp};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::authority::Responders;
use crate::clock::Clock;
use crate::store::{DbError, Position, Store};

/// How long an answer speaks.
const VALIDITY: Duration = Duration::from_secs(15 * 60);
/// How long an answer is given again.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);
/// Answers kept, at most twice as many: about a kilobyte and a half each.
const KEPT: usize = 4096;
/// Statuses looked up and signed a second: with all of them asked for at once about a fifth of one core.
const SIGNED_PER_S: NonZeroU32 = match NonZeroU32::new(2_000) {
    Some(rate) => rate,
    None => NonZeroU32::MIN,
};

/// Answers OCSP requests.
pub struct Ocsp {
    store: Store,
    responders: Arc<Responders>,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    budget: DefaultDirectRateLimiter,
}

/// A signed answer.
#[derive(Debug)]
pub struct OcspAnswer {
    /// The whole response, DER.
    pub der: Bytes,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// For how long it speaks.
    pub times: OcspTimes,
    /// Whether it answers a nonce, and so this request alone.
    pub has_nonce: bool,
}

impl Ocsp {
    /// With a budget that leaves room for everything else.
    pub fn new(store: Store, responders: Arc<Responders>, clock: Arc<dyn Clock>) -> Self {
        Self::with_budget(store, responders, clock, SIGNED_PER_S)
    }

    /// With a budget of statuses looked up and signed a second.
    pub fn with_budget(
        store: Store,
        responders: Arc<Responders>,
        clock: Arc<dyn Clock>,
        signed_per_s: NonZeroU32,
    ) -> Self {
        let budget = RateLimiter::direct(Quota::per_second(signed_per_s));
        Self { store, responders, clock, kept: Mutex::default(), budget }
    }

    /// Answers a request, DER.
    ///
    /// # Errors
    /// What the response is instead: none of our issuing authorities, no request at all, too much at the moment, a failure
    /// here.
    pub async fn answer(&self, request: &[u8]) -> Result<Arc<OcspAnswer>, OcspError> {
        let request = OcspRequest::read(request).map_err(|error| {
            tracing::debug!(%error, "no OCSP request");
            OcspError::MalformedRequest
        })?;
        let responder = self.responder(&request)?;
        // Who lost the lease, or the newest entries, does not know what was revoked since.
        if !self.store.writes() || self.store.rolled_back().is_some() {
            return Err(OcspError::TryLater);
        }
        // Read before anything is evaluated: an answer is at least as new as the position that it is kept under.
        let (position, now) = (self.store.state().position(), self.clock.now());
        let asked: Vec<u8> = request.certificates().iter().flat_map(CertId::der).copied().collect();
        if request.nonce().is_none()
            && let Some(kept) = lock(&self.kept).find(position, now, &asked)
        {
            return Ok(kept);
        }
        self.spend(request.certificates().len())?;
        let mut answers = Vec::with_capacity(request.certificates().len());
        for id in request.certificates() {
            let status = self.status(id, responder.authority()).await.map_err(|error| failed(&error))?;
            answers.push((id, status));
        }
        // What is not issued yet can be issued before the next entry.
        let lasting = answers.iter().all(|(_, status)| *status != CertStatus::Unknown);
        let answer = Arc::new(sign(&responder, &request, answers, now).await?);
        if lasting && !answer.has_nonce {
            lock(&self.kept).put(position, asked, answer.clone());
        }
        Ok(answer)
    }

    /// One response is signed by one responder: all that is asked for is its authority's.
    fn responder(&self, request: &OcspRequest) -> Result<Arc<Responder>, OcspError> {
        let first = request.certificates().first().and_then(|id| self.responders.of(id));
        let of_all = first.filter(|one| request.certificates().iter().all(|id| one.answers_for(id)));
        of_all.ok_or(OcspError::Unauthorized)
    }

    /// The status now. A certificate of another authority with the same serial was not issued by this one.
    async fn status(&self, id: &CertId, authority: KeyId) -> Result<CertStatus, DbError> {
        let Some(serial) = id.serial() else { return Ok(CertStatus::Unknown) };
        let stored = self.store.certificate(serial).await?;
        let Some(issued) = stored.filter(|stored| stored.certificate.authority == authority) else {
            return Ok(CertStatus::Unknown);
        };
        // The rule by which CRLs choose too, so that time and reason are the same there.
        let entry = self.store.state().hitting(&issued.certificate);
        Ok(entry.map_or(CertStatus::Good, |entry| CertStatus::Revoked { at: entry.at, reason: entry.reason }))
    }

    fn spend(&self, statuses: usize) -> Result<(), OcspError> {
        let statuses = u32::try_from(statuses).ok().and_then(NonZeroU32::new).ok_or(OcspError::MalformedRequest)?;
        match self.budget.check_n(statuses) {
            Ok(Ok(())) => Ok(()),
            _ => Err(OcspError::TryLater),
        }
    }
}

async fn sign(
    responder: &Responder,
    request: &OcspRequest,
    answers: Vec<(&CertId, CertStatus)>,
    now: Timestamp,
) -> Result<OcspAnswer, OcspError> {
    // RFC 6960 §4.2.2.1: nextUpdate is when newer is there at the latest; never after whoever signed it.
    let times = OcspTimes { this_update: now, next_update: (now + VALIDITY).min(responder.not_after()) };
    let plan = OcspPlan::new(responder, times, answers, request.nonce()).map_err(|error| failed(&error))?;
    let signed = plan.sign().await.map_err(|error| failed(&error))?;
    let (times, has_nonce) = (signed.times(), request.nonce().is_some());
    let sha256 = (CRYPTO.sha256)(signed.der());
    Ok(OcspAnswer { der: signed.into_der().into(), sha256, times, has_nonce })
}

fn failed(error: &dyn std::error::Error) -> OcspError {
    tracing::error!(%error, "an OCSP request is not answered");
    OcspError::InternalError
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers to give again, by what was asked. The recent ones and those before; when these are many, the eldest go.
#[derive(Default)]
struct Kept {
    /// Epoch and number of the newest entry that all of them know.
    under: (u64, u64),
    recent: HashMap<Vec<u8>, Arc<OcspAnswer>>,
    before: HashMap<Vec<u8>, Arc<OcspAnswer>>,
}

impl Kept {
    fn find(&mut self, position: Position, now: Timestamp, asked: &[u8]) -> Option<Arc<OcspAnswer>> {
        self.turn_to(position);
        let found = self.recent.get(asked).cloned().or_else(|| {
            let (asked, answer) = self.before.remove_entry(asked)?;
            self.insert(asked, answer.clone());
            Some(answer)
        })?;
        // A clock that went back makes an answer of the future of it.
        let OcspTimes { this_update, next_update } = found.times;
        (this_update <= now && now < (this_update + KEPT_FOR).min(next_update)).then_some(found)
    }

    fn put(&mut self, position: Position, asked: Vec<u8>, answer: Arc<OcspAnswer>) {
        self.turn_to(position);
        if self.under == (position.epoch, position.n) {
            self.insert(asked, answer);
        }
    }

    /// Forgets what an entry was decided after. One who read the position earlier than others has nothing to add.
    fn turn_to(&mut self, position: Position) {
        let under = (position.epoch, position.n);
        if under > self.under {
            *self = Self { under, ..Self::default() };
        }
    }

    fn insert(&mut self, asked: Vec<u8>, answer: Arc<OcspAnswer>) {
        if self.recent.len() >= KEPT {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(asked, answer);
    }
}
