//! Load and limit in one run: each figure stands beside the limit it is measured against, taken at the same time on the
//! same machine. Prints a table and, last, one JSON object with its parts and `ratio`.

mod crl;
mod drive;
mod handshake;
mod http;
mod issue;
mod issuer;
mod memory;
mod ocsp;
mod report;
mod revoke;
mod start;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// As the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Load and limit in one run")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Durable issuance, in process and over HTTP/2 with mutual TLS, against the crypto alone.
    Issue(issue::Options),
    /// Handshakes with a verifier that knows revoked serials, against rustls without revocation and with its own.
    Handshake(handshake::Options),
    /// A CRL built and signed.
    Crl(crl::Options),
    /// OCSP answers, kept and with a nonce, against the signing alone.
    Ocsp(ocsp::Options),
    /// From the answer to a revocation until all connected verifiers refuse, and have closed what was open.
    Revoke(revoke::Options),
    /// From the start of an agent's process to its first certificate.
    Start(start::Options),
    /// The issuer's memory, with nothing registered and with many agents.
    Memory(memory::Options),
    /// The agent that `start` waits for.
    #[command(hide = true)]
    StartChild {
        /// Prints at once.
        #[arg(long)]
        bare: bool,
    },
    /// The issuer that `issue` calls over HTTP.
    #[command(hide = true)]
    ServeChild { folder: PathBuf },
    /// The issuer that `revoke` measures.
    #[command(hide = true)]
    ServeWholeChild { folder: PathBuf },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Bench::Issue(options) => issue::run(&options),
        Bench::Handshake(options) => handshake::run(&options),
        Bench::Crl(options) => crl::run(&options),
        Bench::Ocsp(options) => ocsp::run(&options),
        Bench::Revoke(options) => revoke::run(&options),
        Bench::Start(options) => start::run(&options),
        Bench::Memory(options) => memory::run(&options),
        Bench::StartChild { bare } => start::child(bare),
        Bench::ServeChild { folder } => http::serve_child(&folder),
        Bench::ServeWholeChild { folder } => http::serve_whole_child(&folder),
    }
}
