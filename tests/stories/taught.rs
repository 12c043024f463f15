//! The issuer's feed and the verifiers that follow it, both real: what is stopped has stopped there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_agent::Identity;
use chancery_api::JoinTokenCreated;
use chancery_verifier::{Denial, Knowledge, Moment, Rules, Status, Verifier};
use serde_json::{Value, json};

use crate::fixture::{Held, Issuer};

const LATER: Duration = Duration::from_secs(20);

/// A service that learns by the feed. Its folder goes with it.
pub(crate) struct Service {
    verifier: Verifier,
    identity: Identity,
    pub(crate) folder: PathBuf,
}

impl Service {
    pub(crate) async fn start(issuer: &Issuer, name: &str) -> Self {
        let new = json!({"name": name, "owner": "team-crm", "systems": [name], "dns": []});
        issuer.admin.post::<Value>("/v1/admin/services", &new).await.unwrap();
        let token = issuer.admin.post::<JoinTokenCreated>("/v1/admin/join-tokens", &json!({"service": name})).await;
        let folder = std::env::temp_dir().join(format!("chancery-taught-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let join = token.unwrap().body.join.to_string().parse().unwrap();
        let identity = Identity::builder().state_dir(&folder).join(join).start().await.unwrap();
        let verifier = Verifier::start(identity.clone()).await.unwrap();
        let service = Self { verifier, identity, folder };
        service.until(|status| status.feed.as_ref().is_some_and(|feed| !feed.from_disk)).await;
        service
    }

    pub(crate) async fn until(&self, holds: impl Fn(&Status) -> bool) {
        let mut changes = self.verifier.changes();
        let waiting = async {
            while !holds(&self.verifier.status()) {
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(LATER, waiting).await;
        assert!(waited.is_ok(), "it does not come to hold: {:?}", self.verifier.status());
    }

    /// Waits until all is known up to this number.
    pub(crate) async fn knows(&self, n: u64) {
        self.until(|status| status.feed.as_ref().is_some_and(|feed| feed.n >= n)).await;
    }

    pub(crate) fn judge(&self, held: &Held) -> Result<Knowledge, Denial> {
        self.judge_after(held, Duration::ZERO)
    }

    /// What it would say if nothing came for so long.
    fn judge_after(&self, held: &Held, silence: Duration) -> Result<Knowledge, Denial> {
        let now = self.verifier.now();
        let now = Moment { wall: now.wall + silence, monotonic: now.monotonic + silence };
        self.verifier.client(&held.chain(), now).and_then(|peer| self.verifier.check(&peer, now))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn stop(issuer: &Issuer, target: &str, effect: &str) -> (u64, String) {
    let answer = issuer.revoke(json!({"targets": [target], "effect": effect})).await;
    let one = answer.revocations.first().unwrap();
    (one.n, one.id.to_string())
}

async fn resume(issuer: &Issuer, id: &str) {
    let path = format!("/v1/admin/revocations/{id}/resume");
    issuer.admin.post::<Value>(&path, &json!({})).await.unwrap();
}

#[tokio::test]
async fn what_is_stopped_at_the_issuer_has_stopped_at_the_service() {
    let issuer = Issuer::start().await;
    let service = Service::start(&issuer, "crm").await;
    let bot = issuer.joined("invoice-bot", &["tools/call:crm/*"]).await;
    let other = issuer.joined("other-bot", &["tools/call:crm/get_customer"]).await;
    assert_eq!(service.judge(&bot), Ok(Knowledge::Fresh));

    let instance = bot.issued.certificate.spiffe_id.to_string().rsplit_once('/').unwrap().1.to_owned();
    let serial = bot.serial();
    for target in ["agent:invoice-bot".to_owned(), format!("instance:{instance}"), format!("serial:{serial}")] {
        let (n, id) = stop(&issuer, &target, "suspend").await;
        service.knows(n).await;
        assert!(matches!(service.judge(&bot), Err(Denial::Revoked(_))), "{target}");
        assert_eq!(service.judge(&other), Ok(Knowledge::Fresh), "{target}");
        resume(&issuer, &id).await;
        service.knows(n + 1).await;
        assert_eq!(service.judge(&bot), Ok(Knowledge::Fresh), "{target} is resumed");
    }

    // When the answer is read that every verifier has confirmed, it is so.
    let all = json!({"targets": ["agent:invoice-bot"], "effect": "suspend", "wait_s": 10});
    let answer = issuer.revoke(all).await;
    let applied = answer.applied.unwrap();
    assert_eq!((applied.verifiers, applied.confirmed, applied.unconfirmed.len()), (1, 1, 0), "{applied:?}");
    assert!(matches!(service.judge(&bot), Err(Denial::Revoked(_))));
    let one = answer.revocations.first().unwrap();
    resume(&issuer, &one.id.to_string()).await;
    service.knows(one.n + 1).await;

    // A scope that is forbidden is on no CRL.
    let rules = Rules::new().allow("POST", "/refunds", "tools/call:crm/refund").unwrap();
    let guard = service.verifier.guard(rules).unwrap();
    let now = service.verifier.now();
    let peer = service.verifier.client(&bot.chain(), now).unwrap();
    guard.check(&peer, "POST", "/refunds", now).unwrap();
    let (n, id) = stop(&issuer, "scope:tools/call:crm/refund", "forbid").await;
    service.knows(n).await;
    assert_eq!(guard.check(&peer, "POST", "/refunds", now).unwrap_err().code(), "scope-forbidden");
    resume(&issuer, &id).await;
    service.knows(n + 1).await;
    guard.check(&peer, "POST", "/refunds", now).unwrap();

    // The holder of a wider scope holds part of a narrower one.
    let (n, _) = stop(&issuer, "scope:tools/call:crm/refund", "revoke").await;
    service.knows(n).await;
    assert!(matches!(service.judge(&bot), Err(Denial::Revoked(_))));
    assert_eq!(service.judge(&other), Ok(Knowledge::Fresh));
    // And what is certified afterwards is known to be later.
    let next = issuer.joined("next-bot", &["tools/call:crm/refund"]).await;
    assert_eq!(service.judge(&next), Ok(Knowledge::Fresh));
    assert_eq!(service.verifier.status().health.unwrap().refused.count, 0);
    issuer.stop().await;
}

#[tokio::test]
async fn an_issuer_that_restarts_costs_nobody_a_refusal() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let api = socket.local_addr().unwrap();
    drop(socket);
    let issuer = Issuer::start_with(|config, _| config.listen.api = api).await;
    let service = Arc::new(Service::start(&issuer, "billing").await);
    let bot = Arc::new(issuer.joined("invoice-bot", &["tools/call:billing/pay"]).await);
    let (n, id) = stop(&issuer, "owner:team-else", "suspend").await;
    service.knows(n).await;
    let asking = tokio::spawn({
        let (service, bot) = (Arc::clone(&service), Arc::clone(&bot));
        async move {
            // Whatever changes for the verifier, nobody is refused.
            let mut changes = service.verifier.changes();
            loop {
                assert_eq!(service.judge(&bot), Ok(Knowledge::Fresh));
                changes.changed().await.unwrap();
            }
        }
    });
    let issuer = issuer
        .restart(async |_| {
            service.until(|status| status.health.as_ref().is_some_and(|health| !health.connected)).await;
            // Nothing tells of what ages by time alone: it is asked now, and as of the end of the longest restart.
            assert_eq!(service.judge(&bot), Ok(Knowledge::Fresh));
            service.judge_after(&bot, LATER).unwrap();
        })
        .await;
    // Nothing was heard all the while.
    service.judge(&bot).unwrap();
    service
        .until(|status| status.health.as_ref().is_some_and(|health| health.connected && health.reconnects > 0))
        .await;
    resume(&issuer, &id).await;
    service.knows(n + 1).await;
    assert!(!asking.is_finished(), "somebody was refused");
    asking.abort();
    let (n, _) = stop(&issuer, "agent:invoice-bot", "suspend").await;
    service.knows(n).await;
    assert!(matches!(service.judge(&bot), Err(Denial::Revoked(_))));

    // With the issuer gone, a service that starts anew knows what it knew.
    issuer.stop().await;
    let folder = service.folder.clone();
    let kept = std::env::temp_dir().join(format!("chancery-taught-{}-kept", std::process::id()));
    std::fs::rename(&folder, &kept).unwrap();
    let (verifier, identity) = (service.verifier.clone(), service.identity.clone());
    drop((verifier, identity, service));
    let again = loop {
        match Identity::builder().state_dir(&kept).start().await {
            Err(chancery_agent::Error::State(chancery_agent::StateError::InUse { .. })) => {
                tokio::task::yield_now().await
            }
            started => break started.unwrap(),
        }
    };
    let verifier = Verifier::start(again).await.unwrap();
    let refused = verifier.client(&bot.chain(), verifier.now()).unwrap_err();
    assert!(matches!(refused, Denial::Revoked(_)), "{refused}");
    std::fs::remove_dir_all(&kept).unwrap();
}
