//! The issuer as the command line reaches it: by the admin socket of this machine, or by HTTPS.

use std::path::PathBuf;

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use chancery_api::List;
use chancery_api::client::{Client, ClientError};

use super::output::print;
use super::{Failure, Global};
use crate::config::Config;

/// Where `serve --dev` leaves its socket, from the folder it was started in.
const DEV_SOCKET: &str = "chancery-dev/admin.sock";
/// Where the packaged service has its socket.
const SYSTEM_SOCKET: &str = "/run/chancery/admin.sock";

/// An issuer, found and perhaps not yet spoken to.
#[derive(Debug)]
pub(crate) struct Issuer {
    client: Client,
    dry_run: bool,
}

/// An answer: the body as it came, and what it says.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) body: Value,
    pub(crate) value: T,
}

impl Issuer {
    /// Finds the issuer: what was named, else what stands in this folder, is configured, or runs on this machine.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        let client = Client::over_unix_socket(socket(global)?).with_timeout(global.timeout);
        Ok(Self { client, dry_run: global.dry_run })
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        understood(self.client.get(path).await?.body)
    }

    /// Reads a page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<List<T>>, Failure> {
        self.get(path).await
    }

    /// Asks a question that is asked with a body. It changes nothing.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        understood(self.client.post(path, body).await?.body)
    }

    /// Makes or changes something; with `--dry-run` only says what would be sent, and answers `None`.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Option<Answer<T>>, Failure> {
        if self.dry_run {
            let body = serde_json::to_value(body).map_err(Failure::here)?;
            print(&format!("would send  {method} {path}\n{body:#}"));
            return Ok(None);
        }
        let answer = if method == Method::PATCH {
            self.client.patch(path, body, None).await?
        } else {
            self.client.post(path, body).await?
        };
        understood(answer.body).map(Some)
    }

    /// Deletes something; with `--dry-run` only says so, and answers `false`.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool, Failure> {
        if self.dry_run {
            print(&format!("would send  DELETE {path}"));
        } else {
            self.client.delete(path).await?;
        }
        Ok(!self.dry_run)
    }
}

fn understood<T: DeserializeOwned>(body: Value) -> Result<Answer<T>, Failure> {
    let value = serde_json::from_value(body.clone()).map_err(|error| {
        Failure::here(format!("the answer is not of a form that this version knows: {error}"))
            .fix("use the command line of the issuer's own version")
    })?;
    Ok(Answer { body, value })
}

fn socket(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(issuer) = &global.issuer {
        return match issuer.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(path.into()),
            _ => Err(Failure::usage(format!("{issuer:?} is no issuer: wanted https://host:port or unix:PATH"))),
        };
    }
    let dev = PathBuf::from(DEV_SOCKET);
    if dev.exists() {
        return Ok(dev);
    }
    if let Some(path) = &global.config {
        return Ok(Config::load(path).map_err(Failure::usage)?.listen.admin_socket);
    }
    let system = PathBuf::from(SYSTEM_SOCKET);
    if system.exists() {
        return Ok(system);
    }
    Err(Failure::usage(format!("no issuer: neither --issuer nor CHANCERY_ISSUER, and no {DEV_SOCKET} here"))
        .fix("on this machine: chancery serve --dev, then this again in the same folder")
        .fix("elsewhere: chancery login, with the CHANCERY_JOIN that `chancery admins create` printed"))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => (*problem).into(),
            ClientError::Unreachable { .. } => {
                Failure::unreachable(error).fix("is the issuer running, and may you use its socket?")
            }
            ClientError::Timeout(_) => Failure::unreachable(error).fix("wait longer: --timeout 2m"),
            ClientError::Broken(_) | ClientError::Status(_) => Failure::unreachable(error),
            ClientError::Url(_) | ClientError::Token => Failure::usage(error),
            _ => Failure::here(error),
        }
    }
}
