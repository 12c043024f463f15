//! Asking for certificates. Every key is on disk before the issuer sees it.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chancery_api::client::Client;
use chancery_api::{
    AttestRequest, Challenge, Evidence, Issued, JoinString, JoinTokenEvidence, RejoinEvidence, RenewRequest,
    binding_preimage,
};
use chancery_identity::{Principal, TrustDomain};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;

use crate::Error;
use crate::held::Held;
use crate::key::{Key, KeyError};
use crate::state::{Folder, Purpose, StateError, TokenDigest};

/// A new identity for a join token, from an issuer that has proved itself.
pub(crate) async fn join(
    folder: &Arc<Folder>,
    client: &Client,
    trust_domain: &TrustDomain,
    join: &JoinString,
) -> Result<(Held, Issued), Error> {
    let token = TokenDigest::of(join.secret());
    let key = next_key(folder, Purpose::Join(token.clone()), None).await?;
    let evidence = Evidence::JoinToken(JoinTokenEvidence { token: join.secret().clone() });
    let issued = attest(client, evidence, &key).await?;
    let held = Held::from_answer(join.issuer(), Some(token), &key, issued.clone())?;
    if held.trust_domain() != *trust_domain {
        return Err(Error::TrustDomain { wanted: trust_domain.clone(), came: held.trust_domain() });
    }
    Ok((save(folder, held).await?, issued))
}

/// The certificate that follows the one in hand, which `client` shows.
pub(crate) async fn renew(folder: &Arc<Folder>, client: &Client, held: &Held) -> Result<(Held, Issued), Error> {
    let key = next_key(folder, Purpose::Follow(held.certificate.serial), Some(held.key.spki())).await?;
    let request = RenewRequest { csr_pem: key.request_pem()?, scopes: None };
    let answer = client.post("/v1/certificates/renew", &request).await;
    let issued = answer.map_err(|source| Error::Issuer { doing: "renewal", source })?.body;
    follow(folder, held, &key, issued).await
}

/// The certificate that follows one that ran out, for a signature by its key. `client` shows no certificate.
pub(crate) async fn rejoin(folder: &Arc<Folder>, client: &Client, held: &Held) -> Result<(Held, Issued), Error> {
    let key = next_key(folder, Purpose::Follow(held.certificate.serial), Some(held.key.spki())).await?;
    let challenged = client.post("/v1/attest/challenge", &serde_json::json!({})).await;
    let Challenge { nonce, .. } = challenged.map_err(|source| Error::Issuer { doing: "rejoining", source })?.body;
    let binding = binding(held, &nonce, &key.spki()).ok_or(KeyError::Sign)?;
    let signature = BASE64_URL_SAFE_NO_PAD.encode(held.key.sign(&binding)?);
    let chain_pem = held.saved.chain_pem.clone();
    let evidence = Evidence::Rejoin(RejoinEvidence { chain_pem, nonce, signature });
    let issued = attest(client, evidence, &key).await?;
    follow(folder, held, &key, issued).await
}

async fn attest(client: &Client, evidence: Evidence, key: &Key) -> Result<Issued, Error> {
    let request = AttestRequest { evidence, csr_pem: key.request_pem()?, scopes: None, ttl_s: None };
    let answer = client.post("/v1/attest", &request).await;
    Ok(answer.map_err(|source| Error::Issuer { doing: "attestation", source })?.body)
}

async fn follow(folder: &Arc<Folder>, before: &Held, key: &Key, issued: Issued) -> Result<(Held, Issued), Error> {
    let after = Held::from_answer(&before.saved.issuer, before.saved.joined_by.clone(), key, issued.clone())?;
    if after.trust_domain() != before.trust_domain() {
        return Err(Error::TrustDomain { wanted: before.trust_domain(), came: after.trust_domain() });
    }
    Ok((save(folder, after).await?, issued))
}

fn binding(held: &Held, nonce: &str, spki: &[u8]) -> Option<Vec<u8>> {
    let id = &held.certificate.spiffe_id;
    let name = match id.principal() {
        Principal::Agent { name, .. } | Principal::Service(name) | Principal::Admin(name) => name,
        _ => return None,
    };
    let spki_sha256 = digest(&SHA256, spki).as_ref().try_into().ok()?;
    let preimage = binding_preimage(id.trust_domain().as_str(), name, nonce, &spki_sha256)?;
    Some(digest(&SHA256, &preimage).as_ref().to_vec())
}

async fn next_key(folder: &Arc<Folder>, purpose: Purpose, current: Option<Vec<u8>>) -> Result<Key, Error> {
    on_disk(folder, move |folder| folder.next_key(&purpose, current.as_deref(), &SystemRandom::new())).await
}

async fn save(folder: &Arc<Folder>, held: Held) -> Result<Held, Error> {
    on_disk(folder, move |folder| folder.save(&held.saved).map(|()| held)).await
}

/// Runs what waits for the disk where it holds up nobody.
pub(crate) async fn on_disk<T: Send + 'static>(
    folder: &Arc<Folder>,
    work: impl FnOnce(&Folder) -> Result<T, StateError> + Send + 'static,
) -> Result<T, Error> {
    let folder = Arc::clone(folder);
    let done = tokio::task::spawn_blocking(move || work(&folder)).await;
    Ok(done.map_err(|_| Error::Ended)??)
}
