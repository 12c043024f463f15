//! The check of each request as a tower layer, and denials as problem documents.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chancery_api::{Problem, Retry};
use chancery_identity::Scope;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Allowed, Denial, Guard, Peer};

impl From<&Denial> for Problem {
    fn from(denial: &Denial) -> Self {
        let status = denial.status();
        Self {
            // RFC 9457 §4.2.1: no more to read than the title; the issuer, which has the pages, is not known here.
            r#type: "about:blank".into(),
            code: denial.code().into(),
            title: denial.code().replace('-', " "),
            status,
            detail: denial.to_string(),
            instance: None,
            needs: denial.needs().iter().map(ToString::to_string).collect(),
            holds: denial.holds().iter().map(ToString::to_string).collect(),
            fix: vec![denial.fix()],
            retry: if status == 503 { Retry::After } else { Retry::No },
            request_id: None,
            log_index: None,
        }
    }
}

/// The denial as an HTTP response.
pub fn response(denial: &Denial) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(&Problem::from(denial)).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(denial.status()).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
    response
}

impl Guard {
    /// The guard as a layer. It takes the [`Peer`] from the request's extensions, so the server must put it there;
    /// [`crate::axum::serve`] does all of this.
    ///
    /// A request that is let through goes on with its path in the spelling that was checked, and with [`Allowed`] in its
    /// extensions. The layer belongs outside of whatever routes: it must see the whole path.
    pub fn layer(&self) -> GuardLayer {
        GuardLayer(self.clone())
    }
}

/// Checks each request. See [`Guard::layer`].
#[derive(Clone, Debug)]
pub struct GuardLayer(Guard);

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.0.clone(), inner }
    }
}

/// A service behind a guard.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Answer<S::Future> {
        let peer = request.extensions().get::<Peer>();
        let now = self.guard.verifier().now();
        let checked = self.guard.check(peer, request.method(), request.uri().path(), now).and_then(|allowed| {
            let uri = spelled(request.uri(), &allowed)?;
            Ok((allowed, uri))
        });
        match checked {
            Ok((allowed, uri)) => {
                *request.uri_mut() = uri;
                request.extensions_mut().insert(allowed);
                request.extensions_mut().insert(self.guard.clone());
                Answer(Ok(Box::pin(self.inner.call(request))))
            }
            Err(denial) => Answer(Err(denial)),
        }
    }
}

/// The request's URI with the path as it was checked.
fn spelled(uri: &Uri, allowed: &Allowed) -> Result<Uri, Denial> {
    let path = allowed.path().to_string();
    let target = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    let refused = || Denial::NotListed { method: "".into(), path: path.as_str().into() };
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| refused())?);
    Uri::from_parts(parts).map_err(|_| refused())
}

/// What a checked service is about to answer: what the inner service does, or a denial.
#[derive(Debug)]
pub struct Answer<F>(Result<Pin<Box<F>>, Denial>);

impl<F, R, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Either<R, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut self.get_mut().0 {
            Ok(inner) => ready!(inner.as_mut().poll(cx)).map(|response| response.map(Either::Left)),
            Err(denial) => Ok(response(denial).map(Either::Right)),
        })
    }
}

/// A layer for single routes behind a guard that asks for one more scope. It can only tighten: the guard's own check
/// comes first, and without a guard in front everything is refused.
#[derive(Clone, Debug)]
pub struct RequireScope(Scope);

impl RequireScope {
    /// Asks for this scope.
    pub const fn new(scope: Scope) -> Self {
        Self(scope)
    }
}

impl<S> Layer<S> for RequireScope {
    type Service = ScopeRequired<S>;

    fn layer(&self, inner: S) -> ScopeRequired<S> {
        ScopeRequired { needs: self.0.clone(), inner }
    }
}

/// A service that asks for one more scope.
#[derive(Clone, Debug)]
pub struct ScopeRequired<S> {
    needs: Scope,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ScopeRequired<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Answer<S::Future> {
        let extensions = request.extensions();
        let checked = match (extensions.get::<Guard>(), extensions.get::<Peer>()) {
            (Some(guard), Some(peer)) => guard.check_scope(peer, &self.needs, guard.verifier().now()),
            _ => Err(Denial::NoCertificate),
        };
        match checked {
            Ok(_) => Answer(Ok(Box::pin(self.inner.call(request)))),
            Err(denial) => Answer(Err(denial)),
        }
    }
}
