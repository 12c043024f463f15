//! The grant extension: on whose word and for whom a certificate carries its scopes.

use std::fmt;

use crate::der::{self, DerError, Reader, Writer, context_constructed};
use crate::{ApprovalId, GrantId, KeyId, Lineage, Name, Serial, SpiffeId, System, Timestamp};

/// The version this code writes, and the only one it reads.
pub const GRANT_VERSION: u64 = 1;
/// The deepest delegation a grant can leave open.
const DEPTH_MAX: u64 = 7;
/// Bytes of DER that most grants stay below.
const LEN_USUAL: usize = 256;

/// What stands behind one certificate's scopes. ASN.1 in docs/formats.md.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the extension")]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The agent's, service's or administrator's name; which of them, the SPIFFE ID says.
    pub name: Name,
    /// The record's revision when this was granted.
    pub revision: u64,
    /// The accountable party.
    pub owner: Name,
    /// What a service answers for; empty for others.
    pub systems: Vec<System>,
    /// The chain of renewals it belongs to.
    pub lineage: Lineage,
    /// The log's epoch.
    pub epoch: u64,
    /// The log's size when this was planned: what order is judged by.
    pub planned_at: u64,
    /// The newest revocation when this was planned.
    pub seen: u64,
    /// How the holder proved what it is.
    pub attestation: Attestation,
    /// The user it acts for.
    pub on_behalf_of: Option<OnBehalfOf>,
    /// The piece of work it is bound to.
    pub task: Option<Task>,
    /// Who delegated, the root first; empty for an identity that attested itself.
    pub chain: Vec<Ancestor>,
    /// How many more times it may be delegated, 0 to 7.
    pub depth_left: u8,
    /// Whether the holder asked for fewer scopes than its record holds: such a grant never grows by renewal.
    pub chosen: bool,
    /// Further conditions; one that a verifier does not know means refusal.
    pub constraints: Vec<Constraint>,
}

/// Which evidence was shown, when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the extension")]
pub struct Attestation {
    /// The attestor, e.g. `join_token`.
    pub method: String,
    /// SHA-256 of the evidence.
    pub digest: [u8; 32],
    /// When, in whole seconds.
    pub at: Timestamp,
}

/// A user, by a pseudonym that means something only to its issuer and us.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the extension")]
pub struct OnBehalfOf {
    /// The identity provider.
    pub issuer: String,
    /// The pairwise subject.
    pub subject: String,
}

/// A piece of work, minutes long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the extension")]
pub struct Task {
    /// The requester's id for it, e.g. `T-812`.
    pub id: String,
    /// The approval it rests on.
    pub approval: Option<ApprovalId>,
    /// Salted digest of the approved arguments.
    pub arguments: Option<[u8; 32]>,
}

/// One identity that delegated, and by which of its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the extension")]
pub struct Ancestor {
    /// Its SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// Its lineage.
    pub lineage: Lineage,
    /// The authority that signed its certificate.
    pub authority: KeyId,
    /// Its certificate's serial.
    pub serial: Serial,
    /// Its grant.
    pub grant: GrantId,
    /// Its certificate's `planned_at`.
    pub planned_at: u64,
}

/// A condition of a kind that its OID names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a new field is a new version of the extension")]
pub struct Constraint {
    /// The kind, as DER contents of an OBJECT IDENTIFIER.
    pub oid: Vec<u8>,
    /// The value, in a form the kind defines.
    pub value: Vec<u8>,
}

impl Grant {
    /// The extension's value.
    pub fn to_der(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(LEN_USUAL);
        self.write(&mut writer);
        writer.finish()
    }

    /// Writes the extension's value.
    pub fn write(&self, writer: &mut Writer) {
        writer.nested(der::SEQUENCE, |w| {
            w.unsigned_64(GRANT_VERSION).octets(&self.id.bytes()).utf8(self.name.as_str()).unsigned_64(self.revision);
            w.utf8(self.owner.as_str()).octets(&self.lineage.bytes());
            w.unsigned_64(self.epoch).unsigned_64(self.planned_at).unsigned_64(self.seen);
            w.nested(der::SEQUENCE, |w| {
                w.utf8(&self.attestation.method).octets(&self.attestation.digest).time(self.attestation.at);
            });
            w.unsigned_64(u64::from(self.depth_left));
            // X.690 §11.5: a value equal to its DEFAULT is not encoded.
            if self.chosen {
                w.boolean(true);
            }
            if !self.systems.is_empty() {
                w.nested(context_constructed(0), |w| {
                    for system in &self.systems {
                        w.utf8(system.as_str());
                    }
                });
            }
            if let Some(user) = &self.on_behalf_of {
                w.nested(context_constructed(1), |w| {
                    w.utf8(&user.issuer).utf8(&user.subject);
                });
            }
            if let Some(task) = &self.task {
                w.nested(context_constructed(2), |w| task.write(w));
            }
            if !self.chain.is_empty() {
                w.nested(context_constructed(3), |w| {
                    for ancestor in &self.chain {
                        w.nested(der::SEQUENCE, |w| ancestor.write(w));
                    }
                });
            }
            if !self.constraints.is_empty() {
                w.nested(context_constructed(4), |w| {
                    for constraint in &self.constraints {
                        w.nested(der::SEQUENCE, |w| {
                            w.oid(&constraint.oid).octets(&constraint.value);
                        });
                    }
                });
            }
        });
    }

