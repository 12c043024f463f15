//! How each record looks in a table.

use std::fmt::Display;

use chancery_api::{
    Admin, Agent, ApiToken, AuthorityView, CertificateView, Instance, JoinToken, RevocationView, Service, SystemEntry,
};
use chancery_identity::Timestamp;

use super::output::Width::{Always, Wide};
use super::output::{Column, Record};

impl Record for Agent {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("NAME", Always, |agent| agent.name.to_string()),
        Column("OWNER", Always, |agent| agent.owner.to_string()),
        Column("STATE", Always, |agent| agent.state.as_str().into()),
        Column("SCOPES", Always, |agent| joined(agent.scopes.iter())),
        Column("CEILING", Wide, |agent| {
            agent.ceiling.as_ref().map_or_else(|| "follows".into(), |ceiling| joined(ceiling.iter()))
        }),
        Column("TTL", Wide, |agent| seconds(agent.ttl_s)),
        Column("INSTANCES AT MOST", Wide, |agent| agent.max_instances.to_string()),
        Column("ATTESTATION", Wide, |agent| joined(agent.attestation.iter().map(|rule| rule.method))),
        Column("REVISION", Wide, |agent| agent.revision.to_string()),
        Column("CREATED", Wide, |agent| at(agent.created_at)),
        Column("BY", Wide, |agent| agent.created_by.to_string()),
        Column("DESCRIPTION", Wide, |agent| agent.description.clone()),
    ];

    fn id(&self) -> String {
        self.name.to_string()
    }
}

impl Record for Service {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("NAME", Always, |service| service.name.to_string()),
        Column("OWNER", Always, |service| service.owner.to_string()),
        Column("STATE", Always, |service| service.state.as_str().into()),
        Column("SYSTEMS", Always, |service| joined(&service.systems)),
        Column("DNS", Always, |service| joined(&service.dns)),
        Column("SCOPES", Wide, |service| joined(service.scopes.iter())),
        Column("TTL", Wide, |service| seconds(service.ttl_s)),
        Column("ATTESTATION", Wide, |service| joined(service.attestation.iter().map(|rule| rule.method))),
        Column("REVISION", Wide, |service| service.revision.to_string()),
        Column("CREATED", Wide, |service| at(service.created_at)),
        Column("BY", Wide, |service| service.created_by.to_string()),
        Column("DESCRIPTION", Wide, |service| service.description.clone()),
    ];

    fn id(&self) -> String {
        self.name.to_string()
    }
}

impl Record for SystemEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("NAME", Always, |system| system.name.to_string()),
        Column("SERVICE", Always, |system| system.service.to_string()),
        Column("OWNER", Always, |system| system.owner.to_string()),
    ];

    fn id(&self) -> String {
        self.name.to_string()
    }
}

impl Record for Admin {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("NAME", Always, |admin| admin.name.to_string()),
        Column("STATE", Always, |admin| admin.state.as_str().into()),
        Column("ACCESS", Always, |admin| joined(&admin.access)),
        Column("REVISION", Wide, |admin| admin.revision.to_string()),
        Column("CREATED", Wide, |admin| at(admin.created_at)),
        Column("BY", Wide, |admin| admin.created_by.to_string()),
        Column("DESCRIPTION", Wide, |admin| admin.description.clone()),
    ];

    fn id(&self) -> String {
        self.name.to_string()
    }
}

