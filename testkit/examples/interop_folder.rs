//! Writes certificates, keys and CRLs as files for other people's programs to judge: `interop_folder <folder>`.
//!
//! The folder is laid out as `chancery demo` leaves it: `bundle.pem` (the root), `issuing.pem`, `crl.pem` (the issuing
//! authority's CRL, then the root's), and a `cert.pem` (leaf, then issuing) with its `key.pem` each in `good/` (an agent with
//! two scopes), `revoked/` (an agent that the CRL lists), `service/` (crm, at crm.localhost) and `foreign/` (another trust
//! domain's, with its own `bundle.pem` and `crl.pem`). Beyond that: `before.pem`, the CRLs before the revocation;
//! `lapsed.pem`, CRLs whose nextUpdate has passed; `widest/`, an agent whose certificate is as large as they get.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use chancery_identity::{LEAF_LEN_MAX, Serial, Timestamp};
use chancery_testkit::{Issued, Subject, TestCa};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(folder) = env::args().nth(1) else { return Err("usage: interop_folder <folder>".into()) };
    let folder = Path::new(&folder);
    let now = now()?;
    let ca = TestCa::at("interop.test", now);

    let agent = ca.agent("invoice-bot").scope("tools/call:crm/get_customer").scope("resources/read:docs/projects/**");
    let revoked = ca.agent("refund-bot").scope("tools/call:crm/refund").issue();
    let serial = revoked.certificate.serial;
    write(&folder.join("good"), &agent.issue())?;
    write(&folder.join("revoked"), &revoked)?;
    write(&folder.join("service"), &ca.service("crm").system("crm").dns("crm.localhost").issue())?;
    write(&folder.join("widest"), &widest(&ca))?;
    fs::write(folder.join("bundle.pem"), pem("CERTIFICATE", &ca.root()))?;
    fs::write(folder.join("issuing.pem"), pem("CERTIFICATE", ca.authority().certificate().der()))?;
    let long_ago = now - Duration::from_secs(7200);
    fs::write(folder.join("before.pem"), crls(&ca, now - Duration::from_secs(60), &[])?)?;
    fs::write(folder.join("crl.pem"), crls(&ca, now, &[serial])?)?;
    fs::write(folder.join("lapsed.pem"), crls(&ca, long_ago, &[serial])?)?;

    // Keys of its own, not only a name of its own.
    let other = TestCa::at("other.test", now).impostor();
    let folder = folder.join("foreign");
    write(&folder, &other.agent("invoice-bot").scope("tools/call:crm/get_customer").issue())?;
    fs::write(folder.join("bundle.pem"), pem("CERTIFICATE", &other.root()))?;
    fs::write(folder.join("crl.pem"), crls(&other, now, &[])?)?;
    Ok(())
}

/// The agent with as many scopes as its certificate has room for.
fn widest(ca: &TestCa) -> Issued {
    let scope = |n: u32| format!("tools/call:crm/customers/region-{n:02}/invoices/open/**");
    let with = |n: u32| (0..n).fold(ca.agent("busy-bot"), |agent: Subject, n| agent.scope(&scope(n)));
    let one_more = (with(21).issue().leaf().len() - with(1).issue().leaf().len()) / 20;
    let room = LEAF_LEN_MAX.saturating_sub(with(1).issue().leaf().len() + 64) / one_more;
    with(u32::try_from(room).unwrap_or(0).min(64)).issue()
}

/// The issuing authority's CRL, then the root's.
fn crls(ca: &TestCa, at: Timestamp, revoked: &[Serial]) -> Result<String, Box<dyn Error>> {
    let crls = ca.crls_at(at, revoked);
    let [issuing, .., root] = crls.as_slice() else { return Err("the kit made fewer CRLs than authorities".into()) };
    Ok(pem("X509 CRL", issuing) + &pem("X509 CRL", root))
}

fn write(folder: &Path, issued: &Issued) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let chain: String = issued.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
    fs::write(folder.join("cert.pem"), chain)?;
    fs::write(folder.join("key.pem"), pem("PRIVATE KEY", issued.key.secret_der()))?;
    Ok(())
}

/// RFC 7468 §3: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = format!(
        "-----BEGIN {label}-----
"
    );
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        let _ = writeln!(pem, "{line}");
        rest = more;
    }
    let _ = writeln!(pem, "-----END {label}-----");
    pem
}

#[expect(clippy::disallowed_methods, reason = "other people's programs read the machine's clock")]
fn now() -> Result<Timestamp, Box<dyn Error>> {
    Ok(Timestamp::from_unix_millis(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?))
}
