//! Administrators.

use chancery_api::{Admin, AdminPatch, NewAdmin, State, Subject};
use chancery_identity::{Name, Timestamp};

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::store::{Committed, Put};

use super::{Registration, Registry, check_words, existing, invalid, missing, revision};

impl Registry {
    /// Registers an administrator, who then enrols with a join token.
    ///
    /// # Errors
    /// One of this name that differs, or no access level at all.
    pub async fn create_admin(&self, new: NewAdmin, caller: &Caller) -> Result<Registration<Admin>, Refusal> {
        if let Some(found) = self.store.state().record::<Admin>(&new.name) {
            let agrees = new.agrees_with(&found);
            return existing(found, agrees);
        }
        let admin = Admin {
            name: new.name,
            description: new.description.unwrap_or_default(),
            access: new.access,
            state: State::Active,
            revision: 0,
            created_at: Timestamp::default(),
            created_by: caller.actor.clone(),
            log_index: 0,
        };
        check(&admin)?;
        let put = Put { cause: caller.cause(), record: admin, changes: None };
        Ok(Registration::Created(self.store.commit(put).await?))
    }

    /// Changes an administrator. Access counts from the next request on.
    ///
    /// # Errors
    /// No such administrator, another revision than the one named, no access level left.
    pub async fn update_admin(
        &self,
        name: &Name,
        patch: AdminPatch,
        if_match: Option<u64>,
        caller: &Caller,
    ) -> Result<Committed<Admin>, Refusal> {
        let found = self.store.state().record::<Admin>(name).ok_or_else(|| missing(&Subject::Admin(name.clone())))?;
        let changes = Some(revision(&*found, if_match)?);
        let admin = patch.apply(Admin::clone(&found));
        check(&admin)?;
        Ok(self.store.commit(Put { cause: caller.cause(), record: admin, changes }).await?)
    }
}

fn check(admin: &Admin) -> Result<(), Refusal> {
    check_words(&admin.description, &Default::default())?;
    if admin.access.is_empty() {
        return Err(invalid("access: wanted at least one level")
            .fix(format!("to stop an administrator: chancery suspend admin:{}", admin.name)));
    }
    Ok(())
}
