//! Records: what was decided, when, by whom and about what, in one canonical spelling.

use chancery_identity::{Actor, RequestId, Timestamp};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::decision::{Action, Decision};
use crate::wire::decimal;

/// The record of one decision.
///
/// Its bytes are JSON with the keys of every object in order, no white space, 64-bit integers as decimal strings, and
/// every character that is not ASCII escaped: one spelling for each record, so that a commitment fixes its meaning.
///
/// ```json
/// {"action":"deny","actor":"admin:ana","at":"2026-11-21T03:07:41.203Z","detail":{"code":"access-missing"},
///  "epoch":"1","request_id":"rq_01936f2c…","subjects":["agent:invoice-bot"],"v":1}
/// ```
///
/// A certificate stands in an `issue` or `renew` record and nowhere else; `grant`, `delegate` and `approve` record the
/// decisions about rights that led to one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the record")]
pub struct Record {
    /// When it was committed.
    pub at: Timestamp,
    /// The log's epoch.
    pub epoch: u64,
    /// On whose behalf.
    pub actor: Actor,
    /// What it is about, in the spelling of targets where there is one: `agent:invoice-bot`, `system:crm`.
    pub subjects: Vec<String>,
    /// The request that asked for it; absent for what the issuer did by itself.
    pub request_id: Option<RequestId>,
    /// What was decided: the fields `action` and `detail`.
    pub decision: Decision,
}

impl Record {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes, and refuses every other spelling of the same record.
    ///
    /// # Errors
    /// Another version, an unknown action or field, a value of the wrong form, more than 65,535 bytes, or bytes that
    /// differ from what [`Record::to_bytes`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_LEN_MAX {
            return Err(RecordError::Length(bytes.len()));
        }
        let wire: RecordWire = serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice(bytes) {
            Ok(VersionWire { v }) if v != VERSION => RecordError::Version(v),
            _ => RecordError::Syntax(error.to_string()),
        })?;
        let record = wire.into_record()?;
        if record.to_bytes() == bytes { Ok(record) } else { Err(RecordError::Spelling) }
    }
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request_id = self.request_id.as_ref();
        let mut fields = serializer.serialize_struct("Record", 7 + usize::from(request_id.is_some()))?;
        fields.serialize_field("action", &self.decision.action())?;
        fields.serialize_field("actor", &self.actor)?;
        fields.serialize_field("at", &self.at)?;
        fields.serialize_field("detail", &self.decision)?;
        fields.serialize_field("epoch", &self.epoch.to_string())?;
        if let Some(request_id) = request_id {
            fields.serialize_field("request_id", request_id)?;
        }
        fields.serialize_field("subjects", &self.subjects)?;
        fields.serialize_field("v", &VERSION)?;
        fields.end()
    }
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not JSON, or not the fields of a record.
    #[error("wanted a log record: {0}")]
    Syntax(String),
    /// Written by a later Chancery.
    #[error("wanted a log record of version {VERSION}, got version {0}: read it with a newer chancery")]
    Version(u64),
    /// Another spelling than the canonical one: the bytes were not written by an issuer.
    #[error("wanted a log record in canonical form: keys in order, no white space, ASCII, nothing twice")]
    Spelling,
    /// Too long.
    #[error("wanted a log record of at most {RECORD_LEN_MAX} bytes, got {0}")]
    Length(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordWire {
    action: Action,
    actor: Actor,
    at: Timestamp,
    detail: serde_json::Value,
    #[serde(with = "decimal")]
    epoch: u64,
    request_id: Option<RequestId>,
    subjects: Vec<String>,
    v: u64,
}

impl RecordWire {
    fn into_record(self) -> Result<Record, RecordError> {
        if self.v != VERSION {
            return Err(RecordError::Version(self.v));
        }
        let detail = self.detail;
        let decision = match self.action {
            Action::Issue => read(detail).map(Decision::Issue),
            Action::Renew => read(detail).map(Decision::Renew),
            Action::Grant => read(detail).map(Decision::Grant),
            Action::Delegate => read(detail).map(Decision::Delegate),
            Action::Approve => read(detail).map(Decision::Approve),
            Action::Deny => read(detail).map(Decision::Deny),
            Action::Revoke => read(detail).map(Decision::Revoke),
            Action::Resume => read(detail).map(Decision::Resume),
            Action::Registry => read(detail).map(Decision::Registry),
            Action::Policy => read(detail).map(Decision::Policy),
            Action::Ceremony => read(detail).map(Decision::Ceremony),
            Action::Crl => read(detail).map(Decision::Crl),
            Action::LogRestart => read(detail).map(Decision::LogRestart),
        }?;
        let Self { at, epoch, actor, subjects, request_id, .. } = self;
        Ok(Record { at, epoch, actor, subjects, request_id, decision })
    }
}

#[derive(Deserialize)]
struct VersionWire {
    v: u64,
}

fn read<T: for<'de> Deserialize<'de>>(detail: serde_json::Value) -> Result<T, RecordError> {
    serde_json::from_value(detail).map_err(|error| RecordError::Syntax(format!("detail: {error}")))
}

/// The version of records that this code writes, and the only one it reads.
const VERSION: u64 = 1;
/// 64 scopes of 256 bytes and a chain of seven ancestors fit thrice.
const RECORD_LEN_MAX: usize = 65_535;

#[cfg(test)]
pub(crate) mod tests;
