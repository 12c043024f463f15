//! Accept loops: connections in, requests with their origin out to a router. Over TLS the loop is the verifier's.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use chancery_verifier::axum::{Http, Limits, serve_unguarded};
use chancery_verifier::{ClientCertificate, Counter, ListenerOptions, Peer, Verifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::caller::Origin;

/// Connections at a time on the plain listener.
const PLAIN_MAX: usize = 1024;
/// After a failed accept: no descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(50);

fn limits() -> Limits {
    Limits { header_timeout: Duration::from_secs(10), drain: super::DRAIN, ..Limits::default() }
}

/// The API. Its handshakes are counted where `handshakes` says, once it listens.
pub(super) async fn tls(
    socket: TcpListener,
    verifier: Verifier,
    router: Router,
    handshakes: Arc<OnceLock<Counter>>,
    mut drain: watch::Receiver<bool>,
) {
    let options = ListenerOptions { client_certificate: ClientCertificate::Optional, ..ListenerOptions::default() };
    let router = router.layer(map_request(async |mut request: Request| {
        let extensions = request.extensions_mut();
        if let Some(ConnectInfo(address)) = extensions.get().copied() {
            let peer = extensions.remove::<Peer>();
            extensions.insert(Origin::Tls { peer, address });
        }
        request
    }));
    let served = serve_unguarded(socket, router, verifier)
        .options(options)
        .limits(limits())
        .counted_in(handshakes)
        .with_graceful_shutdown(async move { stopping(&mut drain).await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the API listens no more");
    }
}

/// The admin socket: whoever has the issuer's own user id.
pub(super) async fn local(listener: UnixListener, router: Router, mut drain: watch::Receiver<bool>) {
    let own = rustix::process::getuid().as_raw();
    let http = Http::new(&limits());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                match stream.peer_cred() {
                    Ok(peer) if peer.uid() == own => {
                        let origin = Origin::Local { uid: own };
                        tokio::spawn(connected(http.clone(), stream, router.clone(), origin, drain.clone()));
                    }
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "the admin socket is for uid {own} only; closed"),
                    Err(error) => tracing::warn!(%error, "a peer of the admin socket has no credentials; closed"),
                }
            }
            () = stopping(&mut drain) => return,
        }
    }
}

/// The status listener, or that of the metrics.
pub(super) async fn plain(listener: TcpListener, router: Router, mut drain: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(PLAIN_MAX));
    let http = Http::new(&limits());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                // One too many is closed: what is served here is signed, and can be asked for again.
                let Ok(permit) = room.clone().try_acquire_owned() else { continue };
                let connection = connected(http.clone(), stream, router.clone(), Origin::Plain, drain.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            () = stopping(&mut drain) => return,
        }
    }
}

async fn connected(
    http: Http,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    origin: Origin,
    mut drain: watch::Receiver<bool>,
) {
    let answer = |mut request: Request| {
        request.extensions_mut().insert(origin.clone());
        router.clone().oneshot(request)
    };
    http.serve(stream, answer, stopping(&mut drain)).await;
}

async fn stopping(drain: &mut watch::Receiver<bool>) {
    // The sender is gone only with the server.
    let _ = drain.wait_for(|stop| *stop).await;
}
