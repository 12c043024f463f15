//! Connections over real sockets: who gets in, who is cut, and what cannot hold the others up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(all(feature = "ring", feature = "tokio"))]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chancery_testkit::{Flaw, TestCa};
use chancery_verifier::{
    ClientCertificate, Clock, Denial, Listener, ListenerOptions, Moment, ServerExpectation, SystemClock, Verifier,
};
use common::{PATIENCE, Service, SetClock, closed, connect, provider, round_trip, visit};
use rustls::HandshakeKind;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

#[tokio::test]
async fn lets_a_good_client_in_and_says_who_it_is() {
    let service = Service::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut listener = Listener::new(socket, &service.verifier, ListenerOptions::default()).unwrap();
    let (serial, agent) = service.agent();
    let address = listener.local_addr();
    let client = tokio::spawn(async move { connect(address, &agent).await.unwrap() });
    let connection = listener.accept().await.unwrap();
    let peer = connection.peer().unwrap();
    assert_eq!(peer.serial(), serial);
    assert_eq!(peer.grant().unwrap().owner.as_str(), "team-test");
    assert_eq!(service.verifier.status().connections, 1);
    let mut client = client.await.unwrap();
    drop(connection);
    closed(&mut client).await;
    assert_eq!(service.verifier.status().connections, 0);
}

#[tokio::test]
async fn a_revoked_client_that_caches_sessions_does_not_come_back() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions::default()).await;
    let (serial, agent) = service.agent();
    for _ in 0..3 {
        let stream = visit(echo.address, &agent).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    service.verifier.renew(&service.revoking(&[serial])).unwrap();
    assert!(visit(echo.address, &agent).await.is_err(), "a revoked client was served");
    assert_eq!(echo.counts.read().denied, 1);
    // Another one of the same agent is.
    visit(echo.address, &service.agent().1).await.unwrap();
}

#[tokio::test]
async fn configurations_resume_no_session_and_speak_tls_1_3_only() {
    let service = Service::start().await;
    let server = service.verifier.rustls_config().unwrap();
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.session_storage.can_cache());
    assert!(!server.session_storage.put(vec![1], vec![1]));
    assert!(!server.ticketer.enabled());
    assert_eq!(server.max_early_data_size, 0);
    let client = service.verifier.client_config(ServerExpectation::AnyService).unwrap();
    assert!(format!("{:?}", client.resumption).contains("NoClientSessionStorage"), "{:?}", client.resumption);
}

#[tokio::test]
async fn a_revocation_cuts_readers_and_writers() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions::default()).await;
    let (serial, agent) = service.agent();
    let mut idle = visit(echo.address, &agent).await.unwrap();
    // This one does not read what it is sent: the server's writer waits.
    let mut full = visit(echo.address, &agent).await.unwrap();
    let filling = async { while full.write_all(&[0; 1 << 16]).await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_millis(300), filling).await.is_err(), "it takes any amount");
    let mut other = visit(echo.address, &service.agent().1).await.unwrap();
    assert_eq!(service.verifier.status().connections, 3);

    // As the agent crate sends it.
    service.material.send_replace(Arc::new(service.revoking(&[serial])));
    closed(&mut idle).await;
    let refused = async { while full.write_all(&[0; 1 << 16]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("the writer goes on");
    round_trip(&mut other).await.unwrap();
    assert_eq!(service.verifier.status().connections, 1);
}

#[tokio::test]
async fn a_root_that_leaves_the_bundle_takes_its_connections_along() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions::default()).await;
    let mut stream = visit(echo.address, &service.agent().1).await.unwrap();
    let mut material = service.revoking(&[]);
    material.roots = [service.ca.impostor().root()].into();
    service.verifier.renew(&material).unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let ca = TestCa::at("example.org", SystemClock.now().wall);
    let issued = ca.agent("invoice-bot").issue();
    // Nobody waits an hour: the service's clock stands half a second before the end.
    let end = issued.certificate.not_after + Duration::from_secs(1);
    let clock = Arc::new(SetClock::to(end - Duration::from_millis(500)));
    let service = Service::start_at(clock.clone(), ca).await;
    let echo = service.echo(ListenerOptions::default()).await;
    let agent = service.stock_client(Some(issued));
    let mut stream = visit(echo.address, &agent).await.unwrap();
    closed(&mut stream).await;
    assert!(clock.now().wall >= end, "cut {:?} early", end.since(clock.now().wall));
    assert!(visit(echo.address, &agent).await.is_err(), "let in after its end");
}

