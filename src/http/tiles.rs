//! `/log/checkpoint` and `/log/tile/…`: the log as any tool reads it, by the paths of C2SP tlog-tiles. Below `/log/EPOCH/`
//! the same of the log whose origin names that epoch, those that are over included.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use chancery_tlog::{Bundle, Commitment, Hash, Tile};

use crate::refusal::{Code, Refusal};
use crate::revocation::KeptHead;

use super::App;
use super::extract::Segment;

/// A full tile never changes, nor does anything of a log that is over.
const FULL: &str = "public, max-age=31536000, immutable";
/// Nor does a partial one; a fuller one takes its place.
const PARTIAL: &str = "public, max-age=60";
/// The newest of something.
const NEWEST: &str = "no-cache";

/// The newest signed head.
pub(super) async fn checkpoint(State(app): State<App>) -> Result<Response<Body>, Refusal> {
    let newest = app.feed().newest().ok_or_else(unsigned)?;
    Ok(note(newest.note.clone(), NEWEST))
}

/// By whose signature it is a head: certificates that the root signed, those that sign next among them.
pub(super) async fn keys(State(app): State<App>) -> Response<Body> {
    certificates(app.authorities().head_keys().certificates().collect(), NEWEST)
}

/// Hashes, or with `entries` in the place of a level the entries themselves: commitments.
pub(super) async fn tile(State(app): State<App>, Segment(place): Segment<String>) -> Result<Response<Body>, Refusal> {
    // Only what a signed head covers: what is behind it may still be anything.
    let size = app.feed().newest().ok_or_else(unsigned)?.head.tree.size;
    let none = || Refusal::new(Code::NotFound, format!("the log has no tile/{place}: it has {size} entries"));
    match wanted(&place).ok_or_else(none)? {
        Wanted::Entries(bundle) if bundle.within(size) => {
            entries(bundle, app.store().bundle(bundle).await?).ok_or_else(none)
        }
        Wanted::Hashes(tile) if tile.within(size) => hashes(tile, app.store().tile(tile).await?).ok_or_else(none),
        _ => Err(none()),
    }
}

/// The last head of an epoch that was told to anybody.
pub(super) async fn checkpoint_of(
    State(app): State<App>,
    Segment(epoch): Segment<u64>,
) -> Result<Response<Body>, Refusal> {
    if epoch == present(&app) {
        return checkpoint(State(app)).await;
    }
    Ok(note(kept(&app, epoch).await?.note, FULL))
}

/// By whose signature it is one.
pub(super) async fn keys_of(State(app): State<App>, Segment(epoch): Segment<u64>) -> Result<Response<Body>, Refusal> {
    if epoch == present(&app) {
        return Ok(keys(State(app)).await);
    }
    Ok(certificates(kept(&app, epoch).await?.certificates, FULL))
}

/// As [`tile`], of the log of an epoch: as much of it as the restored database had.
pub(super) async fn tile_of(
    State(app): State<App>,
    Path((epoch, place)): Path<(String, String)>,
) -> Result<Response<Body>, Refusal> {
    let epoch: u64 = epoch.parse().map_err(|error| Refusal::new(Code::BadRequest, format!("path: {error}")))?;
    if epoch == present(&app) {
        return tile(State(app), Segment(place)).await;
    }
    let none = || Refusal::new(Code::NotFound, format!("the log of epoch {epoch} has no tile/{place} here"));
    match wanted(&place).ok_or_else(none)? {
        Wanted::Entries(bundle) => {
            let found = app.store().past_bundle(epoch, bundle).await?;
            found.and_then(|found| entries(bundle, found)).ok_or_else(none)
        }
        Wanted::Hashes(tile) => {
            let found = app.store().past_tile(epoch, tile).await?;
            found.and_then(|found| hashes(tile, found)).ok_or_else(none)
        }
    }
}

/// What a path below `tile/` asks for.
enum Wanted {
    Hashes(Tile),
    Entries(Bundle),
}

fn wanted(place: &str) -> Option<Wanted> {
    let path = format!("tile/{place}");
    path.parse().map(Wanted::Entries).or_else(|_| path.parse().map(Wanted::Hashes)).ok()
}

fn entries(bundle: Bundle, commitments: Vec<Commitment>) -> Option<Response<Body>> {
    let entries: Vec<[u8; 32]> = commitments.into_iter().map(|commitment| commitment.0).collect();
    Some(file(bundle.to_bytes(&entries).ok()?, bundle.tile().width()))
}

fn hashes(tile: Tile, hashes: Vec<Hash>) -> Option<Response<Body>> {
    Some(file(tile.to_bytes(&hashes).ok()?, tile.width()))
}

fn file(bytes: Vec<u8>, width: u16) -> Response<Body> {
    let caching = if width == 256 { FULL } else { PARTIAL };
    ([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, caching)], bytes).into_response()
}

fn note(text: String, caching: &'static str) -> Response<Body> {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, caching)], text).into_response()
}

fn certificates(pem: String, caching: &'static str) -> Response<Body> {
    ([(CONTENT_TYPE, "application/pem-certificate-chain"), (CACHE_CONTROL, caching)], pem).into_response()
}

fn present(app: &App) -> u64 {
    app.store().state().position().epoch
}

async fn kept(app: &App, epoch: u64) -> Result<crate::revocation::Kept, Refusal> {
    let file = KeptHead::of_epoch(&app.config().data_dir, epoch);
    let (trust_domain, root) = (app.trust_domain().clone(), app.authorities().root().der().to_vec());
    let read = tokio::task::spawn_blocking(move || file.read(&trust_domain, &root)).await;
    let unreadable = |error: &dyn std::error::Error| {
        tracing::error!(%error, epoch, "the head that was kept of an epoch cannot be read");
        Refusal::new(Code::Internal, "the head that is kept of this epoch cannot be read; the issuer's output says why")
    };
    let kept = read.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
    kept.ok_or_else(|| Refusal::new(Code::NotFound, format!("no head of epoch {epoch} is kept here")))
}

fn unsigned() -> Refusal {
    Refusal::new(Code::NotReady, "no head is signed yet").after(1)
}
