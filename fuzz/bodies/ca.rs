//! What must hold of every input that claims to be a certificate request.

use std::sync::LazyLock;

use chancery_ca::local::CRYPTO;
use chancery_ca::{KeyPolicy, inspect_csr};

static KEYS: LazyLock<KeyPolicy> = LazyLock::new(|| KeyPolicy::new(CRYPTO));

/// A key comes out only as it stands in the request, byte by byte.
pub(crate) fn csr(der: &[u8]) {
    if let Ok(key) = inspect_csr(der, &KEYS) {
        assert!(der.windows(key.spki().len()).any(|window| window == key.spki()));
    }
}
