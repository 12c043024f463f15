//! The private key of an authority, wherever it is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::Algorithm;

/// Signs for one authority: a key in memory, behind PKCS #11, or at a key management service.
pub trait Signer: fmt::Debug + Send + Sync {
    /// What the key is, and so what its signatures are.
    fn algorithm(&self) -> Algorithm;

    /// The public key, as SubjectPublicKeyInfo in DER.
    fn public_key(&self) -> &[u8];

    /// Signs a whole message; ECDSA signatures come back in DER.
    fn sign<'a>(&'a self, message: &'a [u8])
    -> Pin<Box<dyn Future<Output = Result<Vec<u8>, SignerError>> + Send + 'a>>;

    /// Whether the signature comes from elsewhere and is verified before use. Only a key in this process's memory answers no.
    fn remote(&self) -> bool {
        true
    }
}

/// The signer could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authority's key could not sign: {0}")]
pub struct SignerError(Box<str>);

impl SignerError {
    /// With what the key's keeper said. No secret belongs in it.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}
