//! `/log/checkpoint` and `/log/tile/…`: the log as any tool reads it, by the paths of C2SP tlog-tiles.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use chancery_tlog::{Bundle, Tile};

use crate::refusal::{Code, Refusal};

use super::App;
use super::extract::Segment;

/// A full tile never changes.
const FULL: &str = "public, max-age=31536000, immutable";
/// Nor does a partial one; a fuller one takes its place.
const PARTIAL: &str = "public, max-age=60";

/// The newest signed head.
pub(super) async fn checkpoint(State(app): State<App>) -> Result<Response<Body>, Refusal> {
    let newest = app.feed().newest().ok_or_else(unsigned)?;
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    Ok((headers, newest.note.clone()).into_response())
}

/// Hashes, or with `entries` in the place of a level the entries themselves: commitments.
pub(super) async fn tile(State(app): State<App>, Segment(place): Segment<String>) -> Result<Response<Body>, Refusal> {
    // Only what a signed head covers: what is behind it may still be anything.
    let size = app.feed().newest().ok_or_else(unsigned)?.head.tree.size;
    let path = format!("tile/{place}");
    let none = || Refusal::new(Code::NotFound, format!("the log has no {path}: it has {size} entries"));
    if let Ok(bundle) = path.parse::<Bundle>() {
        let entries = if bundle.within(size) { app.store().bundle(bundle).await? } else { return Err(none()) };
        let entries: Vec<[u8; 32]> = entries.into_iter().map(|commitment| commitment.0).collect();
        return Ok(file(bundle.to_bytes(&entries).map_err(|_| none())?, bundle.tile().width()));
    }
    let tile: Tile = path.parse().map_err(|_| none())?;
    let hashes = if tile.within(size) { app.store().tile(tile).await? } else { return Err(none()) };
    Ok(file(tile.to_bytes(&hashes).map_err(|_| none())?, tile.width()))
}

fn file(bytes: Vec<u8>, width: u16) -> Response<Body> {
    let caching = if width == 256 { FULL } else { PARTIAL };
    ([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, caching)], bytes).into_response()
}

fn unsigned() -> Refusal {
    Refusal::new(Code::NotReady, "no head is signed yet").after(1)
}
