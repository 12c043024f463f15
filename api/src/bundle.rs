//! Trust anchors in SPIFFE bundle format (SPIFFE Trust Domain and Bundle, §4; X509-SVID, §6).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chancery_identity::der::{self, DerError, Reader, context_constructed};
use serde::{Deserialize, Deserializer, Serialize};

/// The trust anchors of one trust domain, a JWK Set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Bundle {
    /// Rises with every change of the contents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_sequence: Option<u64>,
    /// How often to look for changes, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_refresh_hint: Option<u64>,
    /// The keys; those of a form not known here are left out when reading.
    // §4.1.3: "keys" must be present; an entry whose kty or use is unknown is ignored, and only that entry.
    #[serde(deserialize_with = "known_keys")]
    pub keys: Vec<Jwk>,
}

/// One trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(clippy::exhaustive_structs, reason = "a wire type: both sides build it")]
pub struct Jwk {
    /// The key's family: `EC`, `OKP` or `RSA`.
    pub kty: String,
    /// What for: `x509-svid`.
    pub r#use: String,
    /// The curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// The point's first coordinate, or the whole of an Ed25519 key; base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The point's second coordinate; base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// An RSA modulus; base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// An RSA exponent; base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// One CA certificate, base64 of its DER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub x5c: Vec<String>,
}

/// The use of keys that anchor X.509 SVIDs; compared case-sensitively.
const X509_SVID: &str = "x509-svid";

impl Bundle {
    /// The bundle of these CA certificates, in DER.
    ///
    /// # Errors
    /// A certificate whose key is not P-256, P-384, P-521, Ed25519 or RSA, or that is no certificate.
    pub fn new<'a>(
        sequence: u64,
        refresh_hint_s: u64,
        certificates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, BundleError> {
        let keys = certificates.into_iter().map(Jwk::from_certificate).collect::<Result<_, _>>()?;
        Ok(Self { spiffe_sequence: Some(sequence), spiffe_refresh_hint: Some(refresh_hint_s), keys })
    }

    /// The CA certificates, in DER. None: the trust domain has no valid X.509 SVIDs.
    pub fn certificates(&self) -> impl Iterator<Item = Vec<u8>> {
        // X509-SVID §6.2: without x5c the entry is ignored; of several values only the first counts.
        self.keys.iter().filter(|key| key.r#use == X509_SVID).filter_map(|key| STANDARD.decode(key.x5c.first()?).ok())
    }
}

impl Jwk {
    /// X509-SVID §6.1: exactly one certificate, no `kid`.
    fn from_certificate(certificate: &[u8]) -> Result<Self, BundleError> {
        let spki = subject_public_key_info(certificate)?;
        let mut jwk = Self {
            kty: String::new(),
            r#use: X509_SVID.into(),
            crv: None,
            x: None,
            y: None,
            n: None,
            e: None,
            x5c: vec![STANDARD.encode(certificate)],
        };
        let (algorithm, curve, key) = (spki.algorithm, spki.curve, spki.key);
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        match (algorithm, curve) {
            (EC_PUBLIC_KEY, Some(curve)) => {
                let (name, len) = match curve {
                    P256 => ("P-256", 32),
                    P384 => ("P-384", 48),
                    P521 => ("P-521", 66),
                    _ => return Err(BundleError::Key),
                };
                // SEC 1 §2.3.4: 04, then both coordinates.
                let point = key.strip_prefix(&[4]).filter(|point| point.len() == 2 * len).ok_or(BundleError::Key)?;
                let (x, y) = point.split_at(len);
                (jwk.kty, jwk.crv, jwk.x, jwk.y) = ("EC".into(), Some(name.into()), text(x), text(y));
            }
            (ED25519, _) => (jwk.kty, jwk.crv, jwk.x) = ("OKP".into(), Some("Ed25519".into()), text(key)),
            (RSA_ENCRYPTION, _) => {
                let mut numbers = Reader::new(key).nested(der::SEQUENCE)?;
                (jwk.kty, jwk.n, jwk.e) = ("RSA".into(), text(numbers.unsigned()?), text(numbers.unsigned()?));
            }
            _ => return Err(BundleError::Key),
        }
        Ok(jwk)
    }
}

fn known_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    let keys = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect())
}

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

struct SubjectPublicKeyInfo<'a> {
    algorithm: &'a [u8],
    curve: Option<&'a [u8]>,
    key: &'a [u8],
}

/// Walks a certificate to its key (RFC 5280 §4.1). Who trusts it is not decided here.
fn subject_public_key_info(certificate: &[u8]) -> Result<SubjectPublicKeyInfo<'_>, DerError> {
    let mut outer = Reader::new(certificate);
    let mut tbs = outer.nested(der::SEQUENCE)?.nested(der::SEQUENCE)?;
    outer.finish()?;
    tbs.read_optional(context_constructed(0))?;
    tbs.unsigned()?;
    // Signature algorithm, issuer, validity, subject.
    for _ in 0..4 {
        tbs.read(der::SEQUENCE)?;
    }
    let mut spki = tbs.nested(der::SEQUENCE)?;
    let mut algorithm = spki.nested(der::SEQUENCE)?;
    let key = spki.read(der::BIT_STRING)?;
    Ok(SubjectPublicKeyInfo {
        algorithm: algorithm.read(der::OBJECT_IDENTIFIER)?,
        curve: algorithm.read_optional(der::OBJECT_IDENTIFIER)?,
        key: key.strip_prefix(&[0]).unwrap_or_default(),
    })
}

