//! A certificate that can be spoilt: its parts as bytes, put together and signed whatever they say.

use super::super::*;
use crate::Signer;
use crate::certificate::{self, Parts};

/// A TBSCertificate as bytes, to be spoilt.
pub(super) struct Draft {
    pub(super) version: Option<Vec<u8>>,
    /// The INTEGER's contents.
    pub(super) serial: Vec<u8>,
    pub(super) algorithm: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) not_before: Vec<u8>,
    pub(super) not_after: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) spki: Vec<u8>,
    pub(super) extensions: Vec<(Vec<u8>, Option<bool>, Vec<u8>)>,
    pub(super) trailing: Vec<u8>,
}

impl Draft {
    pub(super) fn read(certificate: &[u8]) -> Self {
        let fields = Fields::read(Parts::read(certificate).unwrap().tbs).unwrap();
        let extensions = fields.extensions.iter();
        Self {
            version: fields.version.map(Into::into),
            serial: fields.serial.into(),
            algorithm: fields.algorithm.into(),
            issuer: fields.issuer.into(),
            not_before: fields.not_before.whole.into(),
            not_after: fields.not_after.whole.into(),
            subject: fields.subject.into(),
            spki: fields.spki.into(),
            extensions: extensions.map(|e| (e.id.to_vec(), e.critical, e.value.to_vec())).collect(),
            trailing: Vec::new(),
        }
    }

    pub(super) fn sign(&self, signer: &dyn Signer) -> Vec<u8> {
        let mut tbs = Writer::new();
        tbs.nested(der::SEQUENCE, |w| {
            w.raw(self.version.as_deref().unwrap_or_default()).value(der::INTEGER, &self.serial);
            w.raw(&self.algorithm).raw(&self.issuer);
            w.nested(der::SEQUENCE, |w| {
                w.raw(&self.not_before).raw(&self.not_after);
            });
            w.raw(&self.subject).raw(&self.spki);
            w.nested(context_constructed(3), |w| {
                w.nested(der::SEQUENCE, |w| self.extensions.iter().for_each(|extension| write_extension(w, extension)));
            });
            w.raw(&self.trailing);
        });
        let tbs = tbs.finish();
        let signature = crate::testing::now(signer.sign(&tbs)).unwrap();
        certificate::assemble(&tbs, signer.algorithm(), &signature)
    }

    pub(super) fn at(&mut self, id: &[u8]) -> &mut (Vec<u8>, Option<bool>, Vec<u8>) {
        self.extensions.iter_mut().find(|(found, ..)| found == id).unwrap()
    }

    pub(super) fn value(&mut self, id: &[u8], write: impl FnOnce(&mut Writer)) {
        self.at(id).2 = written(write);
    }

    pub(super) fn critical(&mut self, id: &[u8], critical: Option<bool>) {
        self.at(id).1 = critical;
    }

    pub(super) fn remove(&mut self, id: &[u8]) {
        self.extensions.retain(|(found, ..)| found != id);
    }

    pub(super) fn add(&mut self, id: &[u8], critical: Option<bool>, write: impl FnOnce(&mut Writer)) {
        self.extensions.push((id.to_vec(), critical, written(write)));
    }

    /// Every name of subjectAltName, whole, in the hands of `change`.
    pub(super) fn names(&mut self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut names = Vec::new();
        let mut list = Reader::new(&self.at(oid::SUBJECT_ALT_NAME).2).nested(der::SEQUENCE).unwrap();
        while let Ok((.., whole)) = list.read_any() {
            names.push(whole.to_vec());
        }
        change(&mut names);
        self.value(oid::SUBJECT_ALT_NAME, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.raw(&names.concat());
            });
        });
    }

    pub(super) fn uri(&mut self, uri: &str) {
        self.names(|names| {
            names.retain(|name| name.first() != Some(&URI));
            names.insert(0, name(URI, uri));
        });
    }
}

fn write_extension(w: &mut Writer, (id, critical, value): &(Vec<u8>, Option<bool>, Vec<u8>)) {
    w.nested(der::SEQUENCE, |w| {
        w.oid(id);
        if let Some(critical) = critical {
            w.boolean(*critical);
        }
        w.octets(value);
    });
}

pub(super) fn name(tag: u8, text: &str) -> Vec<u8> {
    written(|w| {
        w.value(tag, text.as_bytes());
    })
}

pub(super) fn other_name(id: &[u8], text: &str) -> Vec<u8> {
    written(|w| {
        w.nested(OTHER_NAME, |w| {
            w.oid(id).nested(context_constructed(0), |w| {
                w.utf8(text);
            });
        });
    })
}

pub(super) fn time(at: Timestamp) -> Vec<u8> {
    written(|w| {
        w.time(at);
    })
}
