//! Join tokens, API tokens, and evidence that was spent.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use chancery_api::{ApiToken, JoinToken};
use chancery_identity::{JoinTokenId, Serial, Timestamp, TokenId};
use chancery_tlog::{Decision as Logged, Facts};

use super::batch::{Batch, Wanted};
use super::db::{Db, DbError, Row, Transaction, Value};
use super::decision::{Cause, Committed, Decision, Refused, Undecided};
use super::registry::{document, parse};
use super::rows::{SelectIn, Write};

/// Evidence that a certificate spends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "whoever attests sets all of it")]
pub struct Spent {
    /// Its SHA-256: of a join token's secret, of a nonce, of a bearer document.
    pub digest: [u8; 32],
    /// From then on it is worth nothing.
    pub expires_at: Timestamp,
    /// The join token that it is one use of; other evidence is good once.
    pub token: Option<JoinTokenId>,
    /// From where it came.
    pub peer: Option<IpAddr>,
}

impl Spent {
    /// Asks for what [`Spent::check`] needs to know: it is the same few rows however often a token was used.
    pub(super) fn wants(&self, key_digest: [u8; 32], wanted: &mut Wanted) {
        match self.token {
            Some(id) => {
                wanted.join_tokens.insert(id);
                wanted.uses.insert((self.digest, key_digest));
            }
            None => drop(wanted.evidence.insert(self.digest)),
        }
    }

    /// Whether it may be spent on a key; the serial of the certificate that it was spent on by the same key just before.
    pub(super) async fn check(&self, batch: &mut Batch<'_>, key_digest: [u8; 32]) -> Result<Option<Serial>, Undecided> {
        let token = match &self.token {
            Some(id) => Some(batch.found.join_tokens.get(id).ok_or(Refused::NoJoinToken)?),
            None => None,
        };
        if let Some(same) = batch.found.redemptions.get(&(self.digest, key_digest)) {
            return if same.replayable_at(batch.at()) { Ok(Some(same.serial)) } else { Err(same.refused().into()) };
        }
        if self.expires_at <= batch.at() {
            return Err(Refused::EvidenceExpired(self.expires_at).into());
        }
        let last_key = match token {
            Some(token) if token.used < token.uses => None,
            Some(token) => token.last_key,
            None => batch.found.spent.get(&self.digest).copied(),
        };
        let Some(last_key) = last_key else { return Ok(None) };
        if let Some(last) = batch.found.redemptions.get(&(self.digest, last_key)) {
            return Err(last.refused().into());
        }
        let values = vec![self.digest.into(), last_key.into()];
        let row = batch.reading().row(REDEMPTION, values).await?.ok_or(DbError::Column { column: 0 })?;
        Err(Redemption::from_row(&row)?.refused().into())
    }

    /// What is kept of it until it is worth nothing and no lost reply can be asked for again.
    pub(super) fn on(&self, key_digest: [u8; 32], serial: Serial, at: Timestamp) -> Redemption {
        let expires_at = self.expires_at.max(at + REPLAY);
        let peer = self.peer.map(|peer| peer.to_string());
        Redemption { evidence: self.digest, token: self.token, key_digest, serial, at, expires_at, peer }
    }
}

/// Evidence spent on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redemption {
    pub(super) evidence: [u8; 32],
    /// Known of those that are made, not of those that are read.
    pub(super) token: Option<JoinTokenId>,
    /// SHA-256 of the SPKI.
    pub key_digest: [u8; 32],
    /// The certificate.
    pub serial: Serial,
    /// When.
    pub at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// From where.
    pub peer: Option<String>,
}

impl Redemption {
    /// Whether the same key may still ask for the answer again.
    pub fn replayable_at(&self, now: Timestamp) -> bool {
        now.since(self.at) <= REPLAY
    }

    fn refused(&self) -> Refused {
        Refused::Spent { at: self.at, peer: self.peer.clone(), serial: self.serial }
    }

    fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            evidence: row.read(0)?,
            token: None,
            key_digest: row.read(1)?,
            serial: row.read(2)?,
            at: row.read(3)?,
            expires_at: row.read(4)?,
            peer: row.read_optional(5)?,
        })
    }
}

/// Makes a join token. The record's creation and log index are set by the commit; of the secret only its hash comes here.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct CreateJoinToken {
    /// On whose behalf.
    pub cause: Cause,
    /// What it shall be.
    pub token: JoinToken,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
}

impl Decision for CreateJoinToken {
    type Reply = JoinToken;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<JoinToken>, Undecided> {
        let token = JoinToken {
            used: 0,
            created_at: batch.at(),
            created_by: self.cause.actor.clone(),
            log_index: batch.log_size(),
            ..self.token.clone()
        };
        let values = vec![
            token.id.into(),
            self.secret_hash.into(),
            i64::from(token.uses).into(),
            token.expires_at.into(),
            token.log_index.into(),
            document(&token).into(),
        ];
        batch
            .transaction()
            .execute(
                "INSERT INTO join_token (id, secret_hash, uses, expires_at, log_index, document) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
                values,
            )
            .await?;
        let facts = Facts::from_iter([("change", "created".to_owned()), ("record", document(&token))]);
        let subjects = vec![token.subject.to_string(), token.id.to_string()];
        Ok(batch.log(&self.cause, subjects, Logged::Registry(facts), token)?)
    }
}