/// A certificate that cannot stand in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundleError {
    /// No certificate.
    Der(DerError),
    /// A kind of key that no JWK form is known for.
    Key,
}

impl From<DerError> for BundleError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => write!(f, "a trust anchor is no certificate: {error}"),
            Self::Key => f.write_str("a trust anchor's key must be P-256, P-384, P-521, Ed25519 or RSA"),
        }
    }
}

impl std::error::Error for BundleError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate's outline: all that the walk to the key looks at.
    fn certificate(algorithm: &[u8], curve: Option<&[u8]>, key: &[u8]) -> Vec<u8> {
        let mut writer = der::Writer::new();
        writer.nested(der::SEQUENCE, |w| {
            w.nested(der::SEQUENCE, |w| {
                w.nested(context_constructed(0), |w| {
                    w.unsigned_64(2);
                });
                w.unsigned_64(7);
                for _ in 0..4 {
                    w.nested(der::SEQUENCE, |_| {});
                }
                w.nested(der::SEQUENCE, |w| {
                    w.nested(der::SEQUENCE, |w| {
                        w.oid(algorithm);
                        if let Some(curve) = curve {
                            w.oid(curve);
                        }
                    });
                    w.bits(key);
                });
            });
        });
        writer.finish()
    }

    fn point(len: usize) -> Vec<u8> {
        [&[4][..], &vec![1; len], &vec![2; len]].concat()
    }

    fn jwk(certificate: &[u8]) -> Result<Jwk, BundleError> {
        Bundle::new(1, 300, [certificate]).map(|bundle| bundle.keys.into_iter().next().unwrap())
    }

    #[test]
    fn each_kind_of_key_has_its_form() {
        for (curve, name, len) in [(P256, "P-256", 32), (P384, "P-384", 48), (P521, "P-521", 66)] {
            let key = jwk(&certificate(EC_PUBLIC_KEY, Some(curve), &point(len))).unwrap();
            assert_eq!((key.kty.as_str(), key.crv.as_deref()), ("EC", Some(name)));
            assert_eq!(key.x, Some(URL_SAFE_NO_PAD.encode(vec![1; len])));
            assert_eq!(key.y, Some(URL_SAFE_NO_PAD.encode(vec![2; len])));
        }
        let key = jwk(&certificate(ED25519, None, &[9; 32])).unwrap();
        assert_eq!((key.kty.as_str(), key.crv.as_deref(), key.y), ("OKP", Some("Ed25519"), None));
        let mut rsa = der::Writer::new();
        rsa.nested(der::SEQUENCE, |w| {
            w.unsigned(&[0xc0, 1]).unsigned_64(65_537);
        });
        let key = jwk(&certificate(RSA_ENCRYPTION, None, &rsa.finish())).unwrap();
        assert_eq!((key.kty.as_str(), key.n.as_deref(), key.e.as_deref()), ("RSA", Some("wAE"), Some("AQAB")));
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for (algorithm, curve, key) in [
            (EC_PUBLIC_KEY, None, point(32)),
            (EC_PUBLIC_KEY, Some(P384), point(32)),
            (EC_PUBLIC_KEY, Some(ED25519), point(32)),
            (EC_PUBLIC_KEY, Some(P256), vec![2; 33]),
            (P256, None, vec![1]),
        ] {
            assert_eq!(jwk(&certificate(algorithm, curve, &key)), Err(BundleError::Key));
        }
        let whole = certificate(ED25519, None, &[9; 32]);
        assert!(matches!(jwk(&[whole.as_slice(), &[0]].concat()), Err(BundleError::Der(_))));
        for len in 0..whole.len() {
            assert!(jwk(whole.get(..len).unwrap()).is_err());
        }
    }

    #[test]
    fn no_member_is_written_that_the_specification_does_not_know() {
        let bundle = Bundle::new(7, 300, [certificate(ED25519, None, &[9; 32]).as_slice()]).unwrap();
        let json = serde_json::to_value(&bundle).unwrap();
        let members = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(members(&json), ["keys", "spiffe_refresh_hint", "spiffe_sequence"]);
        assert_eq!(members(&json["keys"][0]), ["crv", "kty", "use", "x", "x5c"]);
    }

    #[test]
    fn reads_what_others_write() {
        let root = STANDARD.encode("root");
        let second = STANDARD.encode("second");
        let text = format!(
            r#"{{"spiffe_sequence":18446744073709551615,"x":1,"keys":[
                {{"kty":"EC","use":"x509-svid","x5c":["{root}","{second}"],"kid":"a","later":{{}}}},
                {{"kty":"EC","use":"x509-svid"}},
                {{"kty":"EC","use":"X509-SVID","x5c":["{second}"]}},
                {{"kty":"EC","use":"jwt-svid","kid":"b"}},
                {{"kty":"EC","x5c":["{second}"]}},
                {{"kty":7,"use":"x509-svid","x5c":["{second}"]}}
            ]}}"#
        );
        let bundle: Bundle = serde_json::from_str(&text).unwrap();
        assert_eq!(bundle.spiffe_sequence, Some(u64::MAX));
        assert_eq!(bundle.certificates().collect::<Vec<_>>(), [b"root"]);
        assert!(serde_json::from_str::<Bundle>("{}").is_err(), "keys must be present");
        assert_eq!(serde_json::from_str::<Bundle>(r#"{"keys":[]}"#).unwrap().certificates().count(), 0);
    }
}
