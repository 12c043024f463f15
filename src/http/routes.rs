//! The one table of routes: method, path, caller class, access level, handler, and what the OpenAPI document says.

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, patch, post};
use chancery_api::{
    Access, Admin, AdminPatch, Agent, AgentPatch, ApiToken, ApiTokenCreated, AttestRequest, AuthorityView, Bundle,
    CertificateView, Challenge, FeedAck, FirstAdministrator, ImportRequest, Imported, Instance, Issued, JoinToken,
    JoinTokenCreated, LogRecord, NewAdmin, NewAgent, NewApiToken, NewJoinToken, NewService, RenewRequest,
    ResumeRequest, RevocationStanding, RevocationView, RevocationsAnswer, RevocationsRequest, RevokeOwnRequest,
    RotateRequest, Rotation, Service, ServicePatch, SystemEntry, VerifierView, WellKnown, Whoami,
};

use crate::refusal::{Code, Refusal};

use super::App;
use super::authorize::Class::{self, Admin as For, Holder, Known, Limited, Public};
use super::authorize::{Gate, authorize};
use super::openapi::Doc;
use super::{
    admins, agents, api_tokens, attest, authorities, bundle, certificates, feed, first_administrator, health,
    instances, join_tokens, log, ocsp, openapi, problems, published, revocations, services, systems, tiles, verifiers,
    whoami,
};

/// One row of the table.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) class: Class,
    /// Whether the plain listener has it too.
    pub(super) on_status: bool,
    /// Whether the handler looks at the query, and refuses one in its own form.
    pub(super) own_query: bool,
    pub(super) doc: Doc,
    handler: fn() -> MethodRouter<App>,
}

impl Route {
    fn new(method: Method, path: &'static str, class: Class, doc: Doc, handler: fn() -> MethodRouter<App>) -> Self {
        Self { method, path, class, on_status: false, own_query: false, doc, handler }
    }

    fn also_on_status(self) -> Self {
        Self { on_status: true, ..self }
    }

    fn with_own_query(self) -> Self {
        Self { own_query: true, ..self }
    }
}

