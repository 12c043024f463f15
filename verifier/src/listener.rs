//! The accept loop: handshakes in bounded tasks with a deadline, finished connections through a channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::connection::Socket;
use crate::tls::{ClientVerifier, Outcome, server_config};
use crate::{Connection, Denial, Moment, Peer, Verifier};

/// Accepts connections over TLS 1.3, verified and ready to be cut.
///
/// A handshake that takes too long is dropped; when too many are under way, of one peer or in all, the oldest of them is,
/// as an honest one needs milliseconds. So half-open connections by the thousand delay nobody for long, and those of one
/// peer delay no other.
#[derive(Debug)]
pub struct Listener {
    connections: mpsc::Receiver<Connection>,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle each")]
pub enum ClientCertificate {
    /// A handshake without one fails.
    Required,
    /// Without one the connection has no peer. One that is shown must be good.
    Optional,
}

/// How a listener accepts.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "made by struct update from its default")]
pub struct ListenerOptions {
    /// Whether a client must show a certificate. Default: required.
    pub client_certificate: ClientCertificate,
    /// The application protocols offered, best first. Default: `h2`, `http/1.1`.
    pub alpn: Vec<Vec<u8>>,
    /// The longest a handshake may take. Default: 5 s.
    pub handshake_timeout: Duration,
    /// The most handshakes under way. Default: 1,024.
    pub half_open_max: usize,
    /// The most of them from one peer's network: see [`network`]. Default: 512.
    pub half_open_per_peer_max: usize,
    /// The longest that something may wait to be written while the kernel takes not one byte of it: then writes fail. A full
    /// socket takes more once about a third of its buffer is free, which may be more than a megabyte: who reads slower than
    /// that in this time is taken for one that reads nothing. Default: 5 min.
    pub stalled_max: Duration,
    /// The most connections open or in handshake; more are closed at once. Default: 16,384.
    pub connections_max: usize,
    /// Where to tell whose handshake was refused and why; what the channel has no room for is only counted.
    pub denials: Option<mpsc::Sender<(SocketAddr, Denial)>>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            client_certificate: ClientCertificate::Required,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            handshake_timeout: Duration::from_secs(5),
            half_open_max: 1024,
            half_open_per_peer_max: 512,
            stalled_max: Duration::from_secs(5 * 60),
            connections_max: 16_384,
            denials: None,
        }
    }
}

/// What a listener has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Handshakes that succeeded.
    pub accepted: u64,
    /// Handshakes that were refused for what the client is or is not.
    pub denied: u64,
    /// Handshakes that failed otherwise.
    pub failed: u64,
    /// Handshakes that took too long.
    pub timed_out: u64,
    /// Handshakes that were given up for newer ones.
    pub displaced: u64,
    /// Connections closed at once, as too many were open.
    pub turned_away: u64,
    /// Handshakes under way now.
    pub half_open: u64,
}

impl Listener {
    /// Accepts on a socket, for services and for the issuer alike.
    ///
    /// # Errors
    /// A socket without an address; a provider without TLS 1.3.
    pub fn new(tcp: TcpListener, verifier: &Verifier, options: ListenerOptions) -> io::Result<Self> {
        let local_addr = tcp.local_addr()?;
        let (finished, connections) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            verifier: verifier.clone(),
            open: Arc::new(Semaphore::new(options.connections_max)),
            options,
            half_open: Mutex::default(),
            tally: Tally::default(),
        });
        shared.acceptor().map_err(io::Error::other)?;
        let accepting = tokio::spawn(accept(tcp, Arc::clone(&shared), finished)).abort_handle();
        Ok(Self { connections, local_addr, shared, accepting })
    }

    /// The next connection whose handshake is done; `None` once the listener is closed and all such were taken.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }

    /// Accepts no more; what is in handshake is dropped. Connections that were taken stay open.
    pub fn close(&mut self) {
        self.accepting.abort();
        self.connections.close();
        let half_open = std::mem::take(&mut *self.shared.half_open());
        half_open.oldest_first.into_values().for_each(|(_, handshake)| handshake.abort());
    }

    /// The address it accepts on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What tells what it has done so far, for as long as one likes.
    pub fn counter(&self) -> Counter {
        Counter(Arc::clone(&self.shared))
    }
}

/// Reads a listener's counts.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Shared>);

