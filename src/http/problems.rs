//! `/problems/{code}`: what a kind of refusal means.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::refusal::{Code, Refusal};

use super::extract::Segment;

pub(super) async fn page(Segment(code): Segment<String>) -> Result<Response, Refusal> {
    let found = Code::ALL.iter().find(|known| known.as_str() == code);
    let code = found.ok_or_else(|| Refusal::new(Code::NotFound, format!("no refusal has the code {code:?}")))?;
    let text = format!("{code}\n{}\nHTTP status {}\n\n{}\n", code.title(), code.status(), code.page());
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