#[tokio::test]
async fn no_revocation_slips_between_the_handshake_and_the_registry() {
    // A handshake reads the clock when it looks at the certificate, and again when the connection is about to enter the
    // registry: there the revocation comes.
    let clock = Arc::new(Trap::default());
    let service = Service::start_at(clock.clone(), TestCa::at("example.org", SystemClock.now().wall)).await;
    let echo = service.echo(ListenerOptions::default()).await;
    let (serial, agent) = service.agent();
    let (verifier, material) = (service.verifier.clone(), service.revoking(&[serial]));
    clock.set(2, move || verifier.renew(&material).unwrap());
    assert!(visit(echo.address, &agent).await.is_err(), "served after its revocation");
    assert!(clock.sprung(), "the handshake reads the clock less often than this test thinks");
    assert_eq!(echo.counts.read().denied, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_at_any_point_of_a_handshake_count() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions::default()).await;
    let mut revoked = Vec::new();
    for round in 0..40 {
        let (serial, agent) = service.agent();
        revoked.push(serial);
        let (verifier, material, address) = (service.verifier.clone(), service.revoking(&revoked), echo.address);
        let client = tokio::spawn(async move { visit(address, &agent).await });
        let revoking = tokio::task::spawn_blocking(move || {
            for _ in 0..round * 1_000 {
                std::hint::spin_loop();
            }
            verifier.renew(&material).unwrap();
        });
        revoking.await.unwrap();
        // Refused, or served and then cut; never served and left open.
        if let Ok(mut stream) = client.await.unwrap() {
            closed(&mut stream).await;
        }
    }
    visit(echo.address, &service.agent().1).await.unwrap();
}

/// The machine's clock; the read that was named does something first.
#[derive(Default)]
struct Trap {
    reads_left: AtomicU32,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Trap {
    fn set(&self, read: u32, then: impl FnOnce() + Send + 'static) {
        *self.then.lock().unwrap() = Some(Box::new(then));
        self.reads_left.store(read, Ordering::SeqCst);
    }

    fn sprung(&self) -> bool {
        self.then.lock().unwrap().is_none()
    }
}

impl Clock for Trap {
    fn now(&self) -> Moment {
        if self.reads_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let then = self.then.lock().unwrap().take();
            then.unwrap()();
        }
        SystemClock.now()
    }
}

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trap")
    }
}

#[tokio::test]
async fn half_open_connections_by_the_thousand_delay_nobody() {
    let service = Service::start().await;
    let options =
        ListenerOptions { half_open_max: 32, handshake_timeout: Duration::from_secs(60), ..Default::default() };
    let echo = service.echo(options).await;
    let mut silent = Vec::new();
    for _ in 0..2_000 {
        silent.push(TcpStream::connect(echo.address).await.unwrap());
    }
    let visited = tokio::time::timeout(PATIENCE, visit(echo.address, &service.agent().1)).await;
    visited.expect("held up").expect("served");
    let counts = echo.counts.read();
    assert_eq!(counts.accepted, 1);
    assert!(counts.half_open <= 32, "{counts:?}");
    assert!(counts.displaced >= 1_900, "{counts:?}");
}