    /// Reads the extension's value.
    ///
    /// # Errors
    /// Another version, or anything but the DER that [`Grant::to_der`] writes.
    pub fn from_der(der: &[u8]) -> Result<Self, GrantError> {
        let mut outer = Reader::new(der);
        let mut r = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let version = r.unsigned_64()?;
        if version != GRANT_VERSION {
            return Err(GrantError::Version(version));
        }
        let grant = Self {
            id: GrantId::from_bytes(r.octets()?),
            name: parse(r.utf8()?, "name")?,
            revision: r.unsigned_64()?,
            owner: parse(r.utf8()?, "owner")?,
            lineage: Lineage::from_bytes(r.octets()?),
            epoch: r.unsigned_64()?,
            planned_at: r.unsigned_64()?,
            seen: r.unsigned_64()?,
            attestation: {
                let mut a = r.nested(der::SEQUENCE)?;
                let attestation = Attestation { method: a.utf8()?.into(), digest: a.octets()?, at: a.time()? };
                a.finish()?;
                attestation
            },
            depth_left: match r.unsigned_64()? {
                depth @ 0..=DEPTH_MAX => u8::try_from(depth).unwrap_or(0),
                _ => return Err(GrantError::Field("depth left")),
            },
            chosen: if r.peek() == Some(der::BOOLEAN) { r.boolean()? } else { false },
            systems: list(&mut r, 0, |r| parse(r.utf8()?, "system"))?,
            on_behalf_of: match r.read_optional(context_constructed(1))? {
                None => None,
                Some(contents) => {
                    let mut u = Reader::new(contents);
                    let user = OnBehalfOf { issuer: u.utf8()?.into(), subject: u.utf8()?.into() };
                    u.finish()?;
                    Some(user)
                }
            },
            task: r.read_optional(context_constructed(2))?.map(Task::read).transpose()?,
            chain: list(&mut r, 3, |r| Ancestor::read(r.nested(der::SEQUENCE)?))?,
            constraints: list(&mut r, 4, |r| {
                let mut c = r.nested(der::SEQUENCE)?;
                let constraint = Constraint {
                    oid: c.read(der::OBJECT_IDENTIFIER)?.into(),
                    value: c.read(der::OCTET_STRING)?.into(),
                };
                c.finish()?;
                Ok(constraint)
            })?,
        };
        r.finish()?;
        // One encoding for each grant: what would be written otherwise is not what was signed knowingly.
        if grant.to_der() == der { Ok(grant) } else { Err(GrantError::Field("encoding")) }
    }
}

impl Task {
    fn write(&self, w: &mut Writer) {
        w.utf8(&self.id);
        if let Some(approval) = self.approval {
            w.value(der::context(0), &approval.bytes());
        }
        if let Some(digest) = &self.arguments {
            w.value(der::context(1), digest);
        }
    }

    fn read(contents: &[u8]) -> Result<Self, GrantError> {
        let mut r = Reader::new(contents);
        let id = r.utf8()?.into();
        let approval = r.read_optional(der::context(0))?.map(|b| b.try_into().map(ApprovalId::from_bytes));
        let arguments = r.read_optional(der::context(1))?.map(TryInto::try_into);
        r.finish()?;
        Ok(Self {
            id,
            approval: approval.transpose().map_err(|_| GrantError::Field("approval"))?,
            arguments: arguments.transpose().map_err(|_| GrantError::Field("arguments digest"))?,
        })
    }
}

impl Ancestor {
    fn write(&self, w: &mut Writer) {
        w.utf8(self.spiffe_id.as_str()).octets(&self.lineage.bytes()).octets(self.authority.bytes());
        w.unsigned(self.serial.bytes()).octets(&self.grant.bytes()).unsigned_64(self.planned_at);
    }

    fn read(mut r: Reader<'_>) -> Result<Self, GrantError> {
        let ancestor = Self {
            spiffe_id: parse(r.utf8()?, "ancestor's SPIFFE ID")?,
            lineage: Lineage::from_bytes(r.octets()?),
            authority: KeyId::from_bytes(r.octets()?),
            serial: Serial::from_bytes(r.unsigned()?).ok_or(GrantError::Field("ancestor's serial"))?,
            grant: GrantId::from_bytes(r.octets()?),
            planned_at: r.unsigned_64()?,
        };
        r.finish()?;
        Ok(ancestor)
    }
}

fn parse<T: std::str::FromStr>(text: &str, field: &'static str) -> Result<T, GrantError> {
    text.parse().map_err(|_| GrantError::Field(field))
}

/// An optional, never empty list under a context tag.
fn list<'a, T>(
    r: &mut Reader<'a>,
    tag: u8,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, GrantError>,
) -> Result<Vec<T>, GrantError> {
    let mut items = Vec::new();
    if let Some(contents) = r.read_optional(context_constructed(tag))? {
        let mut inner = Reader::new(contents);
        while !inner.at_end() {
            items.push(read(&mut inner)?);
        }
    }
    Ok(items)
}

/// The extension is no grant that this code may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantError {
    /// A version that this code does not know; what it would add could be a restriction.
    Version(u64),
    /// Not DER.
    Der(DerError),
    /// A field that holds nothing it may hold.
    Field(&'static str),
}

impl From<DerError> for GrantError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "wanted grant version {GRANT_VERSION}, got {version}"),
            Self::Der(error) => write!(f, "malformed grant: {error}"),
            Self::Field(field) => write!(f, "malformed grant: {field}"),
        }
    }
}

impl std::error::Error for GrantError {}
