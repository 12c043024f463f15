//! Who was a verifier, so that a restarted issuer does not forget whom it has to ask.

use chancery_identity::{Lineage, Name, Timestamp};

use super::batch::Batch;
use super::db::{Db, DbError};
use super::decision::{Committed, Decision, Undecided};

/// A replica of a service verifies: written once, when it is first seen to.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct KeepVerifier {
    /// Which replica.
    pub lineage: Lineage,
    /// The service.
    pub service: Name,
}

impl Decision for KeepVerifier {
    type Reply = ();

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        let (at, position) = (batch.at(), batch.log_size());
        let values = vec![self.lineage.into(), (&self.service).into(), at.into()];
        let sql = "INSERT INTO verifier (lineage, service, first_seen_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (lineage) DO NOTHING";
        batch.transaction().execute(sql, values).await?;
        Ok(Committed::new((), position, at))
    }
}

/// Replicas that were silent for so long that they are gone.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct ForgetVerifiers {
    /// Which.
    pub lineages: Vec<Lineage>,
}

impl Decision for ForgetVerifiers {
    type Reply = ();

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        let (at, position): (Timestamp, u64) = (batch.at(), batch.log_size());
        for lineage in &self.lineages {
            batch.transaction().execute("DELETE FROM verifier WHERE lineage = $1", vec![(*lineage).into()]).await?;
        }
        Ok(Committed::new((), position, at))
    }
}

/// All of them.
pub(super) async fn all(db: &Db) -> Result<Vec<(Lineage, Name)>, DbError> {
    let rows = db.rows("SELECT lineage, service FROM verifier ORDER BY lineage", vec![]).await?;
    rows.iter().map(|row| Ok((row.read(0)?, row.read(1)?))).collect()
}