impl Record for Instance {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("ID", Always, |instance| instance.id.to_string()),
        Column("AGENT", Always, |instance| instance.agent.to_string()),
        Column("STATE", Always, |instance| instance.state.as_str().into()),
        Column("ATTESTED", Always, |instance| at(instance.attested_at)),
        Column("NOT AFTER", Always, |instance| at(instance.not_after)),
        Column("OWNER", Wide, |instance| instance.owner.to_string()),
        Column("BY", Wide, |instance| instance.attested_by.clone()),
        Column("SERIAL", Wide, |instance| instance.serial.to_string()),
        Column("LINEAGE", Wide, |instance| instance.lineage.to_string()),
        Column("REVOCATION", Wide, |instance| optional(instance.revocation_id)),
    ];

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Record for CertificateView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("SERIAL", Always, |certificate| certificate.serial.to_string()),
        Column("SUBJECT", Always, |certificate| certificate.subject.to_string()),
        Column("STATE", Always, |certificate| certificate.state.as_str().into()),
        Column("ISSUED", Always, |certificate| at(certificate.issued_at)),
        Column("NOT AFTER", Always, |certificate| at(certificate.not_after)),
        Column("SCOPES", Wide, |certificate| joined(certificate.scopes.iter())),
        Column("OWNER", Wide, |certificate| certificate.owner.to_string()),
        Column("SPIFFE ID", Wide, |certificate| certificate.spiffe_id.to_string()),
        Column("LINEAGE", Wide, |certificate| certificate.lineage.to_string()),
        Column("GRANT", Wide, |certificate| certificate.grant_id.to_string()),
        Column("ATTESTED BY", Wide, |certificate| certificate.attested_by.clone()),
        Column("PARENT", Wide, |certificate| optional(certificate.parent_serial)),
        Column("AUTHORITY", Wide, |certificate| certificate.authority.to_string()),
        Column("REVOCATION", Wide, |certificate| optional(certificate.revocation_id)),
        Column("LOG", Wide, |certificate| certificate.log_index.to_string()),
    ];

    fn id(&self) -> String {
        self.serial.to_string()
    }
}

impl Record for JoinToken {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("ID", Always, |token| token.id.to_string()),
        Column("FOR", Always, |token| token.subject.to_string()),
        Column("USED", Always, |token| format!("{} of {}", token.used, token.uses)),
        Column("EXPIRES", Always, |token| at(token.expires_at)),
        Column("FROM", Wide, |token| joined(&token.cidrs)),
        Column("CREATED", Wide, |token| at(token.created_at)),
        Column("BY", Wide, |token| token.created_by.to_string()),
    ];

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Record for ApiToken {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("ID", Always, |token| token.id.to_string()),
        Column("ACCESS", Always, |token| joined(&token.access)),
        Column("EXPIRES", Always, |token| at(token.expires_at)),
        Column("DESCRIPTION", Always, |token| token.description.clone()),
        Column("CREATED", Wide, |token| at(token.created_at)),
        Column("BY", Wide, |token| token.created_by.to_string()),
    ];

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Record for RevocationView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("ID", Always, |revocation| revocation.id.to_string()),
        Column("N", Always, |revocation| revocation.n.to_string()),
        Column("TARGET", Always, |revocation| revocation.target.to_string()),
        Column("EFFECT", Always, |revocation| revocation.effect.to_string()),
        Column("STATE", Always, |revocation| revocation.state.as_str().into()),
        Column("AT", Always, |revocation| revocation.created_at.to_string()),
        Column("BY", Always, |revocation| revocation.created_by.to_string()),
        Column("COMMENT", Always, |revocation| revocation.comment.clone()),
        Column("REASON", Wide, |revocation| revocation.reason.to_string()),
        Column("CASCADE", Wide, |revocation| if revocation.cascade { "yes" } else { "no" }.into()),
        Column("LOG", Wide, |revocation| revocation.log_index.to_string()),
        Column("RESUMED", Wide, |revocation| {
            let resume = revocation.resumed_by.as_ref();
            resume.map_or_else(String::new, |resume| format!("n {} by {}", resume.n, resume.created_by))
        }),
    ];

    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Record for AuthorityView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column("KEY ID", Always, |authority| authority.key_id.to_string()),
        Column("KIND", Always, |authority| authority.kind.as_str().into()),
        Column("STATE", Always, |authority| authority.state.as_str().into()),
        Column("NOT AFTER", Always, |authority| at(authority.not_after)),
        Column("SIGNS FROM", Wide, |authority| optional(authority.signs_from_at)),
        Column("KEY", Wide, |authority| if authority.key_here { "sealed here" } else { "elsewhere" }.into()),
        Column("SERIAL", Wide, |authority| authority.serial.to_string()),
        Column("CRL NUMBER", Wide, |authority| optional(authority.crl_number.as_ref())),
        Column("CRL UNTIL", Wide, |authority| optional(authority.crl_next_update_at)),
        Column("REVOCATION", Wide, |authority| optional(authority.revocation_id)),
        Column("LOG", Wide, |authority| authority.log_index.to_string()),
    ];

    fn id(&self) -> String {
        self.key_id.to_string()
    }
}

/// Several values in one cell.
pub(crate) fn joined<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

fn optional<T: Display>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn at(at: Timestamp) -> String {
    at.to_seconds_text()
}

fn seconds(count: u32) -> String {
    crate::config::text(std::time::Duration::from_secs(count.into()))
}