#[tokio::test]
async fn half_open_connections_of_one_peer_displace_only_its_own() {
    let service = Service::start().await;
    let options = ListenerOptions {
        half_open_max: 64,
        half_open_per_peer_max: 8,
        handshake_timeout: Duration::from_secs(60),
        ..Default::default()
    };
    let echo = service.echo(options).await;
    // An honest one that is slow, from another address.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let slow = socket.connect(echo.address).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(echo.address).await.unwrap());
    }
    while echo.counts.read().displaced < 500 - 8 {
        tokio::task::yield_now().await;
    }
    let counts = echo.counts.read();
    assert_eq!((counts.half_open, counts.displaced), (9, 500 - 8), "{counts:?}");
    let connector = tokio_rustls::TlsConnector::from(service.agent().1);
    let mut stream = connector.connect("crm.test".try_into().unwrap(), slow).await.unwrap();
    round_trip(&mut stream).await.unwrap();
    // One whose handshake is done gives its place back, and so does one that goes away.
    drop(silent);
    while echo.counts.read().half_open > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let service = Service::start().await;
    let options = ListenerOptions { handshake_timeout: Duration::from_millis(100), ..Default::default() };
    let echo = service.echo(options).await;
    let mut silent = TcpStream::connect(echo.address).await.unwrap();
    closed(&mut silent).await;
    // One byte of a record's header each time changes nothing.
    let mut slow = TcpStream::connect(echo.address).await.unwrap();
    slow.write_all(&[22]).await.unwrap();
    closed(&mut slow).await;
    assert_eq!(echo.counts.read().timed_out, 2);
}

#[tokio::test]
async fn a_listener_keeps_no_more_connections_than_it_may() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions { connections_max: 2, ..Default::default() }).await;
    let agent = service.agent().1;
    let first = visit(echo.address, &agent).await.unwrap();
    let _second = visit(echo.address, &agent).await.unwrap();
    assert!(visit(echo.address, &agent).await.is_err());
    assert_eq!(echo.counts.read().turned_away, 1);
    drop(first);
    while service.verifier.status().connections > 1 {
        tokio::task::yield_now().await;
    }
    visit(echo.address, &agent).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_required_unless_said_otherwise() {
    let service = Service::start().await;
    let (denials, mut told) = mpsc::channel(4);
    let required = service.echo(ListenerOptions { denials: Some(denials), ..Default::default() }).await;
    let nobody = service.stock_client(None);
    assert!(visit(required.address, &nobody).await.is_err());
    assert_eq!(told.recv().await.unwrap().1, Denial::NoCertificate);

    let optional = ListenerOptions { client_certificate: ClientCertificate::Optional, ..Default::default() };
    let optional = service.echo(optional).await;
    visit(optional.address, &nobody).await.unwrap();
    visit(optional.address, &service.agent().1).await.unwrap();
    // What is shown must be good, even where nothing need be shown.
    let bad = service.ca.agent("invoice-bot").scope("tools/call:crm/get_customer").with(Flaw::Revoked).issue();
    assert!(visit(optional.address, &service.stock_client(Some(bad))).await.is_err());
    assert_eq!(optional.counts.read().denied, 1);
}

#[tokio::test]
async fn each_flaw_is_refused_in_the_handshake() {
    let service = Service::start().await;
    let (denials, mut told) = mpsc::channel(4);
    let echo = service.echo(ListenerOptions { denials: Some(denials), ..Default::default() }).await;
    let good = service.ca.agent("invoice-bot").scope("tools/call:crm/get_customer");
    for flaw in Flaw::ALL {
        // What a scope allows is for each request to say.
        if flaw.code() == "scope-missing" {
            continue;
        }
        let client = service.stock_client(Some(good.with(flaw).issue()));
        assert!(visit(echo.address, &client).await.is_err(), "{flaw:?} was let in");
        assert_eq!(told.recv().await.unwrap().1.code(), flaw.code(), "{flaw:?}");
    }
}

