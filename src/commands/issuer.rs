//! The issuer as the command line reaches it: by the admin socket of this machine, or by HTTPS.

use std::path::PathBuf;

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use chancery_agent::{Identity, pinned_issuer};
use chancery_api::client::{Client, ClientError};
use chancery_api::{List, RootPin, Secret};

use chancery_identity::RequestId;

use super::output::{Output, print};
use super::{Failure, Global, login};
use crate::config::Config;

/// Where `serve --dev` leaves its socket, from the folder it was started in.
const DEV_SOCKET: &str = "chancery-dev/admin.sock";
/// Where the packaged service has its socket.
const SYSTEM_SOCKET: &str = "/run/chancery/admin.sock";

/// An issuer, found and perhaps not yet spoken to.
#[derive(Debug)]
pub(crate) struct Issuer {
    client: Client,
    output: Output,
    dry_run: bool,
    /// Whose certificate the client shows; it is kept up to date as long as this is here.
    _login: Option<Identity>,
}

/// An answer: the body as it came, and what it says.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) body: Value,
    pub(crate) value: T,
}

impl Issuer {
    /// Finds the issuer: what was named, else what stands in this folder, is configured, or runs on this machine, else
    /// where this user logged in.
    pub(crate) async fn find(global: &Global, output: Output) -> Result<Self, Failure> {
        let (client, login) = match Route::find(global)? {
            Route::Socket(path) => (Client::over_unix_socket(path), None),
            Route::Token { url, pin, token } => (Box::pin(pinned_issuer(&url, pin)).await?.with_token(&token)?, None),
            Route::Login(folder) => {
                let identity = Box::pin(login::resume(&folder, global.timeout)).await?;
                (identity.issuer()?, Some(identity))
            }
        };
        Ok(Self { client: client.with_timeout(global.timeout), output, dry_run: global.dry_run, _login: login })
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        let answer = self.client.get(path).await?;
        self.told("GET", path, answer.request_id);
        understood(answer.body)
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
        let answer = self.client.post(path, body).await?;
        self.told("POST", path, answer.request_id);
        understood(answer.body)
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
        self.told(method.as_str(), path, answer.request_id);
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

    fn told(&self, method: &str, path: &str, request: Option<RequestId>) {
        let request = request.map(|id| id.to_string()).unwrap_or_default();
        self.output.detail(&format!("{method} {path}  {request}"));
    }
}

fn understood<T: DeserializeOwned>(body: Value) -> Result<Answer<T>, Failure> {
    let value = serde_json::from_value(body.clone()).map_err(|error| {
        Failure::here(format!("the answer is not of a form that this version knows: {error}"))
            .fix("use the command line of the issuer's own version")
    })?;
    Ok(Answer { body, value })
}

/// By which way, and as whom.
enum Route {
    /// As a user of this machine.
    Socket(PathBuf),
    /// As a program with an API token, to the issuer that the pin proves.
    Token { url: String, pin: RootPin, token: Secret },
    /// As the administrator whose login this folder keeps.
    Login(PathBuf),
}

impl Route {
    fn find(global: &Global) -> Result<Self, Failure> {
        if let Some(issuer) = &global.issuer {
            return Self::to(issuer, global);
        }
        if token(global)?.is_some() {
            return Err(Failure::usage("an API token, and no issuer to show it to").fix("name it: CHANCERY_ISSUER"));
        }
        let dev = PathBuf::from(DEV_SOCKET);
        if dev.exists() {
            return Ok(Self::Socket(dev));
        }
        if let Some(path) = &global.config {
            return Ok(Self::Socket(Config::load(path).map_err(Failure::usage)?.listen.admin_socket));
        }
        let system = PathBuf::from(SYSTEM_SOCKET);
        if system.exists() {
            return Ok(Self::Socket(system));
        }
        match login::folders()?.as_slice() {
            [one] => Ok(Self::Login(one.clone())),
            [] => Err(Failure::usage(format!(
                "no issuer: neither --issuer nor CHANCERY_ISSUER, no {DEV_SOCKET} here, and no login"
            ))
            .fix("on this machine: chancery serve --dev, then this again in the same folder")
            .fix("elsewhere: chancery login, with the CHANCERY_JOIN that `chancery admins create` printed")),
            _ => Err(Failure::usage("logged in at several issuers").fix("say which: --issuer https://host:port")),
        }
    }

    fn to(issuer: &str, global: &Global) -> Result<Self, Failure> {
        if let Some(path) = issuer.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Socket(path.into()));
        }
        if !issuer.starts_with("https://") {
            return Err(Failure::usage(format!("{issuer:?} is no issuer: wanted https://host:port or unix:PATH")));
        }
        let Some(token) = token(global)? else { return Ok(Self::Login(login::folder(issuer)?)) };
        let pin = global.pin.ok_or_else(|| {
            Failure::usage("an API token, and no root pin to know the issuer by: the token was not sent")
                .fix("CHANCERY_PIN='sha256:…', as `chancery serve` prints it")
        })?;
        Ok(Self::Token { url: issuer.into(), pin, token })
    }
}

/// The API token that was given, if one was.
fn token(global: &Global) -> Result<Option<Secret>, Failure> {
    let text = match &global.token_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read the token in {}: {error}", path.display())))?,
        None => match std::env::var("CHANCERY_TOKEN") {
            Ok(text) if !text.is_empty() => text,
            _ => return Ok(None),
        },
    };
    Ok(Some(Secret::new(text.trim().to_owned())))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => (*problem).into(),
            ClientError::Unreachable { .. } => {
                Failure::unreachable(error).fix("is the issuer running, and may you use its socket?")
            }
            ClientError::CertificateRevoked => Failure::refused(error).fix("chancery login, with a new join token"),
            ClientError::Timeout(_) => Failure::unreachable(error).fix("wait longer: --timeout 2m"),
            ClientError::Broken(_) | ClientError::Status(_) => Failure::unreachable(error),
            ClientError::Url(_) | ClientError::Token => Failure::usage(error),
            _ => Failure::here(error),
        }
    }
}
