//! Authorities: certificate, sealed key, the CRL that stands.

use std::sync::Arc;

use chancery_api::AuthorityKind;
use chancery_ca::CrlNumber;
use chancery_identity::{KeyId, Serial, Timestamp};
use chancery_tlog::{CrlPublished as CrlRecord, Decision as Logged, Facts};

use super::batch::Batch;
use super::db::{Db, DbError, Row};
use super::decision::{Cause, Committed, Decision, Refused, Undecided};
use super::log::SHA256;
use super::state::{Change, Memory};

/// One generation of an authority's key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// The SubjectKeyIdentifier.
    pub key_id: KeyId,
    /// Root or issuing.
    pub kind: AuthorityKind,
    /// DER.
    pub certificate: Vec<u8>,
    /// The key as its seal wrote it; absent when the key is elsewhere.
    pub sealed_key: Option<Vec<u8>>,
    /// The log position of its entry here.
    pub log_index: u64,
    /// The number of the CRL that stands.
    pub crl_number: Option<CrlNumber>,
    /// The CRL that stands, DER.
    pub crl: Option<Arc<[u8]>>,
}

/// Takes in an authority. One that is there already keeps its CRL.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct PutAuthority {
    /// On whose behalf.
    pub cause: Cause,
    /// The SubjectKeyIdentifier.
    pub key_id: KeyId,
    /// Root or issuing.
    pub kind: AuthorityKind,
    /// DER.
    pub certificate: Vec<u8>,
    /// The key as its seal wrote it; absent when the key is elsewhere.
    pub sealed_key: Option<Vec<u8>>,
}

impl Decision for PutAuthority {
    type Reply = Authority;

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<Authority>, Undecided> {
        let before = current(batch, self.key_id);
        let authority = Authority {
            key_id: self.key_id,
            kind: self.kind,
            certificate: self.certificate.clone(),
            sealed_key: self.sealed_key.clone(),
            log_index: batch.log_size(),
            crl_number: before.as_ref().and_then(|before| before.crl_number),
            crl: before.and_then(|before| before.crl.clone()),
        };
        let values = vec![
            authority.key_id.into(),
            authority.kind.as_str().into(),
            authority.log_index.into(),
            authority.certificate.clone().into(),
            authority.sealed_key.clone().into(),
        ];
        batch
            .transaction()
            .execute(
                "INSERT INTO authority (key_id, kind, log_index, certificate, sealed_key) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (key_id) DO UPDATE SET kind = excluded.kind, log_index = excluded.log_index, \
                 certificate = excluded.certificate, sealed_key = excluded.sealed_key",
                values,
            )
            .await?;
        let facts = Facts::from_iter([
            ("what", "authority".to_owned()),
            ("kind", authority.kind.as_str().to_owned()),
            ("certificate_sha256", hex(&SHA256.digest(&[&authority.certificate]).0)),
            ("key", if authority.sealed_key.is_some() { "sealed here" } else { "elsewhere" }.to_owned()),
        ]);
        let subjects = vec![format!("authority:{}", authority.key_id)];
        batch.change(Change::Authority(authority.clone()));
        Ok(batch.log(&self.cause, subjects, Logged::Ceremony(facts), authority)?)
    }
}

/// Records that an authority certified an OCSP responder. Its certificate is no issued identity: nobody authenticates by it.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct ResponderCertified {
    /// Who certified it.
    pub authority: KeyId,
    /// The certificate's serial.
    pub serial: Serial,
    /// The last second it is valid at.
    pub not_after: Timestamp,
    /// DER.
    pub certificate: Vec<u8>,
}

impl Decision for ResponderCertified {
    type Reply = ();

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        let facts = Facts::from_iter([
            ("what", "ocsp-responder".to_owned()),
            ("serial", self.serial.to_string()),
            ("certificate_sha256", hex(&SHA256.digest(&[&self.certificate]).0)),
            ("not_after", self.not_after.to_seconds_text()),
        ]);
        let subjects = vec![format!("authority:{}", self.authority)];
        Ok(batch.log(&Cause::ISSUER, subjects, Logged::Ceremony(facts), ())?)
    }
}

/// Publishes a CRL, over one with a lower number or over none.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "whoever decides sets all of it")]
pub struct CrlPublished {
    /// Whose.
    pub authority: KeyId,
    /// Its number.
    pub number: CrlNumber,
    /// The newest revocation that it takes into account.
    pub n: u64,
    /// How many certificates it lists.
    pub entries: u64,
    /// DER.
    pub der: Vec<u8>,
}

impl Decision for CrlPublished {
    type Reply = ();

    async fn decide(&self, batch: &mut Batch<'_>) -> Result<Committed<()>, Undecided> {
        let before = current(batch, self.authority).ok_or(Refused::NoAuthority(self.authority))?;
        if let Some(found) = before.crl_number.filter(|found| *found >= self.number) {
            return Err(Refused::CrlNumber { authority: self.authority, wanted: self.number, found }.into());
        }
        // RFC 5280 §5.2.3 allows 20 bytes; Unix nanoseconds, which ours are, stay within 63 bits until 2262.
        let number = u64::try_from(self.number.get()).unwrap_or(u64::MAX);
        let values = vec![number.into(), self.der.clone().into(), self.authority.into()];
        let sql = "UPDATE authority SET crl_number = $1, crl = $2 WHERE key_id = $3";
        batch.transaction().execute(sql, values).await?;
        batch.change(Change::Authority(Authority {
            crl_number: Some(self.number),
            crl: Some(self.der.clone().into()),
            ..Authority::clone(&before)
        }));
        let record = CrlRecord {
            authority: self.authority,
            entries: self.entries,
            n: self.n,
            number,
            sha256: SHA256.digest(&[&self.der]),
        };
        let subjects = vec![format!("authority:{}", self.authority)];
        Ok(batch.log(&Cause::ISSUER, subjects, Logged::Crl(record), ())?)
    }
}

/// Reads the authorities into memory.
pub(super) async fn load(db: &Db, memory: &mut Memory) -> Result<(), DbError> {
    let rows = db
        .rows("SELECT key_id, kind, log_index, certificate, sealed_key, crl_number, crl FROM authority", vec![])
        .await?;
    for row in &rows {
        memory.apply(Change::Authority(from_row(row)?));
    }
    Ok(())
}

fn from_row(row: &Row) -> Result<Authority, DbError> {
    Ok(Authority {
        key_id: row.read(0)?,
        kind: match row.read::<String>(1)?.as_str() {
            "root" => AuthorityKind::Root,
            "issuing" => AuthorityKind::Issuing,
            _ => return Err(DbError::Column { column: 1 }),
        },
        log_index: row.read(2)?,
        certificate: row.read(3)?,
        sealed_key: row.read_optional(4)?,
        crl_number: row.read_optional::<u64>(5)?.map(|number| CrlNumber::new(number.into())),
        crl: row.read_optional::<Vec<u8>>(6)?.map(Into::into),
    })
}

/// An authority, with what this transaction changes.
fn current(batch: &Batch<'_>, key_id: KeyId) -> Option<Arc<Authority>> {
    let changed = batch.changes().iter().rev().find_map(|change| match change {
        Change::Authority(authority) if authority.key_id == key_id => Some(Arc::new(authority.clone())),
        _ => None,
    });
    changed.or_else(|| batch.state().authority(key_id))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
