//! Chancery's object identifiers, and the few of X.509 that the leaf reader knows. As DER contents, without tag and length.
//!
//! The arc is IANA's documentation arc 1.3.6.1.4.1.32473 until the project owns one.

/// The arc as components, for tools that want numbers.
pub const ARC: &[u64] = &[1, 3, 6, 1, 4, 1, 32473];
/// The grant extension, arc 1.
pub const GRANT: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1];
/// A scope as `otherName`, arc 2.
pub const SCOPE: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 2];
/// The `{epoch, n}` extension of CRLs, arc 3.
pub const CRL_STATE: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 3];
/// The extended key usage of head keys, arc 4.
pub const HEAD_KEY_USAGE: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 4];

/// subjectKeyIdentifier, RFC 5280 §4.2.1.2.
pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
/// keyUsage, RFC 5280 §4.2.1.3.
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
/// subjectAltName, RFC 5280 §4.2.1.6.
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
/// basicConstraints, RFC 5280 §4.2.1.9.
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// cRLNumber, RFC 5280 §5.2.3.
pub const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
/// reasonCode, RFC 5280 §5.3.1.
pub const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
/// cRLDistributionPoints, RFC 5280 §4.2.1.13.
pub const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 31];
/// authorityKeyIdentifier, RFC 5280 §4.2.1.1.
pub const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
/// extKeyUsage, RFC 5280 §4.2.1.12.
pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// authorityInfoAccess, RFC 5280 §4.2.2.1.
pub const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
/// id-kp-serverAuth.
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// id-kp-clientAuth.
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
