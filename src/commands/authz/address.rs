//! Where proxies ask: loopback or a Unix socket, unless somebody says otherwise.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

use crate::commands::Failure;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// Refuses what others than this machine reach.
    pub(super) fn check(&self, trust_network: bool) -> Result<(), Failure> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() && !trust_network => {
                let what = format!(
                    "{address} is not loopback, and answers are plain HTTP: whoever stands between can turn a refusal into leave"
                );
                Err(Failure::usage(what)
                    .fix("listen on 127.0.0.1:PORT or unix:PATH beside the proxy")
                    .fix("or say --trust-network, where nobody else is on that network"))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn bind(&self, socket_mode: u32) -> Result<Bound, Failure> {
        let failed = |error: std::io::Error| Failure::here(format!("cannot listen on {self}: {error}"));
        match self {
            Self::Tcp(address) => TcpListener::bind(address).await.map(Bound::Tcp).map_err(failed),
            Self::Unix(path) => Socket::bind(path, socket_mode).map(Bound::Unix).map_err(failed),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| format!("wanted an address like 127.0.0.1:9191 or unix:/run/authz.sock, got {text:?}"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that is listened on.
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(Socket),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("tcp"),
            },
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

/// A Unix socket.
pub(super) struct Socket {
    pub(super) socket: UnixListener,
    path: PathBuf,
}

impl Socket {
    fn bind(path: &Path, mode: u32) -> std::io::Result<Self> {
        use std::io::ErrorKind::{AddrInUse, ConnectionRefused};

        // One that a process left which is gone: nobody answers there.
        if let Err(error) = std::os::unix::net::UnixStream::connect(path) {
            if error.kind() == ConnectionRefused {
                std::fs::remove_file(path)?;
            }
        } else {
            return Err(AddrInUse.into());
        }
        // Under another name until it has its mode: nobody connects in between.
        let mut hidden = path.as_os_str().to_owned();
        hidden.push(".new");
        let _ = std::fs::remove_file(&hidden);
        let socket = UnixListener::bind(&hidden)?;
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&hidden, path)?;
        Ok(Self { socket, path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_others_reach_needs_a_word() {
        for text in ["127.0.0.1:9191", "[::1]:9191", "unix:/run/authz.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert!(address.check(false).is_ok(), "{text}");
        }
        for text in ["0.0.0.0:9191", "10.0.0.7:9191", "[::]:9191"] {
            let address: Address = text.parse().unwrap();
            let refused = address.check(false).unwrap_err();
            assert!(refused.to_string().contains("--trust-network"), "{refused}");
            assert_eq!(refused.exit().code(), 2);
            assert!(address.check(true).is_ok(), "{text}");
        }
        for text in ["9191", "unix:", "localhost", "/run/authz.sock"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_left_is_taken_over_and_one_in_use_is_not() {
        let path = std::env::temp_dir().join(format!("chancery-authz-{}.sock", std::process::id()));
        let address = Address::Unix(path.clone());
        drop(address.bind(0o600).await.unwrap());
        let bound = address.bind(0o660).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(address.bind(0o600).await.is_err());
        drop(bound);
        std::fs::remove_file(path).unwrap();
    }
}
