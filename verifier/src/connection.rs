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
/// wakers fire, whatever protocol runs over it. Writes fail, too, once the peer has taken nothing of what it is sent for
/// [`ListenerOptions::stalled_max`](crate::ListenerOptions). Where this crate's axum server speaks HTTP/2 it says GOAWAY first,
/// for which it has 50 ms.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Option<Peer>,
    remote: SocketAddr,
    entry: Option<Entry>,
    stall: Stall,
    _open: OwnedSemaphorePermit,
}

/// Finds out that a peer takes nothing of what it is sent.
struct Stall {
    most: Duration,
    /// Since it took something last, if anything waits for it.
    over: Option<Pin<Box<Sleep>>>,
    /// Whether no more could be written.
    full: bool,
}

impl Stall {
    /// Of a write. One that finds room says nothing of the peer unless there was none before: the room may be ours.
    fn wrote<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match written {
            Poll::Pending => {
                self.full = true;
                self.wait(cx)
            }
            ready => {
                if std::mem::take(&mut self.full) {
                    self.over = None;
                }
                ready
            }
        }
    }

    /// Of a flush: once it is done nothing waits.
    fn flushed<T>(&mut self, flushed: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match flushed {
            Poll::Pending => self.wait(cx),
            ready => {
                (self.over, self.full) = (None, false);
                ready
            }
        }
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let over = self.over.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.most)));
        ready!(over.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what it is sent")))
    }
}

impl Connection {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        peer: Option<Peer>,
        remote: SocketAddr,
        entry: Option<Entry>,
        stalled_max: Duration,
        open: OwnedSemaphorePermit,
    ) -> Self {
        let stall = Stall { most: stalled_max, over: None, full: false };
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
        self.stall.wrote(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(Side::Write, cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.stall.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_open(Side::Write, cx)?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        ready!(self.stall.flushed(flushed, cx))?;
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
