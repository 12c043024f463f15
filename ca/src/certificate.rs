//! A certificate's DER: the to-be-signed part written, and read back field by field.
//!
//! The names of fields are those of RFC 5280 §4.1.

use chancery_identity::der::{self, DerError, Reader, Writer, context, context_constructed};
use chancery_identity::{KeyId, Serial, Timestamp, oid};

use crate::{Algorithm, AuthorityError};

/// id-ad-caIssuers, RFC 5280 §4.2.2.1.
pub(crate) const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 2];
/// id-ad-ocsp, RFC 5280 §4.2.2.1.
pub(crate) const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
/// id-pkix-ocsp-nocheck, RFC 6960 §4.2.2.2.1.
pub(crate) const OCSP_NO_CHECK: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 5];
/// id-kp-OCSPSigning, RFC 6960 §4.2.2.2.
pub(crate) const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
/// noRevAvail, RFC 9608.
pub(crate) const NO_REVOCATION_AVAILABLE: &[u8] = &[0x55, 0x1d, 56];
/// KeyUsage with digitalSignature alone.
pub(crate) const DIGITAL_SIGNATURE: &[u8] = &[der::BIT_STRING, 2, 7, 0x80];
/// KeyUsage with keyCertSign and cRLSign alone.
pub(crate) const SIGNS_CERTIFICATES: &[u8] = &[der::BIT_STRING, 2, 1, 0x06];

/// Room that nearly all certificates find enough.
const LEN_USUAL: usize = 1536;
/// Extensions that most certificates have no more of.
const EXTENSIONS_USUAL: usize = 12;

/// Writes a TBSCertificate; `extensions` writes the extensions one after another.
pub(crate) fn write_tbs(head: &Head<'_>, extensions: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::with_capacity(LEN_USUAL);
    writer.nested(der::SEQUENCE, |w| {
        // RFC 5280 §4.1.2.1: extensions are used, so the version MUST be 3 (value is 2).
        w.nested(context_constructed(0), |w| {
            w.unsigned_64(2);
        });
        w.unsigned(head.serial.bytes()).raw(head.algorithm.signature_identifier()).raw(head.issuer);
        w.nested(der::SEQUENCE, |w| {
            w.time(head.not_before).time(head.not_after);
        });
        w.raw(head.subject).raw(head.spki);
        w.nested(context_constructed(3), |w| {
            w.nested(der::SEQUENCE, extensions);
        });
    });
    writer.finish()
}

/// What a TBSCertificate says besides its extensions.
pub(crate) struct Head<'a> {
    pub(crate) serial: Serial,
    pub(crate) algorithm: Algorithm,
    /// Name, whole.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Name, whole.
    pub(crate) subject: &'a [u8],
    /// SubjectPublicKeyInfo, whole.
    pub(crate) spki: &'a [u8],
}

/// What was signed, its algorithm and its signature as one: a certificate or a CRL.
pub(crate) fn assemble(tbs: &[u8], algorithm: Algorithm, signature: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(LEN_USUAL);
    writer.nested(der::SEQUENCE, |w| {
        w.raw(tbs).raw(algorithm.signature_identifier()).bits(signature);
    });
    writer.finish()
}

/// One extension, whose value `value` writes.
pub(crate) fn extension(w: &mut Writer, id: &[u8], critical: bool, value: impl FnOnce(&mut Writer)) {
    w.nested(der::SEQUENCE, |w| {
        w.oid(id);
        // X.690 §11.5: a value equal to its DEFAULT is not encoded.
        if critical {
            w.boolean(true);
        }
        w.nested(der::OCTET_STRING, value);
    });
}

/// Where what an authority signs points its readers to: the values of two extensions, the same in all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) crl_distribution_point: Vec<u8>,
    pub(crate) authority_information_access: Vec<u8>,
}

impl Links {
    /// The authority's CRL, its certificate, and its OCSP responder if it has one.
    pub(crate) fn new(crl: &str, certificate: &str, ocsp: Option<&str>) -> Self {
        let (mut point, mut access) = (Writer::new(), Writer::new());
        crl_distribution_point(&mut point, crl);
        authority_information_access(&mut access, certificate, ocsp);
        Self { crl_distribution_point: point.finish(), authority_information_access: access.finish() }
    }
}

/// Who signed and how to find out more about it: AuthorityKeyIdentifier, CRL distribution point, OCSP and caIssuers.
pub(crate) fn authority_extensions(w: &mut Writer, key_id: KeyId, links: &Links) {
    authority_key_id(w, key_id);
    extension(w, oid::CRL_DISTRIBUTION_POINTS, false, |w| {
        w.raw(&links.crl_distribution_point);
    });
    extension(w, oid::AUTHORITY_INFO_ACCESS, false, |w| {
        w.raw(&links.authority_information_access);
    });
}

/// RFC 5280 §4.2.1.1, in the keyIdentifier form.
pub(crate) fn authority_key_id(w: &mut Writer, key_id: KeyId) {
    extension(w, oid::AUTHORITY_KEY_ID, false, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.value(context(0), key_id.bytes());
        });
    });
}

/// RFC 5280 §4.2.1.13: one point with one full name.
pub(crate) fn crl_distribution_point(w: &mut Writer, uri: &str) {
    w.nested(der::SEQUENCE, |w| {
        w.nested(der::SEQUENCE, |w| {
            w.nested(context_constructed(0), |w| {
                w.nested(context_constructed(0), |w| {
                    w.value(URI, uri.as_bytes());
                });
            });
        });
    });
}

