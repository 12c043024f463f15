//! An accepted connection that can be cut.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::Peer;
use crate::registry::{CutReason, Entry, Side};

/// An accepted connection. When its peer is revoked or its certificate ends, reads and writes fail from then on and both
/// wakers fire, whatever protocol runs over it. Writes fail, too, once something has waited for
/// [`ListenerOptions::stalled_max`](crate::ListenerOptions) to be written while the kernel took not one byte. Where this crate's
/// axum server speaks HTTP/2 it says GOAWAY first, for which it has 50 ms.
pub struct Connection {
    stream: TlsStream<Socket>,
    peer: Option<Peer>,
    remote: SocketAddr,
    entry: Option<Entry>,
    stall: Stall,
    _open: OwnedSemaphorePermit,
}

/// A socket that remembers whether it took anything: what TLS takes may be in memory still.
pub(crate) struct Socket {
    tcp: TcpStream,
    took: bool,
}

impl Socket {
    pub(crate) const fn new(tcp: TcpStream) -> Self {
        Self { tcp, took: false }
    }

    /// Whether it took anything since this was asked last.
    const fn took(&mut self) -> bool {
        std::mem::replace(&mut self.took, false)
    }

    fn noting(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.took |= matches!(written, Poll::Ready(Ok(1..)));
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.noting(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.noting(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Finds out that a socket takes nothing of what waits for it.
struct Stall {
    most: Duration,
    /// When it will have taken nothing for so long, if anything waited for it.
    over: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Of a write or a flush, and whether the socket took anything: then waiting begins anew.
    fn check<T>(&mut self, polled: Poll<io::Result<T>>, took: bool, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if took {
            self.over = None;
        }
        if polled.is_ready() {
            return polled;
        }
        let over = self.over.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.most)));
        ready!(over.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what it is sent")))
    }
}

impl Connection {
    pub(crate) fn new(
        stream: TlsStream<Socket>,
        peer: Option<Peer>,
        remote: SocketAddr,
        entry: Option<Entry>,
        stalled_max: Duration,
        open: OwnedSemaphorePermit,
    ) -> Self {
        let stall = Stall { most: stalled_max, over: None };
        Self { stream, peer, remote, entry, stall, _open: open }
    }

    /// Who is at the other end; `None` if it showed no certificate, which a listener allows only when told to.
    pub const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Where it comes from.
    pub const fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The application protocol that was agreed on, such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// For a server that can say goodbye, which only HTTP/2 has words for.
    #[cfg(feature = "axum")]
    pub(crate) fn farewell(&self) -> Option<crate::registry::Farewell> {
        let entry = self.entry.as_ref().filter(|_| self.alpn() == Some(b"h2"))?;
        Some(crate::registry::Farewell::on(entry.cut()))
    }

    fn poll_open(&self, side: Side, cx: &Context<'_>) -> io::Result<()> {
        match self.entry.as_ref().and_then(|entry| entry.cut().poll(side, cx)) {
            None => Ok(()),
            Some(reason) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                match reason {
                    CutReason::Revoked => "cut: the peer's certificate is revoked",
                    CutReason::Expired => "cut: the peer's certificate is over",
                },
            )),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_open(Side::Read, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_open(Side::Write, cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        let took = self.stream.get_mut().0.took();
        self.stall.check(written, took, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(Side::Write, cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let took = self.stream.get_mut().0.took();
        self.stall.check(written, took, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_open(Side::Write, cx)?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // Once it is done nothing waits.
        let took = self.stream.get_mut().0.took() || flushed.is_ready();
        ready!(self.stall.check(flushed, took, cx))?;
        if let Some(entry) = &self.entry {
            entry.cut().flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_open(Side::Write, cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote", &self.remote).field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_takes_anything_is_given_all_the_time_again() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut stall = Stall { most: Duration::from_millis(10), over: None };
        let mut check = |stall: &mut Stall, polled, took| stall.check::<()>(polled, took, &mut cx);
        assert!(check(&mut stall, Poll::Pending, false).is_pending());
        // That flush is abandoned, and its time runs out.
        stall.over.as_mut().unwrap().await;
        stall.most = Duration::from_secs(3600);
        // Room in memory is ours.
        assert!(matches!(check(&mut stall, Poll::Ready(Ok(())), false), Poll::Ready(Ok(()))));
        assert!(check(&mut stall, Poll::Pending, true).is_pending());
        assert!(check(&mut stall, Poll::Pending, false).is_pending());

        // Who takes nothing has had it.
        stall.over = None;
        stall.most = Duration::ZERO;
        let waited = std::future::poll_fn(|cx| stall.check::<()>(Poll::Pending, false, cx)).await;
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_socket_tells_whether_it_took_anything() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tcp, reader) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut socket, _reader) = (Socket::new(tcp.unwrap()), reader.unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        std::future::poll_fn(|cx| socket.tcp.poll_write_ready(cx)).await.unwrap();
        assert!(!socket.took());
        while Pin::new(&mut socket).poll_write(&mut cx, &[0; 1 << 16]).is_ready() {
            assert!(socket.took());
        }
        assert!(!socket.took());
    }
}
