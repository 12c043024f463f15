//! Responses: planned from what is known, then signed.

use chancery_identity::der::{self, Writer, context, context_constructed};
use chancery_identity::{KeyId, Reason, Timestamp};

use super::request::NONCE;
use super::{CertId, CertStatus, OcspNonce, Responder};
use crate::SignError;
use crate::certificate::extension;

/// id-pkix-ocsp-basic, RFC 6960 §4.2.1.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];

/// For how long a response speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "callers make it")]
pub struct OcspTimes {
    /// When it is made and what it says is known to be so; cut to whole seconds.
    pub this_update: Timestamp,
    /// When newer is there at the latest; cut to whole seconds.
    pub next_update: Timestamp,
}

/// A response as it would be signed, by the responder that it names.
#[derive(Debug)]
pub struct OcspPlan<'r> {
    responder: &'r Responder,
    tbs: Vec<u8>,
    times: OcspTimes,
}

impl<'r> OcspPlan<'r> {
    /// Plans a response: an answer for each certificate of the request, in its order, and its nonce.
    ///
    /// # Errors
    /// No answer, an answer for another authority's certificate, a time that is over when it begins or that lasts longer than
    /// the responder's certificate.
    pub fn new<'a>(
        responder: &'r Responder,
        times: OcspTimes,
        answers: impl IntoIterator<Item = (&'a CertId, CertStatus)>,
        nonce: Option<&OcspNonce>,
    ) -> Result<Self, OcspRefused> {
        let OcspTimes { this_update, next_update } = times;
        let times =
            OcspTimes { this_update: this_update.floor_to_second(), next_update: next_update.floor_to_second() };
        let OcspTimes { this_update, next_update } = times;
        if next_update <= this_update {
            return Err(OcspRefused::Over { this_update, next_update });
        }
        let not_after = responder.not_after();
        if next_update > not_after {
            return Err(OcspRefused::Outlives { next_update, not_after });
        }
        let mut answers = answers.into_iter().peekable();
        if answers.peek().is_none() {
            return Err(OcspRefused::NoAnswer);
        }
        let mut foreign = false;
        let mut writer = Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            // RFC 6960 §4.2.1: version 1 is the DEFAULT, and not encoded; byKey, as the responder's name is of no meaning.
            w.nested(context_constructed(2), |w| {
                w.octets(&responder.key_hash());
            });
            w.generalized_time(this_update);
            w.nested(der::SEQUENCE, |w| {
                for (id, status) in answers {
                    foreign |= !responder.answers_for(id);
                    single_response(w, id, status, times);
                }
            });
            if let Some(nonce) = nonce {
                w.nested(context_constructed(1), |w| {
                    w.nested(der::SEQUENCE, |w| {
                        extension(w, NONCE, false, |w| {
                            w.octets(nonce.bytes());
                        });
                    });
                });
            }
        });
        if foreign {
            return Err(OcspRefused::OtherAuthority(responder.authority()));
        }
        Ok(Self { responder, tbs: writer.finish(), times })
    }

    /// Signs it.
    ///
    /// # Errors
    /// The responder's key failed or gave a wrong signature.
    pub async fn sign(self) -> Result<SignedOcsp, SignError> {
        const SUCCESSFUL: u8 = 0;
        let signature = self.responder.sign(&self.tbs).await?;
        let mut writer = Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            w.value(der::ENUMERATED, &[SUCCESSFUL]);
            w.nested(context_constructed(0), |w| {
                w.nested(der::SEQUENCE, |w| {
                    w.oid(BASIC).nested(der::OCTET_STRING, |w| {
                        w.nested(der::SEQUENCE, |w| {
                            w.raw(&self.tbs).raw(self.responder.algorithm().signature_identifier()).bits(&signature);
                            w.nested(context_constructed(0), |w| {
                                w.nested(der::SEQUENCE, |w| {
                                    w.raw(self.responder.certificate());
                                });
                            });
                        });
                    });
                });
            });
        });
        Ok(SignedOcsp { der: writer.finish(), times: self.times })
    }
}

/// A signed response.
#[derive(Clone, Debug)]
pub struct SignedOcsp {
    der: Vec<u8>,
    times: OcspTimes,
}

impl SignedOcsp {
    /// The whole response.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The whole response.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }

    /// For how long it speaks, as signed.
    pub const fn times(&self) -> OcspTimes {
        self.times
    }
}

fn single_response(w: &mut Writer, id: &CertId, status: CertStatus, times: OcspTimes) {
    const GOOD: u8 = context(0);
    const REVOKED: u8 = context_constructed(1);
    const UNKNOWN: u8 = context(2);
    w.nested(der::SEQUENCE, |w| {
        w.raw(id.der());
        match status {
            CertStatus::Good => w.value(GOOD, &[]),
            CertStatus::Unknown => w.value(UNKNOWN, &[]),
            CertStatus::Revoked { at, reason } => w.nested(REVOKED, |w| {
                w.generalized_time(at.min(times.this_update));
                // As in the CRL (RFC 5280 §5.3.1), the unspecified is not said.
                if reason != Reason::Unspecified {
                    w.nested(context_constructed(0), |w| {
                        w.value(der::ENUMERATED, &[reason.code()]);
                    });
                }
            }),
        };
        w.generalized_time(times.this_update);
        w.nested(context_constructed(0), |w| {
            w.generalized_time(times.next_update);
        });
    });
}

/// The response cannot be made so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspRefused {
    /// It would be over when it begins.
    #[error("nextUpdate {next_update} is not after thisUpdate {this_update}")]
    Over {
        /// When it would be made.
        this_update: Timestamp,
        /// When it would be over.
        next_update: Timestamp,
    },
    /// It would last longer than the certificate that it is verified by.
    #[error("nextUpdate {next_update} is after the responder's certificate ends at {not_after}")]
    Outlives {
        /// When it would be over.
        next_update: Timestamp,
        /// When the responder's certificate is.
        not_after: Timestamp,
    },
    /// It answers nothing.
    #[error("an OCSP response answers for one certificate at least")]
    NoAnswer,
    /// A certificate of another authority.
    #[error("this responder answers for certificates of authority {0} only")]
    OtherAuthority(KeyId),
}
