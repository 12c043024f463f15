//! The keys that sign heads.

use chancery_identity::{KeyId, Timestamp};
use chancery_tlog::{Decision as Logged, Facts};

use super::batch::Batch;
use super::db::{Db, DbError, Row};
use super::decision::{Cause, Committed, Decision, Undecided};
use super::log::SHA256;

/// One generation of the key that signs heads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever keeps one sets all of it")]
pub struct HeadKey {
    /// The SubjectKeyIdentifier.
    pub key_id: KeyId,
    /// From when on it signs; it is announced before.
    pub signs_from: Timestamp,
    /// DER.
    pub certificate: Vec<u8>,
    /// The key as its seal wrote it.
    pub sealed_key: Vec<u8>,
}

/// Takes in a key that signs heads.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct PutHeadKey {
    /// On whose behalf.
    pub cause: Cause,
    /// The key.
    pub key: HeadKey,
}

impl Decision for PutHeadKey {
    type Reply = HeadKey;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<HeadKey>, Undecided> {
        let HeadKey { key_id, signs_from, certificate, sealed_key } = self.key.clone();
        let sql = "INSERT INTO head_key (key_id, signs_from, certificate, sealed_key) VALUES ($1, $2, $3, $4)";
        let digest = SHA256.digest(&[&certificate]);
        let values = vec![key_id.into(), signs_from.into(), certificate.into(), sealed_key.into()];
        batch.transaction().execute(sql, values).await?;
        let facts = Facts::from_iter([
            ("what", "head key".to_owned()),
            ("certificate_sha256", super::authorities::hex(&digest.0)),
            ("signs_from", signs_from.to_string()),
        ]);
        let subjects = vec![format!("head-key:{key_id}")];
        Ok(batch.log(&self.cause, subjects, Logged::Ceremony(facts), self.key.clone())?)
    }
}

/// All of them, in the order in which they sign.
pub(super) async fn all(db: &Db) -> Result<Vec<HeadKey>, DbError> {
    let sql = "SELECT key_id, signs_from, certificate, sealed_key FROM head_key ORDER BY signs_from";
    let from_row = |row: &Row| {
        Ok(HeadKey {
            key_id: row.read(0)?,
            signs_from: row.read(1)?,
            certificate: row.read(2)?,
            sealed_key: row.read(3)?,
        })
    };
    db.rows(sql, vec![]).await?.iter().map(from_row).collect()
}