impl Counter {
    /// What the listener has done so far.
    pub fn read(&self) -> Counts {
        let tally = &self.0.tally;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            accepted: read(&tally.accepted),
            denied: read(&tally.denied),
            failed: read(&tally.failed),
            timed_out: read(&tally.timed_out),
            displaced: read(&tally.displaced),
            turned_away: read(&tally.turned_away),
            half_open: u64::try_from(self.0.half_open().oldest_first.len()).unwrap_or(u64::MAX),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct Shared {
    verifier: Verifier,
    options: ListenerOptions,
    open: Arc<Semaphore>,
    half_open: Mutex<UnderWay>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    accepted: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    displaced: AtomicU64,
    turned_away: AtomicU64,
}

fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

async fn accept(tcp: TcpListener, shared: Arc<Shared>, finished: mpsc::Sender<Connection>) {
    /// Out of file descriptors or memory: others must end before more can begin.
    const PAUSE: Duration = Duration::from_millis(50);
    let mut id = 0;
    loop {
        let (stream, remote) = match tcp.accept().await {
            Ok(accepted) => accepted,
            Err(error) if of_one_connection(&error) => continue,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&shared.open).try_acquire_owned() else {
            count(&shared.tally.turned_away);
            continue;
        };
        id += 1;
        let half_open = HalfOpen { shared: Arc::clone(&shared), id };
        let handshake = handshake(half_open, stream, remote, permit, finished.clone());
        let displaced = {
            // The handshake takes the same lock to leave, so it is entered before it can.
            let mut under_way = shared.half_open();
            let network = network(remote.ip());
            under_way.enter(id, network, tokio::spawn(handshake).abort_handle());
            under_way.too_many(network, &shared.options).and_then(|oldest| under_way.leave(oldest))
        };
        if let Some(oldest) = displaced {
            oldest.abort();
            count(&shared.tally.displaced);
        }
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What counts as one peer before anybody has shown who it is: an IPv4 address, or the /64 of an IPv6 address, all of which
/// one subscriber has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// The handshakes under way.
#[derive(Debug, Default)]
struct UnderWay {
    oldest_first: BTreeMap<u64, (IpAddr, AbortHandle)>,
    of_network: HashMap<IpAddr, BTreeSet<u64>>,
}

impl UnderWay {
    fn enter(&mut self, id: u64, network: IpAddr, handshake: AbortHandle) {
        self.oldest_first.insert(id, (network, handshake));
        self.of_network.entry(network).or_default().insert(id);
    }

    fn leave(&mut self, id: u64) -> Option<AbortHandle> {
        let (network, handshake) = self.oldest_first.remove(&id)?;
        if let Some(own) = self.of_network.get_mut(&network) {
            own.remove(&id);
            if own.is_empty() {
                self.of_network.remove(&network);
            }
        }
        Some(handshake)
    }

    /// The handshake to give up, if there are too many since one of this network entered.
    fn too_many(&self, network: IpAddr, options: &ListenerOptions) -> Option<u64> {
        let own = self.of_network.get(&network)?;
        if own.len() > options.half_open_per_peer_max {
            return own.first().copied();
        }
        let (oldest, _) = self.oldest_first.first_key_value()?;
        (self.oldest_first.len() > options.half_open_max).then_some(*oldest)
    }
}

/// A handshake's place among those under way.
struct HalfOpen {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.shared.half_open().leave(self.id);
    }
}

async fn handshake(
    half_open: HalfOpen,
    stream: TcpStream,
    remote: SocketAddr,
    permit: OwnedSemaphorePermit,
    finished: mpsc::Sender<Connection>,
) {
    let shared = &half_open.shared;
    // Small messages wait for no acknowledgement. A socket that cannot do this is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let outcome = tokio::time::timeout(shared.options.handshake_timeout, shared.shake(stream, remote, permit)).await;
    match outcome {
        Ok(Ok(connection)) => {
            count(&shared.tally.accepted);
            // Whoever takes connections may be gone.
            let _ = finished.send(connection).await;
        }
        Ok(Err(NotAccepted::Denied(denial))) => {
            count(&shared.tally.denied);
            if let Some(denials) = &shared.options.denials {
                let _ = denials.try_send((remote, denial));
            }
        }
        Ok(Err(NotAccepted::Failed)) => count(&shared.tally.failed),
        Err(_) => count(&shared.tally.timed_out),
    }
}

enum NotAccepted {
    Denied(Denial),
    Failed,
}

impl Shared {
    /// An acceptor for one connection: what its handshake finds out about the peer is left in the cell.
    fn acceptor(&self) -> Result<(TlsAcceptor, Arc<Outcome>), rustls::Error> {
        let outcome = Arc::new(Outcome::default());
        let mut config = server_config(Arc::new(ClientVerifier {
            verifier: self.verifier.clone(),
            required: self.options.client_certificate == ClientCertificate::Required,
            outcome: Arc::clone(&outcome),
        }))?;
        config.alpn_protocols.clone_from(&self.options.alpn);
        Ok((TlsAcceptor::from(Arc::new(config)), outcome))
    }

    async fn shake(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Result<Connection, NotAccepted> {
        let (acceptor, outcome) = self.acceptor().map_err(|_| NotAccepted::Failed)?;
        let result = acceptor.accept(Socket::new(stream)).await;
        let peer = outcome.peer().map_err(NotAccepted::Denied)?.cloned();
        let stream = result.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::NoCertificatesPresented) => NotAccepted::Denied(Denial::NoCertificate),
            _ => NotAccepted::Failed,
        })?;
        // A resumed session was never verified. Ours cannot be resumed; this is what says so.
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            return Err(NotAccepted::Denied(Denial::NoCertificate));
        }
        let entry = match &peer {
            Some(peer) => {
                self.verifier.caught_up_with(peer).await.map_err(NotAccepted::Denied)?;
                let ends_at = ends_at(peer, self.verifier.now());
                Some(self.verifier.gate().admit(peer, ends_at).map_err(NotAccepted::Denied)?)
            }
            None => None,
        };
        Ok(Connection::new(stream, peer, remote, entry, self.options.stalled_max, permit))
    }

    fn half_open(&self) -> MutexGuard<'_, UnderWay> {
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the second is over that notAfter names.
fn ends_at(peer: &Peer, now: Moment) -> Instant {
    let left = (peer.not_after() + Duration::from_secs(1)).since(now.wall);
    now.monotonic.checked_add(left).unwrap_or(now.monotonic)
}
