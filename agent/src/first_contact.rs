//! First contact: from a URL and a pin to an issuer that has proved itself. Nothing secret is sent before that.

use std::sync::Arc;

use chancery_api::client::Client;
use chancery_api::{Bundle, RootPin, WellKnown};
use chancery_identity::{Leaf, Principal, TrustDomain};
use chancery_verifier::{Clock, SystemClock};
use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

use crate::{Error, tls};

/// A connection to an issuer that proved that it is the one the pin names. Only [`meet`] makes one.
pub(crate) struct Proven {
    pub(crate) client: Client,
    pub(crate) trust_domain: TrustDomain,
}

/// A client for the issuer at `url`, which has proved that it stands below the root of this pin. It shows no certificate:
/// for callers that have an API token.
///
/// # Errors
/// Nothing that answers there proves it.
pub async fn pinned_issuer(url: &str, pin: RootPin) -> Result<Client, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    meet(url, pin, &provider, &clock).await.map(|proven| proven.client)
}

/// Fetches the bundle over an unverified connection that sends nothing else, picks the root by its pin, and connects anew
/// to the issuer under that root.
pub(crate) async fn meet(
    url: &str,
    pin: RootPin,
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Result<Proven, Error> {
    let (config, shown) = tls::unverified(provider)?;
    let config = Arc::new(config);
    let no_bundle = |source| Error::NoBundle { url: url.to_owned(), source };
    let client = Client::new(url, move || Arc::clone(&config)).map_err(no_bundle)?;
    let bundle: Bundle = client.get("/v1/bundle").await.map_err(no_bundle)?.body;
    drop(client);
    let root = pick(&bundle, pin).map_err(|came| Error::OtherRoot { url: url.to_owned(), wanted: pin, came })?;

    // The leaf only hints at the name of the trust domain: the root signs for no other, so a wrong hint fails below.
    let trust_domain = shown.leaf().and_then(|leaf| server_of(leaf));
    let trust_domain = trust_domain.ok_or_else(|| Error::NotIssuer { url: url.to_owned() })?;

    let config = chancery_verifier::first_contact(&root, trust_domain.clone(), provider, Arc::clone(clock));
    let config = Arc::new(config.map_err(|refused| Error::Root { url: url.to_owned(), refused })?);
    let unproven = |source| Error::Unproven { url: url.to_owned(), source };
    let client = Client::new(url, move || Arc::clone(&config)).map_err(unproven)?;
    // The first answer proves that the connection stands: nothing but this question has been sent.
    client.get::<WellKnown>("/.well-known/chancery").await.map_err(unproven)?;
    Ok(Proven { client, trust_domain })
}

/// The root with this pin, else the pins of those that are there.
fn pick(bundle: &Bundle, pin: RootPin) -> Result<CertificateDer<'static>, Vec<RootPin>> {
    let mut came = Vec::new();
    for root in bundle.certificates() {
        match <[u8; 32]>::try_from(digest(&SHA256, &root).as_ref()).map(RootPin::from_bytes) {
            Ok(this) if this == pin => return Ok(root.into()),
            Ok(other) => came.push(other),
            Err(_) => {}
        }
    }
    Err(came)
}

fn server_of(leaf: &[u8]) -> Option<TrustDomain> {
    let leaf = Leaf::read(leaf).ok()?;
    let id = &leaf.certificate().spiffe_id;
    (id.principal() == Principal::Server).then(|| id.trust_domain())
}