/// Deletes a join token; what it was spent on stays.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct DeleteJoinToken {
    /// On whose behalf.
    pub cause: Cause,
    /// Which.
    pub id: JoinTokenId,
}

impl Decision for DeleteJoinToken {
    type Reply = ();

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        delete(batch, &self.cause, "DELETE FROM join_token WHERE id = $1", self.id.into(), self.id.to_string()).await
    }
}

/// Makes an API token. The record's creation and log index are set by the commit; of the secret only its hash comes here.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct CreateApiToken {
    /// On whose behalf.
    pub cause: Cause,
    /// What it shall be.
    pub token: ApiToken,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
}

impl Decision for CreateApiToken {
    type Reply = ApiToken;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<ApiToken>, Undecided> {
        let token = ApiToken {
            created_at: batch.at(),
            created_by: self.cause.actor.clone(),
            log_index: batch.log_size(),
            ..self.token.clone()
        };
        let values = vec![
            token.id.into(),
            self.secret_hash.into(),
            token.expires_at.into(),
            token.log_index.into(),
            document(&token).into(),
        ];
        batch
            .transaction()
            .execute(
                "INSERT INTO api_token (id, secret_hash, expires_at, log_index, document) VALUES ($1, $2, $3, $4, $5)",
                values,
            )
            .await?;
        let facts = Facts::from_iter([("change", "created".to_owned()), ("record", document(&token))]);
        Ok(batch.log(&self.cause, vec![token.id.to_string()], Logged::Registry(facts), token)?)
    }
}

/// Deletes an API token.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct DeleteApiToken {
    /// On whose behalf.
    pub cause: Cause,
    /// Which.
    pub id: TokenId,
}

impl Decision for DeleteApiToken {
    type Reply = ();

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        delete(batch, &self.cause, "DELETE FROM api_token WHERE id = $1", self.id.into(), self.id.to_string()).await
    }
}

async fn delete(
    batch: &mut Batch<'_>,
    cause: &Cause,
    sql: &'static str,
    id: Value,
    subject: String,
) -> Result<Committed<()>, Undecided> {
    if batch.transaction().execute(sql, vec![id]).await? == 0 {
        return Err(Refused::NoRecord(subject).into());
    }
    let facts = Facts::from_iter([("change", "deleted")]);
    Ok(batch.log(cause, vec![subject], Logged::Registry(facts), ())?)
}

/// The join token of a secret.
pub(super) async fn join_token_of_secret(db: &Db, secret_hash: [u8; 32]) -> Result<Option<JoinToken>, DbError> {
    db.row("SELECT document, used FROM join_token WHERE secret_hash = $1", vec![secret_hash.into()])
        .await?
        .as_ref()
        .map(join_token)
        .transpose()
}

/// Join tokens, newest first: those made before a log position, at most `limit`.
pub(super) async fn join_tokens(db: &Db, before: Option<u64>, limit: u32) -> Result<Vec<JoinToken>, DbError> {
    let rows = db
        .rows(
            "SELECT document, used FROM join_token WHERE log_index < $1 ORDER BY log_index DESC LIMIT $2",
            vec![before.unwrap_or(u64::MAX).into(), i64::from(limit).into()],
        )
        .await?;
    rows.iter().map(join_token).collect()
}

/// The API token of a secret.
pub(super) async fn api_token_of_secret(db: &Db, secret_hash: [u8; 32]) -> Result<Option<ApiToken>, DbError> {
    let row = db.row("SELECT document FROM api_token WHERE secret_hash = $1", vec![secret_hash.into()]).await?;
    row.map(|row| parse(&row.read::<String>(0)?)).transpose()
}

/// API tokens, newest first: those made before a log position, at most `limit`.
pub(super) async fn api_tokens(db: &Db, before: Option<u64>, limit: u32) -> Result<Vec<ApiToken>, DbError> {
    let rows = db
        .rows(
            "SELECT document FROM api_token WHERE log_index < $1 ORDER BY log_index DESC LIMIT $2",
            vec![before.unwrap_or(u64::MAX).into(), i64::from(limit).into()],
        )
        .await?;
    rows.iter().map(|row| parse(&row.read::<String>(0)?)).collect()
}

/// From its document and how often it was used.
fn join_token(row: &Row) -> Result<JoinToken, DbError> {
    let used: u64 = row.read(1)?;
    Ok(JoinToken { used: u32::try_from(used).unwrap_or(u32::MAX), ..parse(&row.read::<String>(0)?)? })
}