/// The table. What is not in it is no route.
#[rustfmt::skip]
pub(super) fn routes() -> Vec<Route> {
    use Access::{Administrator, Auditor, Operator, Viewer};
    let doc = Doc::new;
    let on_get = |path, class, doc, handler| Route::new(Method::GET, path, class, doc, handler);
    let on_post = |path, class, doc, handler| Route::new(Method::POST, path, class, doc, handler);
    let on_patch = |path, class, doc, handler| Route::new(Method::PATCH, path, class, doc, handler);
    let on_delete = |path, class, doc, handler| Route::new(Method::DELETE, path, class, doc, handler);
    vec![
        // public
        on_get("/v1/bundle", Public, doc("The trust anchors, in SPIFFE bundle format").replies::<Bundle>(200), || get(bundle::read)),
        on_get("/.well-known/chancery", Public, doc("What the issuer says of itself").replies::<WellKnown>(200), || get(bundle::well_known)),
        on_get("/crl/{file}", Public, doc("An authority's CRL, `<key id>.crl`, DER").file("application/pkix-crl"), || get(published::crl)).also_on_status(),
        on_get("/ca/{file}", Public, doc("An authority's certificate, `<key id>.crt`, DER").file("application/pkix-cert"), || get(published::certificate)).also_on_status(),
        on_post("/ocsp", Public, doc("Whether certificates are revoked (RFC 6960); errors are OCSP responses too").takes_file("application/ocsp-request").file("application/ocsp-response"), || post(ocsp::post)).also_on_status().with_own_query(),
        on_get("/ocsp/{*request}", Public, doc("The same; the request in base64, URL-encoded").file("application/ocsp-response"), || get(ocsp::get)).also_on_status().with_own_query(),
        on_get("/log/checkpoint", Public, doc("The newest signed head: a checkpoint of the log").file("text/plain"), || get(tiles::checkpoint)),
        on_get("/log/keys", Public, doc("The certificates of the keys that sign heads, PEM, each signed by the root").file("application/pem-certificate-chain"), || get(tiles::keys)),
        on_get("/log/tile/{*path}", Limited, doc("A tile of the log, `<L>/<N>[.p/<W>]`, or a bundle of its entries, `entries/<N>[.p/<W>]`").file("application/octet-stream"), || get(tiles::tile)),
        on_get("/log/{epoch}/checkpoint", Limited, doc("The last signed head of an epoch: a checkpoint of its log").file("text/plain"), || get(tiles::checkpoint_of)),
        on_get("/log/{epoch}/keys", Limited, doc("The certificates of the keys that signed it, PEM").file("application/pem-certificate-chain"), || get(tiles::keys_of)),
        on_get("/log/{epoch}/tile/{*path}", Limited, doc("A tile of that log, as far as it is here").file("application/octet-stream"), || get(tiles::tile_of)),
        on_get("/problems/{code}", Public, doc("What a kind of refusal means").file("text/plain"), || get(problems::page)),
        on_get("/openapi.json", Public, doc("This document").file("application/json"), || get(openapi::serve)),
        on_get("/livez", Public, doc("Whether the process answers").file("text/plain"), || get(health::live)),
        on_get("/readyz", Public, doc("Whether it can issue and revoke now").file("application/json"), || get(health::ready)),
        // workload
        on_post("/v1/attest/challenge", Limited, doc("A nonce for signing evidence").replies::<Challenge>(200), || post(attest::challenge)),
        on_post("/v1/attest", Limited, doc("Evidence and a key in, a certificate out. 200: the same answer again").takes::<AttestRequest>().replies::<Issued>(201), || post(attest::attest)),
        on_post("/v1/certificates/renew", Holder, doc("The next certificate of the caller's lineage. 200: the same answer again").takes::<RenewRequest>().replies::<Issued>(201), || post(attest::renew)),
        on_post("/v1/certificates/{serial}/revoke", Holder, doc("Ends the caller's own certificate, or a descendant's").takes::<RevokeOwnRequest>().replies::<RevocationsAnswer>(201), || post(revocations::revoke_own)),
        on_get("/v1/whoami", Known, doc("Who the caller is, and with a wait: when its record changes").query::<whoami::WhoamiQuery>().replies::<Whoami>(200), || get(whoami::whoami)),
        on_post("/v1/first-administrator", Limited, doc("The token of the issuer's file in, the first administrator's join token out: once, and only where there is no administrator").takes::<FirstAdministrator>().replies::<JoinTokenCreated>(201), || post(first_administrator::create)),
        // verifier
        on_get("/v1/feed", Holder, doc("The revocation sequence, pushed: server-sent events `head-key`, `snapshot`, `entry`, `bundle` and `head`; nothing counts until a signed head reaches it. For services").query::<feed::FeedQuery>().file("text/event-stream"), || get(feed::read)),
        on_post("/v1/feed/acks", Holder, doc("What the calling service has applied of the revocation sequence").takes::<FeedAck>().replies_nothing(), || post(verifiers::acknowledge)),
        // admin
        on_get("/v1/admin/agents", For(Viewer), doc("Agents").query::<agents::AgentsQuery>().lists::<Agent>(), || get(agents::list)),
        on_post("/v1/admin/agents", For(Operator), doc("Registers an agent. 200: it was there and is equal. A ceiling needs `administrator`").takes::<NewAgent>().replies::<Agent>(201), || post(agents::create)),
        on_get("/v1/admin/agents/{name}", For(Viewer), doc("An agent").replies::<Agent>(200), || get(agents::read)),
        on_patch("/v1/admin/agents/{name}", For(Operator), doc("Changes an agent. A ceiling needs `administrator`").takes::<AgentPatch>().replies::<Agent>(200), || patch(agents::update)),
        on_get("/v1/admin/services", For(Viewer), doc("Services").query::<services::ServicesQuery>().lists::<Service>(), || get(services::list)),
        on_post("/v1/admin/services", For(Operator), doc("Registers a service. 200: it was there and is equal").takes::<NewService>().replies::<Service>(201), || post(services::create)),
        on_get("/v1/admin/services/{name}", For(Viewer), doc("A service").replies::<Service>(200), || get(services::read)),
        on_patch("/v1/admin/services/{name}", For(Operator), doc("Changes a service").takes::<ServicePatch>().replies::<Service>(200), || patch(services::update)),
        on_get("/v1/admin/systems", For(Viewer), doc("Systems and the services that answer for them, by name").query::<systems::SystemsQuery>().lists::<SystemEntry>(), || get(systems::list)),
        on_get("/v1/admin/systems/{name}", For(Viewer), doc("A system").replies::<SystemEntry>(200), || get(systems::read)),
        on_get("/v1/admin/instances", For(Viewer), doc("Attested copies of agents").query::<instances::InstancesQuery>().lists::<Instance>(), || get(instances::list)),
        on_get("/v1/admin/instances/{id}", For(Viewer), doc("An attested copy of an agent").replies::<Instance>(200), || get(instances::read)),
        on_get("/v1/admin/join-tokens", For(Viewer), doc("Join tokens, without their secrets").query::<join_tokens::JoinTokensQuery>().lists::<JoinToken>(), || get(join_tokens::list)),
        on_post("/v1/admin/join-tokens", For(Operator), doc("Makes a join token; only this answer shows it. For an administrator it needs `administrator`").takes::<NewJoinToken>().replies::<JoinTokenCreated>(201), || post(join_tokens::create)),
        on_delete("/v1/admin/join-tokens/{id}", For(Operator), doc("Takes a join token away").replies_nothing(), || delete(join_tokens::remove)),
        on_get("/v1/admin/api-tokens", For(Viewer), doc("API tokens, without their secrets").query::<api_tokens::ApiTokensQuery>().lists::<ApiToken>(), || get(api_tokens::list)),
        on_post("/v1/admin/api-tokens", For(Administrator), doc("Makes an API token; only this answer shows it").takes::<NewApiToken>().replies::<ApiTokenCreated>(201), || post(api_tokens::create)),
        on_delete("/v1/admin/api-tokens/{id}", For(Administrator), doc("Takes an API token away").replies_nothing(), || delete(api_tokens::remove)),
        on_get("/v1/admin/certificates", For(Viewer), doc("Certificates. `scope`: could exercise it. A page may be short of `limit` where a filter leaves little: follow `next_cursor`").query::<certificates::CertificatesQuery>().lists::<CertificateView>(), || get(certificates::list)),
        on_get("/v1/admin/certificates/{serial}", For(Viewer), doc("A certificate").replies::<CertificateView>(200), || get(certificates::read)),
        on_get("/v1/admin/revocations", For(Viewer), doc("Entries of the revocation sequence").query::<revocations::RevocationsQuery>().lists::<RevocationView>(), || get(revocations::list)),
        // dry_run is a viewer's; without it the handler wants a revoker.
        on_post("/v1/admin/revocations", For(Viewer), doc("Stops what is named. Needs `revoker`, unless `dry_run`. 200: it was in force already").takes::<RevocationsRequest>().replies::<RevocationsAnswer>(201), || post(revocations::create)),
        on_get("/v1/admin/revocations/{id}", For(Viewer), doc("An entry of the revocation sequence, and who confirmed it").query::<revocations::StandingQuery>().replies::<RevocationStanding>(200), || get(revocations::read)),
        on_post("/v1/admin/revocations/{id}/resume", For(Operator), doc("Ends a suspension or a forbidding").takes::<ResumeRequest>().replies::<RevocationView>(201), || post(revocations::resume)),
        on_get("/v1/admin/verifiers", For(Viewer), doc("Verifiers: what each knows, and when it refuses everything").query::<verifiers::VerifiersQuery>().lists::<VerifierView>(), || get(verifiers::list)),
        on_get("/v1/admin/verifiers/{service}", For(Viewer), doc("The verifiers of a service: its replicas").query::<verifiers::VerifiersQuery>().lists::<VerifierView>(), || get(verifiers::read)),
        on_get("/v1/admin/admins", For(Viewer), doc("Administrators").query::<admins::AdminsQuery>().lists::<Admin>(), || get(admins::list)),
        on_post("/v1/admin/admins", For(Administrator), doc("Registers an administrator. 200: it was there and is equal").takes::<NewAdmin>().replies::<Admin>(201), || post(admins::create)),
        on_get("/v1/admin/admins/{name}", For(Viewer), doc("An administrator").replies::<Admin>(200), || get(admins::read)),
        on_patch("/v1/admin/admins/{name}", For(Administrator), doc("Changes an administrator").takes::<AdminPatch>().replies::<Admin>(200), || patch(admins::update)),
        on_get("/v1/admin/authorities", For(Viewer), doc("Authorities, the root first, then oldest first").query::<authorities::AuthoritiesQuery>().lists::<AuthorityView>(), || get(authorities::list)),
        on_get("/v1/admin/authorities/{key_id}", For(Viewer), doc("An authority").replies::<AuthorityView>(200), || get(authorities::read)),
        on_post("/v1/admin/authorities/import", For(Administrator), doc("Takes in what an external root signed. 200: it was there already").takes::<ImportRequest>().replies::<Imported>(201), || post(authorities::import)),
        on_post("/v1/admin/authorities/rotate", For(Administrator), doc("Makes a successor to the issuing authority, which signs once verifiers had the time to learn of it").takes::<RotateRequest>().replies::<Rotation>(201), || post(authorities::rotate)),
        on_get("/v1/admin/log", For(Auditor), doc("The log's records, newest first; with `from` oldest first").query::<log::LogQuery>().lists::<LogRecord>(), || get(log::list)),
    ]
}

