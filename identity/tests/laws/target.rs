//! Targets: one spelling, and what each one names.

use proptest::prelude::*;

use chancery_identity::{
    Certificate, Grant, GrantId, Instance, Lineage, Principal, ScopeSet, Serial, SpiffeId, Target, TargetError, Task,
};

use crate::bodies;
use crate::certificates::{domain, full_grant, instance, now, plain_grant};

fn target(text: &str) -> Target {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn certificate(spiffe_id: SpiffeId, grant: Option<Grant>) -> Certificate {
    Certificate {
        spiffe_id,
        scopes: ScopeSet::new(["tools/call:crm/*".parse().unwrap()]).unwrap(),
        grant,
        serial: Serial::from_bytes(&[0x5c, 0x0e]).unwrap(),
        authority: chancery_identity::KeyId::from_bytes([6; 20]),
        not_before: now(),
        not_after: now(),
    }
}

fn agent() -> Certificate {
    certificate(domain().agent(&"invoice-bot".parse().unwrap(), instance()), Some(plain_grant()))
}

/// A child of `planner` and of `writer`, by the names and numbers of its chain.
fn descendant() -> Certificate {
    Certificate { grant: Some(full_grant()), serial: Serial::from_bytes(&[9]).unwrap(), ..agent() }
}

#[test]
fn each_target_names_its_certificate_and_no_other() {
    let agent = agent();
    let other = Certificate {
        spiffe_id: domain().agent(&"other-bot".parse().unwrap(), Instance::from_bytes([99; 16])),
        scopes: ScopeSet::new(["tools/call:docs/*".parse().unwrap()]).unwrap(),
        grant: Some(Grant {
            id: GrantId::from_bytes([98; 16]),
            name: "other-bot".parse().unwrap(),
            owner: "team-sales".parse().unwrap(),
            lineage: Lineage::from_bytes([97; 16]),
            ..plain_grant()
        }),
        serial: Serial::from_bytes(&[0x5c]).unwrap(),
        authority: chancery_identity::KeyId::from_bytes([7; 20]),
        ..agent.clone()
    };
    for text in [
        "serial:5c0e".to_owned(),
        "serial:5C:0E".to_owned(),
        format!("instance:{}", instance()),
        format!("lineage:{}", Lineage::from_bytes([2; 16])),
        "agent:invoice-bot".to_owned(),
        "owner:team-finance".to_owned(),
        "scope:tools/call:crm/refund".to_owned(),
        "scope:*/*:crm/**".to_owned(),
        GrantId::from_bytes([1; 16]).to_string(),
        format!("grant:{}", GrantId::from_bytes([1; 16])),
        "authority:0606060606060606060606060606060606060606".to_owned(),
        agent.spiffe_id.to_string(),
    ] {
        assert!(target(&text).matches(&agent, false), "{text}");
        assert!(!target(&text).matches(&other, true), "{text}");
    }
    assert!(target("issued-before:2026-11-21T02:00:00Z").matches(&agent, false), "its fence decides, not the target");
    for kind in ["service:invoice-bot", "admin:invoice-bot"] {
        assert!(!target(kind).matches(&agent, true), "{kind}");
    }
}

#[test]
fn services_administrators_and_shared_ids_are_named_by_their_paths() {
    let name = "crm".parse().unwrap();
    let named = |text: &str, id: SpiffeId| target(text).matches(&certificate(id, None), true);
    assert!(named("service:crm", domain().service(&name)));
    assert!(named("admin:crm", domain().admin(&name)));
    assert!(named("agent:crm", domain().shared(&name)));
    assert!(!named("agent:crm", domain().service(&name)));
    assert!(!named("service:crm", domain().admin(&name)));
    assert!(!named("service:server", domain().server()));
}

#[test]
fn a_task_is_its_agent_s_own() {
    let grant = Grant { task: Some(Task { id: "T/8 12".into(), approval: None, arguments: None }), ..plain_grant() };
    let agent = Certificate { grant: Some(grant), ..agent() };
    assert!(target("task:invoice-bot/T/8 12").matches(&agent, false));
    assert!(!target("task:other-bot/T/8 12").matches(&agent, true));
    assert!(!target("task:invoice-bot/T").matches(&agent, true));
    let approved = descendant();
    let approval = approved.grant.as_ref().and_then(|g| g.task.as_ref()).and_then(|t| t.approval).unwrap();
    assert!(target(&approval.to_string()).matches(&approved, false));
    assert!(!target(&approval.to_string()).matches(&agent, true));
}

#[test]
fn cascade_reaches_what_an_ancestor_is_named_by() {
    let child = descendant();
    for ancestor in &full_grant().chain {
        let Principal::Agent { name, instance, .. } = ancestor.spiffe_id.principal() else { unreachable!() };
        for text in [
            format!("serial:{}", ancestor.serial),
            format!("lineage:{}", ancestor.lineage),
            format!("grant:{}", ancestor.grant),
            format!("authority:{}", ancestor.authority),
            format!("instance:{instance}"),
            format!("agent:{name}"),
        ] {
            assert!(target(&text).matches(&child, true), "{text}");
            assert!(!target(&text).matches(&child, false), "{text} without cascade");
            assert!(!target(&text).matches(&agent(), true), "{text} and no descendant");
        }
    }
}

/// A sub-agent's path begins as its parent's does; that makes it a descendant, not the parent.
#[test]
fn a_sub_agent_is_reached_by_cascade_alone() {
    let parent = agent();
    let child = certificate(format!("{}/sub/summary-1", parent.spiffe_id).parse().unwrap(), Some(plain_grant()));
    for text in ["agent:invoice-bot".to_owned(), format!("instance:{}", instance())] {
        assert!(target(&text).matches(&child, true), "{text}");
        assert!(!target(&text).matches(&child, false), "{text}");
    }
}

#[test]
fn a_bare_word_is_never_a_target() {
    use TargetError as E;
    let refused = |text: &str| text.parse::<Target>().expect_err(text);
    for text in ["", "invoice-bot", "5c0e", "01936f2a-0000-7000-8000-000000000000"] {
        assert!(matches!(refused(text), E::Bare(_)), "{text}");
    }
    for text in ["Agent:a", "role:a", ":a", "https://example.org"] {
        assert!(matches!(refused(text), E::Kind(_)), "{text}");
    }
    for text in [
        "agent:",
        "agent:A",
        "agent:sub",
        "serial:",
        "serial:5",
        "serial:zz",
        "instance:1",
        "gr_1",
        "grant:ap_1",
        "ap_",
        "authority:06",
        "issued-before:yesterday",
        "scope:*",
        "scope:a:*/b",
        "spiffe://",
        "task:A/1",
    ] {
        assert!(matches!(refused(text), E::Value { .. }), "{text}");
    }
    for text in ["task:bot", "task:bot/", "task:bot/a\nb", &format!("task:bot/{}", "x".repeat(129))] {
        assert!(matches!(refused(text), E::Task(_)), "{text}");
    }
    for text in ["spiffe://example.org", "spiffe://example.org/chancery/server", "spiffe://example.org/other/x"] {
        assert!(matches!(refused(text), E::SpiffeId(_)), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_at_all(
        text in any::<String>(),
        kind in prop::sample::select(vec![
            "serial:", "instance:", "lineage:", "agent:", "service:", "admin:", "owner:", "scope:", "grant:gr_",
            "task:", "approval:ap_", "authority:", "issued-before:", "gr_", "ap_", "spiffe://",
        ]),
        value in "[a-z0-9:/._*-]{0,12}|[0-9a-f]{32}|[0-9a-f]{40}",
    ) {
        bodies::target(&text);
        bodies::target(&format!("{kind}{text}"));
        bodies::target(&format!("{kind}{value}"));
    }
}