/// What must be known of a join token to spend it.
#[derive(Debug)]
pub(super) struct JoinTokenRow {
    uses: u64,
    /// How often it was spent, and the key it was spent on last.
    used: u64,
    last_key: Option<[u8; 32]>,
}

impl JoinTokenRow {
    /// Counts a use.
    pub(super) const fn spend(&mut self, key_digest: [u8; 32]) {
        self.used += 1;
        self.last_key = Some(key_digest);
    }
}

/// What evidence that is good once was spent on, and join tokens by these keys.
pub(super) async fn find_redemptions(
    transaction: &mut Transaction,
    evidence: HashSet<[u8; 32]>,
    uses: HashSet<([u8; 32], [u8; 32])>,
) -> Result<Vec<Redemption>, DbError> {
    let mut rows = REDEMPTIONS.run(transaction, &[], evidence.into_iter().map(|one| [one.into()]).collect()).await?;
    let uses = uses.into_iter().map(|(evidence, key)| [evidence.into(), key.into()]).collect();
    rows.extend(USES.run(transaction, &[], uses).await?);
    rows.iter().map(Redemption::from_row).collect()
}

/// The join tokens of these ids.
pub(super) async fn find_join_tokens(
    transaction: &mut Transaction,
    ids: HashSet<JoinTokenId>,
) -> Result<HashMap<JoinTokenId, JoinTokenRow>, DbError> {
    let rows = JOIN_TOKENS.run(transaction, &[], ids.into_iter().map(|id| [id.into()]).collect()).await?;
    let token = |row: &Row| {
        let token = JoinTokenRow { uses: row.read(1)?, used: row.read(2)?, last_key: row.read_optional(3)? };
        Ok((row.read(0)?, token))
    };
    rows.iter().map(token).collect()
}

/// Writes how often join tokens were spent.
pub(super) async fn count_uses(
    transaction: &mut Transaction,
    tokens: Vec<(JoinTokenId, &JoinTokenRow)>,
) -> Result<(), DbError> {
    let values = |(id, token): (JoinTokenId, &JoinTokenRow)| {
        [id.into(), token.used.into(), token.last_key.map(Vec::from).into()]
    };
    COUNT.run(transaction, tokens.into_iter().map(values)).await.map(drop)
}

/// Whether a lost reply to this evidence, shown for this key, may be asked for again.
pub(super) async fn replayable(
    db: &Db,
    evidence: &[u8; 32],
    key_digest: &[u8; 32],
    now: Timestamp,
) -> Result<bool, DbError> {
    let sql = "SELECT evidence, key_digest, serial, at, expires_at, peer FROM redemption \
               WHERE evidence = $1 AND key_digest = $2";
    let row = db.row(sql, vec![(*evidence).into(), (*key_digest).into()]).await?;
    Ok(row.as_ref().map(Redemption::from_row).transpose()?.is_some_and(|redemption| redemption.replayable_at(now)))
}

/// Writes redemptions.
pub(super) async fn insert_redemptions(
    transaction: &mut Transaction,
    redemptions: Vec<Redemption>,
) -> Result<(), DbError> {
    let values = |redemption: Redemption| {
        [
            redemption.evidence.into(),
            redemption.key_digest.into(),
            redemption.serial.into(),
            redemption.at.into(),
            redemption.expires_at.into(),
            redemption.peer.into(),
        ]
    };
    INSERT.run(transaction, redemptions.into_iter().map(values)).await.map(drop)
}

/// Forgets the redemptions of evidence that is worth nothing any more.
pub(super) async fn purge(transaction: &mut Transaction, now: Timestamp) -> Result<u64, DbError> {
    transaction.execute("DELETE FROM redemption WHERE expires_at < $1", vec![now.into()]).await
}

/// How long a lost reply can be asked for again by the same key.
pub const REPLAY: Duration = Duration::from_secs(600);

const REDEMPTION: &str = "SELECT evidence, key_digest, serial, at, expires_at, peer FROM redemption \
                          WHERE evidence = $1 AND key_digest = $2";
pub(super) static REDEMPTIONS: SelectIn =
    SelectIn::new("SELECT evidence, key_digest, serial, at, expires_at, peer FROM redemption WHERE evidence IN", "");
pub(super) static USES: SelectIn<2> = SelectIn::new(
    "SELECT evidence, key_digest, serial, at, expires_at, peer FROM redemption WHERE (evidence, key_digest) IN",
    "",
);
pub(super) static JOIN_TOKENS: SelectIn =
    SelectIn::new("SELECT id, uses, used, last_key FROM join_token WHERE id IN", "");
pub(super) static COUNT: Write<3> = Write::update(
    "UPDATE join_token SET used = $2, last_key = $3 WHERE id = $1",
    "UPDATE join_token SET used = column2, last_key = column3 FROM (VALUES",
    ") AS spent WHERE id = column1",
);
static INSERT: Write<6> =
    Write::insert("INSERT INTO redemption (evidence, key_digest, serial, at, expires_at, peer) VALUES");