/// RFC 5280 §4.2.2.1: OCSP, where there is a responder, then one caIssuers.
fn authority_information_access(w: &mut Writer, certificate: &str, ocsp: Option<&str>) {
    w.nested(der::SEQUENCE, |w| {
        let ocsp = ocsp.iter().map(|uri| (OCSP, *uri));
        for (method, uri) in ocsp.chain([(CA_ISSUERS, certificate)]) {
            w.nested(der::SEQUENCE, |w| {
                w.oid(method).value(URI, uri.as_bytes());
            });
        }
    });
}

/// The tag of a URI among GeneralNames.
pub(crate) const URI: u8 = context(6);
/// The tag of a DNS name among GeneralNames.
pub(crate) const DNS_NAME: u8 = context(2);
/// The tag of an otherName among GeneralNames.
pub(crate) const OTHER_NAME: u8 = context_constructed(0);

/// A certificate in its three parts, each whole but the signature, which is the BIT STRING's bytes.
pub(crate) struct Parts<'a> {
    pub(crate) tbs: &'a [u8],
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(der);
        let mut certificate = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let (_, _, tbs) = certificate.read_any()?;
        let (_, _, algorithm) = certificate.read_any()?;
        let signature = crate::algorithm::whole_bytes(&mut certificate)?;
        certificate.finish()?;
        Ok(Self { tbs, algorithm, signature })
    }
}

/// A TBSCertificate field by field, nothing judged: lints read defects too.
pub(crate) struct Fields<'a> {
    /// Whole, `[0]` and all; `None` when absent.
    pub(crate) version: Option<&'a [u8]>,
    /// The INTEGER's contents, sign byte and all.
    pub(crate) serial: &'a [u8],
    pub(crate) algorithm: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: Time<'a>,
    pub(crate) not_after: Time<'a>,
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Vec<Extension<'a>>,
}

/// A time as it stands there.
#[derive(Clone, Copy)]
pub(crate) struct Time<'a> {
    pub(crate) whole: &'a [u8],
}

impl Time<'_> {
    /// `None` when it is not in the form that RFC 5280 §4.1.2.5 wants.
    pub(crate) fn at(self) -> Option<Timestamp> {
        Reader::new(self.whole).time().ok()
    }
}

/// An extension as it stands there.
#[derive(Clone, Copy)]
pub(crate) struct Extension<'a> {
    pub(crate) id: &'a [u8],
    /// `None` when it is not said, which means no.
    pub(crate) critical: Option<bool>,
    pub(crate) value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of a whole certificate.
    pub(crate) fn of_certificate(der: &'a [u8]) -> Result<Self, AuthorityError> {
        let parts = Parts::read(der)?;
        let fields = Self::read(parts.tbs)?;
        // RFC 5280 §4.1.1.2: MUST contain the same algorithm identifier as the signature field.
        if parts.algorithm != fields.algorithm {
            return Err(AuthorityError::Unfit("it names two different signature algorithms"));
        }
        Ok(fields)
    }

    pub(crate) fn serial_number(&self) -> Result<Serial, AuthorityError> {
        let serial = self.serial.strip_prefix(&[0]).unwrap_or(self.serial);
        Serial::from_bytes(serial).ok_or(AuthorityError::Unfit("its serial is zero or too long"))
    }

    /// From when to when.
    pub(crate) fn validity(&self) -> Result<(Timestamp, Timestamp), AuthorityError> {
        let malformed = AuthorityError::Unfit("its validity is malformed");
        self.not_before.at().zip(self.not_after.at()).ok_or(malformed)
    }

    pub(crate) fn read(tbs: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(tbs);
        let mut fields = outer.nested(der::SEQUENCE)?;
        outer.finish()?;
        let version = if fields.peek() == Some(context_constructed(0)) { Some(fields.read_any()?.2) } else { None };
        let serial = fields.read(der::INTEGER)?;
        let algorithm = whole(&mut fields)?;
        let issuer = whole(&mut fields)?;
        let mut validity = fields.nested(der::SEQUENCE)?;
        let not_before = Time { whole: validity.read_any()?.2 };
        let not_after = Time { whole: validity.read_any()?.2 };
        validity.finish()?;
        let subject = whole(&mut fields)?;
        let spki = whole(&mut fields)?;
        let mut extensions = Vec::with_capacity(EXTENSIONS_USUAL);
        if let Some(wrapper) = fields.read_optional(context_constructed(3))? {
            let mut wrapper = Reader::new(wrapper);
            let mut list = wrapper.nested(der::SEQUENCE)?;
            wrapper.finish()?;
            while !list.at_end() {
                let mut extension = list.nested(der::SEQUENCE)?;
                let id = extension.read(der::OBJECT_IDENTIFIER)?;
                let said = extension.peek() == Some(der::BOOLEAN);
                let critical = if said { Some(extension.boolean()?) } else { None };
                let value = extension.read(der::OCTET_STRING)?;
                extension.finish()?;
                extensions.push(Extension { id, critical, value });
            }
        }
        fields.finish()?;
        Ok(Self { version, serial, algorithm, issuer, not_before, not_after, subject, spki, extensions })
    }

    pub(crate) fn extension(&self, id: &[u8]) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.id == id)
    }
}

fn whole<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DerError> {
    match reader.read_any()? {
        (der::SEQUENCE, _, whole) => Ok(whole),
        (found, ..) => Err(DerError::Tag { wanted: der::SEQUENCE, found }),
    }
}
