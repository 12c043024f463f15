//! The client's certificate as proxies forward it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The most letters of a forwarded certificate: the largest leaf, as PEM, with every byte escaped, and a chain behind it.
const LEN_MAX: usize = 64 << 10;

/// A forwarded certificate that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the leaf: PEM, or DER in base64 as it is or between colons (RFC 9440 §2.1), each percent-encoded or not. Of several the
/// first, in PEM or by commas.
///
/// nginx and Envoy forward percent-encoded PEM, Caddy base64, Traefik base64 by commas.
pub(super) fn leaf(forwarded: &str) -> Result<CertificateDer<'static>, Malformed> {
    if forwarded.len() > LEN_MAX {
        return Err(Malformed);
    }
    let plain = decode_percent(forwarded)?;
    if plain.starts_with(b"-----BEGIN") {
        return CertificateDer::from_pem_slice(&plain).map_err(|_| Malformed);
    }
    let first = plain.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    let first = first.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b":")).unwrap_or(first);
    let der = BASE64_STANDARD.decode(first).map_err(|_| Malformed)?;
    if der.is_empty() { Err(Malformed) } else { Ok(der.into()) }
}

fn decode_percent(text: &str) -> Result<Vec<u8>, Malformed> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Malformed);
        plain.push(u8::try_from(digit()? * 16 + digit()?).map_err(|_| Malformed)?);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use chancery_testkit::TestCa;
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    }

    #[test]
    fn every_proxy_s_spelling_is_the_same_certificate() {
        let chain = TestCa::new("example.org").agent("invoice-bot").issue().chain;
        let [leaf_der, issuing] = &chain[..] else { panic!("a chain of two") };
        let base64 = |der: &CertificateDer<'_>| BASE64_STANDARD.encode(der);
        let lines: String =
            base64(leaf_der).as_bytes().chunks(64).map(|line| format!("{}\n", str::from_utf8(line).unwrap())).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n");
        let both = format!("{},{}", base64(leaf_der), base64(issuing));
        let spellings = [
            escaped(&pem),
            pem.replace('\n', "%0A"),
            base64(leaf_der),
            both.clone(),
            escaped(&both),
            format!(":{}:", base64(leaf_der)),
        ];
        for spelling in spellings {
            assert_eq!(leaf(&spelling).as_ref(), Ok(leaf_der), "{spelling}");
        }
        for none in ["", "x", "%", "%4", "%zz", "::", "-----BEGIN CERTIFICATE-----", &"A".repeat(LEN_MAX + 4)] {
            assert_eq!(leaf(none), Err(Malformed), "{none:.40}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".*") {
            let _ = leaf(&text);
        }
    }
}
