//! The OpenAPI document, from the table of routes and the schemas of the wire types.

use std::sync::LazyLock;

use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use chancery_api::{List, Problem};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::{IntoParams, ToSchema};

use crate::refusal::Code;

use super::authorize::Class;
use super::routes::{Route, routes};

/// The document, as `GET /openapi.json` and docs/openapi.json have it.
pub fn document() -> String {
    let mut text = build().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// `GET /openapi.json`.
pub(super) async fn serve() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().into());
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// What the document says of one route.
pub(super) struct Doc {
    summary: &'static str,
    query: Option<fn() -> Vec<Parameter>>,
    body: Option<Take>,
    reply: Reply,
}

enum Take {
    Json(Write),
    File(&'static str),
}

enum Reply {
    Json(u16, Write),
    File(&'static str),
    Nothing,
}

type Schemas = Vec<(String, RefOr<Schema>)>;

/// Adds a type's schemas and returns the reference to its own.
type Write = fn(&mut Schemas) -> RefOr<Schema>;

impl Doc {
    pub(super) fn new(summary: &'static str) -> Self {
        Self { summary, query: None, body: None, reply: Reply::Nothing }
    }

    pub(super) fn query<T: IntoParams>(self) -> Self {
        Self { query: Some(|| T::into_params(|| Some(ParameterIn::Query))), ..self }
    }

    pub(super) fn takes<T: ToSchema>(self) -> Self {
        Self { body: Some(Take::Json(reference::<T>)), ..self }
    }

    pub(super) fn takes_file(self, media_type: &'static str) -> Self {
        Self { body: Some(Take::File(media_type)), ..self }
    }

    pub(super) fn replies<T: ToSchema>(self, status: u16) -> Self {
        Self { reply: Reply::Json(status, reference::<T>), ..self }
    }

    pub(super) fn lists<T: ToSchema>(self) -> Self {
        let list = |schemas: &mut Schemas| {
            // The schema of a list refers to that of its members, and does not bring it along.
            reference::<T>(schemas);
            reference::<List<T>>(schemas)
        };
        Self { reply: Reply::Json(200, list), ..self }
    }

    pub(super) fn replies_nothing(self) -> Self {
        Self { reply: Reply::Nothing, ..self }
    }

    pub(super) fn file(self, media_type: &'static str) -> Self {
        Self { reply: Reply::File(media_type), ..self }
    }

    pub(super) fn takes_query(&self) -> bool {
        self.query.is_some()
    }
}

fn reference<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(name).into()
}

fn build() -> OpenApi {
    let mut schemas = Schemas::new();
    let problem = reference::<Problem>(&mut schemas);
    let mut paths = PathsBuilder::new();
    for route in routes() {
        let method = match route.method {
            Method::POST => HttpMethod::Post,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let operation = operation(&route, &problem, &mut schemas);
        // OpenAPI has no word for a variable of several segments.
        paths = paths.path(route.path.replace('*', ""), PathItem::new(method, operation));
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API token, `cht_…`")).build();
    let mutual_tls = SecurityScheme::MutualTls {
        description: Some("A client certificate of this issuer".into()),
        deprecated: None,
        extensions: None,
    };
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("certificate", mutual_tls)
        .security_scheme("api_token", SecurityScheme::Http(bearer));
    let codes: String =
        Code::ALL.iter().map(|code| format!("\n- `{code}` ({}): {}", code.status(), code.title())).collect();
    let description = format!(
        "A private certificate authority for AI agents and the services they call.\n\nEvery refusal is an \
         `application/problem+json` document (RFC 9457) whose `code` is one of these:{codes}"
    );
    let info = InfoBuilder::new().title("Chancery").version("v1").description(Some(description));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

fn operation(route: &Route, problem: &RefOr<Schema>, schemas: &mut Schemas) -> Operation {
    let mut builder = OperationBuilder::new().summary(Some(route.doc.summary)).operation_id(Some(operation_id(route)));
    let (access, securities): (_, &[&str]) = match route.class {
        Class::Public => ("Anybody.".to_owned(), &[]),
        Class::Limited => ("Anybody, at a limited rate.".to_owned(), &[]),
        Class::Holder => ("Agents, services and administrators, by certificate.".to_owned(), &["certificate"]),
        Class::Known => ("Whoever is known.".to_owned(), &["certificate", "api_token"]),
        Class::Admin(level) => {
            (format!("Administrators and API tokens with access `{level}`."), &["certificate", "api_token"])
        }
    };
    builder = builder.description(Some(access));
    for name in securities {
        builder = builder.security(SecurityRequirement::new(*name, Vec::<String>::new()));
    }
    for name in variables(route.path) {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        builder = builder.parameter(parameter.schema(Some(text)));
    }
    if let Some(query) = route.doc.query {
        for parameter in query() {
            builder = builder.parameter(parameter);
        }
    }
    if let Some(body) = &route.doc.body {
        let (media_type, content) = match body {
            Take::Json(body) => ("application/json", ContentBuilder::new().schema(Some(body(schemas))).build()),
            Take::File(media_type) => (*media_type, ContentBuilder::new().build()),
        };
        let body = RequestBodyBuilder::new().content(media_type, content);
        builder = builder.request_body(Some(body.build()));
    }
    let (status, reply) = match &route.doc.reply {
        Reply::Json(status, reply) => {
            let content = ContentBuilder::new().schema(Some(reply(schemas))).build();
            (*status, ResponseBuilder::new().description("Done").content("application/json", content))
        }
        Reply::File(media_type) => {
            let content = ContentBuilder::new().build();
            (200, ResponseBuilder::new().description("The file").content(*media_type, content))
        }
        Reply::Nothing => (204, ResponseBuilder::new().description("Done")),
    };
    let refused = ContentBuilder::new().schema(Some(problem.clone())).build();
    let refused = ResponseBuilder::new().description("Refused").content(Problem::CONTENT_TYPE, refused);
    builder.response(status.to_string(), reply).response("default", refused).build()
}

/// `get /v1/admin/agents/{name}` is `get_admin_agents_name`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty() && *word != "v1");
    let words: Vec<&str> = words.collect();
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), words.join("_"))
}

fn variables(path: &'static str) -> impl Iterator<Item = &'static str> {
    let variable = |segment: &'static str| segment.strip_prefix('{')?.strip_suffix('}');
    path.split('/').filter_map(variable).map(|name| name.trim_start_matches('*'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_committed_document_is_the_one_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == document(),
            "docs/openapi.json is not what is served: chancery openapi > docs/openapi.json"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let mut todo = vec![&document];
        let mut found = 0;
        while let Some(value) = todo.pop() {
            match value {
                serde_json::Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref").and_then(|reference| reference.as_str()) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                        found += 1;
                    }
                    todo.extend(fields.values());
                }
                serde_json::Value::Array(items) => todo.extend(items),
                _ => {}
            }
        }
        assert!(found > 50, "{found}");
    }
}
