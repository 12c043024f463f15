//! The `spiffe` crate reads an X509-SVID as a Workload API would hand it over: chain.der key.der bundle.der trust-domain.

use std::error::Error;
use std::{env, fs};

use spiffe::{TrustDomain, X509Bundle, X509Svid};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [chain, key, bundle, trust_domain] = arguments.as_slice() else {
        return Err("usage: spiffe-judge <chain.der> <key.der> <bundle.der> <trust domain>".into());
    };
    let svid = X509Svid::parse_from_der(&fs::read(chain)?, &fs::read(key)?)?;
    let trust_domain = TrustDomain::new(trust_domain)?;
    if *svid.spiffe_id().trust_domain() != trust_domain {
        return Err(format!("of another trust domain: {}", svid.spiffe_id()).into());
    }
    let bundle = X509Bundle::parse_from_der(trust_domain, &fs::read(bundle)?)?;
    println!("{}, chain of {}, bundle of {}", svid.spiffe_id(), svid.cert_chain().len(), bundle.authorities().len());
    Ok(())
}