#[tokio::test]
async fn a_client_reaches_the_server_it_means_and_no_other() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions::default()).await;
    let ca = &service.ca;
    let material = ca.material(&ca.agent("invoice-bot"), &[], service.verifier.now());
    let client = Verifier::new(&material, provider(), Arc::new(SystemClock)).unwrap();
    let go = async |expectation: ServerExpectation| {
        let config = Arc::new(client.client_config(expectation).unwrap());
        visit(echo.address, &config).await.map(|_| ())
    };
    let id = |service: &str| ServerExpectation::SpiffeId(ca.trust_domain().service(&service.parse().unwrap()));
    go(ServerExpectation::AnyService).await.unwrap();
    go(ServerExpectation::DnsName).await.unwrap();
    go(id("crm")).await.unwrap();
    let refused = go(id("billing")).await.unwrap_err();
    assert!(refused.to_string().contains("/service/billing"), "{refused}");
    go(ServerExpectation::Issuer).await.unwrap_err();

    // The same, of a server that is an agent, and of a service with another name.
    for (subject, dns) in [(ca.agent("mole"), false), (ca.service("crm").system("crm").dns("other.test"), true)] {
        let material = ca.material(&subject, &[], service.verifier.now());
        service.verifier.renew(&material).unwrap();
        assert_eq!(go(ServerExpectation::AnyService).await.is_ok(), dns);
        go(ServerExpectation::DnsName).await.unwrap_err();
    }

    // A revoked server is refused, and one whose state is unknown, except that the issuer may be asked.
    let server = ca.server().issue();
    let mut own = ca.material(&ca.server(), &[], service.verifier.now());
    own.chain = server.chain;
    service.verifier.renew(&own).unwrap();
    go(ServerExpectation::Issuer).await.unwrap();
    let mut unknown = ca.material(&ca.agent("invoice-bot"), &[], service.verifier.now());
    unknown.crls = Arc::default();
    let ignorant = Verifier::new(&unknown, provider(), Arc::new(SystemClock)).unwrap();
    let config = Arc::new(ignorant.client_config(ServerExpectation::Issuer).unwrap());
    visit(echo.address, &config).await.unwrap();
    let config = ServerExpectation::SpiffeId(ca.trust_domain().server());
    let config = Arc::new(ignorant.client_config(config).unwrap());
    visit(echo.address, &config).await.unwrap_err();
    client.renew(&ca.material(&ca.agent("invoice-bot"), &[server.certificate.serial], client.now())).unwrap();
    go(ServerExpectation::Issuer).await.unwrap_err();
}

#[tokio::test]
async fn a_revoked_server_is_not_asked_again_over_a_connection_that_is_kept() {
    let service = Service::start().await;
    let echo = service.echo(ListenerOptions::default()).await;
    let ca = &service.ca;
    let shown = ca.service("crm").system("crm").dns("crm.test").issue();
    let mut own = ca.material(&service.subject, &[], service.verifier.now());
    (own.chain, own.key) = (shown.chain.clone(), Arc::new(shown.key.clone_key()));
    service.verifier.renew(&own).unwrap();
    let knowing = |revoked: &[_]| ca.material(&ca.agent("invoice-bot"), revoked, service.verifier.now());
    let client = Verifier::new(&knowing(&[]), provider(), Arc::new(SystemClock)).unwrap();
    let configs = client.client_configs(ServerExpectation::AnyService).unwrap();

    let first = configs.newest();
    let _kept = visit(echo.address, &first).await.unwrap();
    assert!(Arc::ptr_eq(&configs.newest(), &first), "a connection is given up for nothing");
    // The end of somebody else is no reason to connect anew.
    client.renew(&knowing(&[ca.service("billing").issue().certificate.serial])).unwrap();
    assert!(Arc::ptr_eq(&configs.newest(), &first), "a connection is given up for somebody else");
    client.renew(&knowing(&[shown.certificate.serial])).unwrap();
    let next = configs.newest();
    assert!(!Arc::ptr_eq(&next, &first), "the connection is kept");
    visit(echo.address, &next).await.unwrap_err();
}

#[tokio::test]
async fn first_contact_reaches_the_issuer_under_the_pinned_root_only() {
    let service = Service::start().await;
    let optional = ListenerOptions { client_certificate: ClientCertificate::Optional, ..Default::default() };
    let echo = service.echo(optional).await;
    let ca = &service.ca;
    let go = async |root| {
        let config =
            chancery_verifier::first_contact(&root, ca.trust_domain().clone(), &provider(), Arc::new(SystemClock));
        visit(echo.address, &Arc::new(config.unwrap())).await.map(|_| ())
    };
    go(ca.root()).await.unwrap_err();
    service.verifier.renew(&ca.material(&ca.server(), &[], service.verifier.now())).unwrap();
    go(ca.root()).await.unwrap();
    go(ca.impostor().root()).await.unwrap_err();
}