/// The routes that pass the filter, each behind its gate.
pub(super) fn router(app: &App, filter: impl Fn(&Route) -> bool) -> Router {
    let mut router = Router::new();
    for route in routes().into_iter().filter(filter) {
        let gate =
            Gate { app: app.clone(), class: route.class, takes_query: route.own_query || route.doc.takes_query() };
        router = router.route(route.path, (route.handler)().route_layer(from_fn_with_state(gate, authorize)));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), super::request::identify))
        .with_state(app.clone())
}

async fn not_found(request: Request) -> Response {
    let detail = format!("there is no route {}", request.uri().path());
    Refusal::new(Code::NotFound, detail).fix("GET /openapi.json lists the routes").into_response()
}

async fn method_not_allowed(request: Request) -> Response {
    let detail = format!("{} has no method {}", request.uri().path(), request.method());
    Refusal::new(Code::MethodNotAllowed, detail).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn planes_keep_to_their_paths() {
        let mut seen = BTreeSet::new();
        for route in routes() {
            let (method, path) = (route.method.as_str().to_owned(), route.path);
            assert!(seen.insert((method.clone(), path)), "{method} {path} twice");
            let admin = path.starts_with("/v1/admin/");
            assert_eq!(admin, matches!(route.class, For(_)), "{method} {path}");
            // Nothing unauthenticated changes anything but by evidence.
            let changes = route.method != Method::GET;
            let by_evidence = matches!(path, "/v1/attest" | "/v1/attest/challenge" | "/v1/first-administrator");
            // RFC 6960 asks in the body of a POST what it asks in the path of a GET.
            let changes = changes && path != "/ocsp";
            assert!(!changes || by_evidence || matches!(route.class, For(_) | Holder), "{method} {path}");
            assert!(!changes || path != "/v1/attest" || route.class == Limited, "{method} {path}");
            // The plain listener serves CRLs, authority certificates and OCSP, nothing else.
            let published =
                ["/crl/", "/ca/", "/ocsp/"].iter().any(|folder| path.starts_with(folder)) || path == "/ocsp";
            assert_eq!(route.on_status, published, "{method} {path}");
        }
    }

    #[test]
    fn what_a_viewer_may_do_changes_nothing() {
        for route in routes().into_iter().filter(|route| route.class == For(Access::Viewer)) {
            let reads = route.method == Method::GET;
            // A dry run is a POST that only reads; its handler asks for more before it does more.
            assert!(reads || route.path == "/v1/admin/revocations", "{} {}", route.method, route.path);
        }
    }
}
