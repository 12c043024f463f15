//! A certificate taken apart so that one thing about it can be changed: what the ca crate would never sign.

use chancery_ca::Signer;
use chancery_identity::der::{self, DerError, Reader, Writer, context_constructed};
use chancery_identity::{Serial, Timestamp};

use crate::now_or_never;

/// The to-be-signed part of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) serial: Serial,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
}

/// One extension.
#[derive(Clone, Debug)]
pub(crate) struct Extension {
    pub(crate) id: Vec<u8>,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

impl Draft {
    /// Takes a good certificate apart.
    pub(crate) fn read(certificate: &[u8]) -> Self {
        Self::try_read(certificate).expect("a certificate that the ca crate made")
    }

    fn try_read(certificate: &[u8]) -> Result<Self, DerError> {
        let mut tbs = Reader::new(certificate).nested(der::SEQUENCE)?.nested(der::SEQUENCE)?;
        tbs.read(context_constructed(0))?;
        let serial = Serial::from_bytes(tbs.unsigned()?).ok_or(DerError::Value("serial"))?;
        tbs.read(der::SEQUENCE)?;
        let issuer = tbs.read_any()?.2.to_vec();
        let mut validity = tbs.nested(der::SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let (subject, spki) = (tbs.read_any()?.2.to_vec(), tbs.read_any()?.2.to_vec());
        let mut list = tbs.nested(context_constructed(3))?.nested(der::SEQUENCE)?;
        let mut extensions = Vec::new();
        while !list.at_end() {
            let mut extension = list.nested(der::SEQUENCE)?;
            extensions.push(Extension {
                id: extension.read(der::OBJECT_IDENTIFIER)?.to_vec(),
                critical: extension.read_optional(der::BOOLEAN)?.is_some(),
                value: extension.read(der::OCTET_STRING)?.to_vec(),
            });
        }
        Ok(Self { serial, issuer, not_before, not_after, subject, spki, extensions })
    }

    /// Signs it as it is. The signer is asked, never a lint.
    pub(crate) fn sign(&self, signer: &dyn Signer) -> Vec<u8> {
        let identifier = signer.algorithm().signature_identifier();
        let mut tbs = Writer::new();
        tbs.nested(der::SEQUENCE, |w| {
            w.nested(context_constructed(0), |w| {
                w.unsigned_64(2);
            });
            w.unsigned(self.serial.bytes()).raw(identifier).raw(&self.issuer);
            w.nested(der::SEQUENCE, |w| {
                w.time(self.not_before).time(self.not_after);
            });
            w.raw(&self.subject).raw(&self.spki);
            w.nested(context_constructed(3), |w| {
                w.nested(der::SEQUENCE, |w| self.extensions.iter().for_each(|extension| extension.write(w)));
            });
        });
        let tbs = tbs.finish();
        let signature = now_or_never(signer.sign(&tbs)).expect("a key in memory signs");
        let mut certificate = Writer::new();
        certificate.nested(der::SEQUENCE, |w| {
            w.raw(&tbs).raw(identifier).bits(&signature);
        });
        certificate.finish()
    }

    /// The extension with this id.
    pub(crate) fn extension(&mut self, id: &[u8]) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.id == id).expect("an extension of every good certificate")
    }

    /// Adds an extension whose value `value` writes.
    pub(crate) fn push(&mut self, id: &[u8], critical: bool, value: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new();
        value(&mut writer);
        self.extensions.push(Extension { id: id.to_vec(), critical, value: writer.finish() });
    }

    /// Takes an extension out.
    pub(crate) fn remove(&mut self, id: &[u8]) {
        self.extensions.retain(|extension| extension.id != id);
    }
}

impl Extension {
    /// Gives it the value that `value` writes.
    pub(crate) fn set(&mut self, value: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new();
        value(&mut writer);
        self.value = writer.finish();
    }

    fn write(&self, w: &mut Writer) {
        w.nested(der::SEQUENCE, |w| {
            w.oid(&self.id);
            if self.critical {
                w.boolean(true);
            }
            w.octets(&self.value);
        });
    }
}
