//! What must hold of every input that claims to be a certificate request or an OCSP request.

use std::sync::LazyLock;

use chancery_ca::local::CRYPTO;
use chancery_ca::{KeyPolicy, OCSP_REQUEST_LEN_MAX, OcspRequest, inspect_csr};

static KEYS: LazyLock<KeyPolicy> = LazyLock::new(|| KeyPolicy::new(CRYPTO));

/// A key comes out only as it stands in the request, byte by byte.
pub(crate) fn csr(der: &[u8]) {
    if let Ok(key) = inspect_csr(der, &KEYS) {
        assert!(der.windows(key.spki().len()).any(|window| window == key.spki()));
    }
}

/// What is asked for stands in the request byte by byte and in its order, within the bounds of its parts.
pub(crate) fn ocsp_request(der: &[u8]) {
    let Ok(request) = OcspRequest::read(der) else { return };
    assert!(der.len() <= OCSP_REQUEST_LEN_MAX && !request.certificates().is_empty());
    let mut rest = der;
    for id in request.certificates() {
        let at = rest.windows(id.der().len()).position(|window| window == id.der()).expect("it was asked for");
        rest = &rest[at + id.der().len()..];
        assert!(id.serial().is_none_or(|serial| id.der().ends_with(serial.bytes())));
    }
    if let Some(nonce) = request.nonce() {
        assert!((1..=128).contains(&nonce.bytes().len()));
        assert!(rest.windows(nonce.bytes().len()).any(|window| window == nonce.bytes()));
    }
}
