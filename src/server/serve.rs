//! Accept loops: connections in, requests with their origin out to a router.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use chancery_verifier::Listener;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::caller::Origin;

/// How long a connection's first request, and over HTTP/1 the head of each further one, may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Connections at a time on the plain listener.
const PLAIN_MAX: usize = 1024;
/// After a failed accept: no descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(50);

/// The API.
pub(super) async fn tls(mut listener: Listener, router: Router, mut drain: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let Some(connection) = connection else { return };
                let origin = Origin::Tls { peer: connection.peer().cloned(), address: connection.remote_addr() };
                tokio::spawn(connected(connection, router.clone(), origin, drain.clone()));
            }
            () = stopping(&mut drain) => return,
        }
    }
}

/// The admin socket: whoever has the issuer's own user id.
pub(super) async fn local(listener: UnixListener, router: Router, mut drain: watch::Receiver<bool>) {
    let own = rustix::process::getuid().as_raw();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                match stream.peer_cred() {
                    Ok(peer) if peer.uid() == own => {
                        tokio::spawn(connected(stream, router.clone(), Origin::Local { uid: own }, drain.clone()));
                    }
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "the admin socket is for uid {own} only; closed"),
                    Err(error) => tracing::warn!(%error, "a peer of the admin socket has no credentials; closed"),
                }
            }
            () = stopping(&mut drain) => return,
        }
    }
}

/// The status listener.
pub(super) async fn plain(listener: TcpListener, router: Router, mut drain: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(PLAIN_MAX));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                // One too many is closed: what is served here is signed, and can be asked for again.
                let Ok(permit) = room.clone().try_acquire_owned() else { continue };
                let connection = connected(stream, router.clone(), Origin::Plain, drain.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            () = stopping(&mut drain) => return,
        }
    }
}

async fn connected<I>(io: I, router: Router, origin: Origin, mut drain: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let service = hyper::service::service_fn({
        let asked = asked.clone();
        move |mut request: hyper::Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(origin.clone());
            router.clone().oneshot(request)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    tokio::pin!(connection);
    let first_request = tokio::time::sleep(HEADER_TIMEOUT);
    tokio::pin!(first_request);
    let served = loop {
        tokio::select! {
            served = connection.as_mut() => break served,
            // Until a request's head begins to be read nothing else has a deadline: neither the protocol's first bytes
            // nor HTTP/2's preface.
            () = first_request.as_mut(), if !first_request.is_elapsed() => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = stopping(&mut drain) => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
        }
    };
    // A peer that goes away, or is cut off, is nobody's fault here.
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn stopping(drain: &mut watch::Receiver<bool>) {
    // The sender is gone only with the server.
    let _ = drain.wait_for(|stop| *stop).await;
}
