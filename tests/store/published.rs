//! What clients are told of certificates, CRLs and OCSP answers, read by other people's parsers; and who tells it, beside a
//! store, opened as the service opens it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use chancery::authority::{Authorities, Responders, Seal};
use chancery::clock::Clock as _;
use chancery::config::{Config, SealSource};
use chancery::revocation::{Crls, Ocsp, Publisher};
use chancery_ca::AuthorityCertificate;
use chancery_ca::local::CRYPTO;
use chancery_identity::{KeyId, Revocation, Serial, Timestamp};
use ring::rand::SystemRandom;
use x509_ocsp::{BasicOcspResponse, CertId, CertStatus, OcspRequest, OcspResponse, Request, TbsRequest};
use x509_ocsp_der::asn1::OctetString;
use x509_ocsp_der::{Decode, Encode as _};

use crate::world::{Issuer, World};

/// Since when a certificate has ended, in whole seconds, and the CRLReason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub Timestamp, pub u8);

impl From<&Revocation> for Ended {
    fn from(entry: &Revocation) -> Self {
        Self(entry.at.floor_to_second(), entry.reason.code())
    }
}

/// A CRL, taken apart.
#[derive(Debug)]
pub struct List {
    pub number: u128,
    pub this_update: Timestamp,
    pub entries: BTreeMap<Serial, Ended>,
}

impl List {
    pub fn read(der: &[u8]) -> Self {
        let (_, crl) = x509_parser::parse_x509_crl(der).unwrap();
        let seconds = |time: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(time.timestamp());
        let entries = crl.iter_revoked_certificates().map(|entry| {
            let reason = entry.reason_code().map_or(0, |(_, reason)| reason.0);
            (Serial::from_bytes(entry.raw_serial()).unwrap(), Ended(seconds(entry.revocation_date), reason))
        });
        let entries = entries.collect();
        let number = crl.crl_number().unwrap().to_string().parse().unwrap();
        Self { number, this_update: seconds(crl.last_update()), entries }
    }
}

/// What OCSP says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Good,
    Ended(Ended),
    /// It was never issued.
    Unknown,
}

/// Certificates that one request asks for.
pub const ASKED: usize = 64;

/// An OCSP request for certificates of one authority.
pub fn ask(authority: &AuthorityCertificate, serials: &[Serial]) -> Vec<u8> {
    // A P-256 key is the last 65 bytes of its SubjectPublicKeyInfo.
    let key = authority.spki().last_chunk::<65>().unwrap();
    let octets = |bytes: &[u8]| OctetString::new((CRYPTO.sha1)(bytes).to_vec()).unwrap();
    let request_list = serials.iter().map(|serial| {
        let integer = x509_ocsp_der::asn1::Uint::new(serial.bytes()).unwrap().to_der().unwrap();
        let req_cert = CertId {
            // SHA-1, by its OID.
            hash_algorithm: Decode::from_der(&[0x30, 7, 6, 5, 0x2b, 14, 3, 2, 26]).unwrap(),
            issuer_name_hash: octets(authority.subject()),
            issuer_key_hash: octets(key),
            serial_number: Decode::from_der(&integer).unwrap(),
        };
        Request { req_cert, single_request_extensions: None }
    });
    let tbs_request = TbsRequest { request_list: request_list.collect(), ..TbsRequest::default() };
    OcspRequest { tbs_request, optional_signature: None }.to_der().unwrap()
}

/// What an OCSP response says, in the order of the request.
pub fn read(der: &[u8]) -> Vec<Status> {
    let response = OcspResponse::from_der(der).unwrap().response_bytes.unwrap();
    let basic = BasicOcspResponse::from_der(response.response.as_bytes()).unwrap();
    let status = |status: &CertStatus| match status {
        CertStatus::Good(_) => Status::Good,
        CertStatus::Unknown(_) => Status::Unknown,
        CertStatus::Revoked(info) => {
            let at = i64::try_from(info.revocation_time.0.to_unix_duration().as_secs()).unwrap();
            Status::Ended(Ended(
                Timestamp::from_unix_seconds(at),
                info.revocation_reason.map_or(0, |reason| reason as u8),
            ))
        }
    };
    basic.tbs_response_data.responses.iter().map(|single| status(&single.cert_status)).collect()
}

/// The rooms that publish.
pub struct Rooms {
    pub key_id: KeyId,
    authority: AuthorityCertificate,
    crls: Arc<Crls>,
    publisher: Publisher,
    ocsp: Ocsp,
}

impl Rooms {
    /// Opens them, and lets the issuing authority sign what the world issues.
    pub async fn open(world: &mut World) -> Self {
        let (folder, anywhere) = (world.database.folder.clone(), "127.0.0.1:0".parse().unwrap());
        let mut config = Config::dev(folder, anywhere, anywhere).unwrap();
        config.trust_domain = "example.org".parse().unwrap();
        let SealSource::File(seal) = &config.seal else { panic!("--dev seals by a file") };
        let _there_already = Seal::create(seal, &SystemRandom::new());
        let (seal, status) = (Seal::open(&config.seal).unwrap(), config.status_url.to_string().parse().unwrap());
        let (store, clock, rng) = (world.store.clone(), world.clock.clone(), SystemRandom::new());
        let authorities = Authorities::open(&config, &status, seal, &store, &rng, clock.now()).await.unwrap();
        let authorities = Arc::new(authorities);
        let issuing = authorities.issuing();
        world.issuer = Issuer::of(&issuing);
        let crls = Arc::new(Crls::default());
        let publisher = Publisher::new(store.clone(), authorities.clone(), crls.clone(), clock.clone());
        let responders = Responders::open(authorities, store.clone(), clock.clone()).await.unwrap();
        let ocsp = Ocsp::with_budget(store, responders, clock, NonZeroU32::MAX);
        Self { key_id: issuing.key_id(), authority: issuing.certificate().clone(), crls, publisher, ocsp }
    }

    /// Has all CRLs signed and published.
    pub async fn publish(&mut self) {
        self.publisher.publish().await.unwrap();
    }

    /// The issuing authority's CRL as it is served, and the newest entry that it claims to know.
    pub fn list(&self) -> (List, u64) {
        let published = self.crls.of(self.key_id).unwrap();
        (List::read(&published.der), published.n)
    }

    /// What OCSP says of each.
    pub async fn status(&self, serials: &[Serial]) -> Vec<Status> {
        let mut told = Vec::new();
        for some in serials.chunks(ASKED) {
            told.extend(read(&self.ocsp.answer(&ask(&self.authority, some)).await.unwrap().der));
        }
        assert_eq!(told.len(), serials.len());
        told
    }
}
