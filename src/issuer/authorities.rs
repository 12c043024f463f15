//! What administrators see of the authorities, and do with them.

use chancery_api::{AuthorityKind, AuthorityState, AuthorityView, HeadKeyView, Imported, Rotation};
use chancery_ca::AuthorityCertificate;
use chancery_identity::Target;

use super::Issuer;
use crate::authority::{Handed, ImportError, OpenError, Taken};
use crate::caller::Caller;
use crate::refusal::{Code, Refusal};
use crate::store::{self, Committed};

impl Issuer {
    /// The authorities as administrators see them: the root, then the issuing ones, oldest first.
    ///
    /// # Errors
    /// A certificate in the database that is no authority's.
    pub fn authority_views(&self) -> Result<Vec<AuthorityView>, Refusal> {
        let mut held = self.store.state().authorities();
        held.sort_unstable_by_key(|authority| (authority.kind, authority.log_index));
        held.iter().map(|authority| self.authority_view(authority)).collect()
    }

    fn authority_view(&self, held: &store::Authority) -> Result<AuthorityView, Refusal> {
        let key_id = held.key_id;
        let certificate = AuthorityCertificate::read(held.certificate.clone())
            .map_err(|error| Refusal::new(Code::Internal, format!("authority {key_id}: {error}")))?;
        let stopped = self.store.state().naming(&Target::Authority(key_id)).into_iter().next();
        let generations = self.authorities.all_issuing();
        let generation = generations.iter().position(|one| one.key_id() == key_id);
        let present = generations.iter().position(|one| one.key_id() == self.authorities.issuing().key_id());
        let state = match (held.kind, generation) {
            (AuthorityKind::Root, _) => AuthorityState::Signing,
            _ if stopped.is_some() => AuthorityState::Stopped,
            (AuthorityKind::Issuing, None) => AuthorityState::Over,
            (AuthorityKind::Issuing, at) if at == present => AuthorityState::Signing,
            (AuthorityKind::Issuing, at) if at > present => AuthorityState::Announced,
            (AuthorityKind::Issuing, _) => AuthorityState::Superseded,
        };
        let signs_from_at = generation.and_then(|at| generations.get(at)).map(|one| one.signs_from());
        let published = self.crls.of(key_id);
        Ok(AuthorityView {
            key_id,
            kind: held.kind,
            state,
            key_here: held.sealed_key.is_some(),
            serial: certificate.serial(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            signs_from_at: signs_from_at.filter(|_| state == AuthorityState::Announced),
            crl_number: held.crl_number.map(|number| number.to_string()),
            crl_next_update_at: published.map(|crl| crl.next_update),
            crl: format!("/crl/{key_id}.crl"),
            certificate: format!("/ca/{key_id}.crt"),
            revocation_id: stopped.map(|entry| entry.id),
            log_index: held.log_index,
        })
    }

    /// Makes a successor to the issuing authority. It signs once verifiers had the time to learn of it.
    ///
    /// # Errors
    /// A root that does not sign here, or a database that does not commit.
    pub async fn rotate(&self, caller: &Caller) -> Result<Committed<Rotation>, Refusal> {
        let now = self.now();
        let present = self.authorities.issuing().key_id();
        let (authorities, cause) = (self.authorities.clone(), caller.cause());
        let made = to_its_end(async move { authorities.succeed(cause, now).await }).await?.map_err(no_successor)?;
        made.try_map(|successor| {
            let held = self.store.state().authority(successor.key_id());
            let view = held.map(|held| self.authority_view(&held)).transpose()?;
            Ok(Rotation { present, successor: view, signs_from_at: successor.signs_from() })
        })
    }

    /// Takes in what an external root signed; `None` where it is all there already.
    ///
    /// # Errors
    /// What was handed in does not hold, or is not recorded.
    pub async fn import(&self, pem: &str, caller: &Caller) -> Result<Option<Committed<Imported>>, Refusal> {
        let handed = Handed::read(pem.as_bytes()).map_err(not_imported)?;
        let (authorities, data_dir) = (self.authorities.clone(), self.config.data_dir.clone());
        let (cause, now) = (caller.cause(), self.now());
        let taking = async move { authorities.take_in(handed, &data_dir, &cause, now).await };
        let Taken { crl, issuing, head_key, .. } = to_its_end(taking).await?.map_err(not_imported)?;
        let crl_number = crl.as_ref().map(|crl| crl.reply().to_string());
        let view = issuing.as_ref().and_then(|issuing| self.store.state().authority(*issuing.reply()));
        let view = view.map(|held| self.authority_view(&held)).transpose()?;
        let key = head_key
            .as_ref()
            .map(|key| HeadKeyView { key_id: key.reply().key_id, signs_from_at: key.reply().signs_from });
        let imported = Imported { crl_number, issuing: view, head_key: key };
        let committed = issuing.map(|issuing| issuing.map(drop)).or(head_key.map(|key| key.map(drop)));
        let committed = committed.or(crl.map(|crl| crl.map(drop)));
        Ok(committed.map(|committed| committed.map(|()| imported)))
    }

    /// What [`Issuer::import`] would refuse.
    ///
    /// # Errors
    /// As [`Issuer::import`].
    pub async fn would_import(&self, pem: &str) -> Result<(), Refusal> {
        let handed = Handed::read(pem.as_bytes()).map_err(not_imported)?;
        self.authorities.would_take_in(handed, &self.config.data_dir, self.now()).await.map_err(not_imported)
    }

    /// What needs somebody's hand soon, though all works now.
    pub fn warnings(&self) -> Vec<String> {
        let root_crl = self.crls.of(self.authorities.root().key_id());
        self.authorities.warnings(root_crl.as_deref(), self.now())
    }

    /// What [`Issuer::rotate`] would do.
    ///
    /// # Errors
    /// A root that does not sign here.
    pub fn would_rotate(&self) -> Result<Rotation, Refusal> {
        drop(self.authorities.unseal_root().map_err(no_successor)?);
        let present = self.authorities.issuing().key_id();
        Ok(Rotation { present, successor: None, signs_from_at: self.authorities.would_sign_from(self.now()) })
    }
}

/// A ceremony goes to its end even if who asked for it hangs up: what is recorded is announced.
async fn to_its_end<T: Send + 'static>(ceremony: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
    let ended =
        |_| Refusal::new(Code::Internal, "the ceremony broke off; chancery authorities list shows what is recorded");
    tokio::spawn(ceremony).await.map_err(ended)
}

fn not_imported(error: ImportError) -> Refusal {
    match error {
        ImportError::Store(error) => error.into(),
        ImportError::File { .. } | ImportError::Seal(_) => {
            tracing::error!(error = %error, "what an external root signed is not imported");
            Refusal::new(Code::Internal, error.to_string())
        }
        error => Refusal::new(Code::Invalid, error.to_string()),
    }
}

fn no_successor(error: OpenError) -> Refusal {
    match error {
        OpenError::External => Refusal::new(Code::Invalid, error.to_string()),
        OpenError::Store(error) => error.into(),
        error => {
            tracing::error!(%error, "no successor to the issuing authority is made");
            Refusal::new(Code::Internal, format!("no successor is made: {error}"))
        }
    }
}
