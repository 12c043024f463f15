//! A service: mutual TLS, scopes and revocation on every request, in ten lines.
//!
//! ```sh
//! chancery services create crm --owner team-crm --system crm --dns localhost --join
//! CHANCERY_JOIN='https://127.0.0.1:8443#chj_…' cargo run --example service
//! ```

use axum::Router;
use axum::routing::{get, post};
use chancery_agent::Identity;
use chancery_verifier::{Peer, Rules, Verifier};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = Identity::from_env().await?;
    let rules = Rules::new() // what is not listed is refused
        .allow("GET", "/customers/{id}", "tools/call:crm/get_customer")?
        .allow("POST", "/refunds", "tools/call:crm/refund")?
        .public("GET", "/healthz");
    let verifier = Verifier::start(id).await?;
    let app = Router::new()
        .route("/customers/{id}", get(show))
        .route("/refunds", post(|| async { "refunded" }))
        .route("/healthz", get(|| async { "well" }));
    let listener = TcpListener::bind("127.0.0.1:9443").await?;
    println!("on https://localhost:9443");
    Ok(chancery_verifier::axum::serve(listener, app, verifier.guard(rules)?).await?)
}

async fn show(peer: Peer) -> String {
    format!("hello {}", peer.spiffe_id())
}
