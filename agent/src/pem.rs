//! PEM, both ways (RFC 7468).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

/// One block, in lines of 64 letters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // 48 bytes are 64 letters (RFC 7468 §2).
    for line in der.chunks(48) {
        BASE64_STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

pub(crate) fn encode_certificates(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| encode("CERTIFICATE", der)).collect()
}

pub(crate) fn encode_crls(crls: &[CertificateRevocationListDer<'_>]) -> String {
    crls.iter().map(|der| encode("X509 CRL", der)).collect()
}

/// Every certificate in the text; `None` when a block is broken or there is no certificate.
pub(crate) fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

/// Every CRL in the text; `None` when a block is broken.
pub(crate) fn crls(pem: &str) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(ders in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..4)) {
            let wanted: Vec<_> = ders.into_iter().map(CertificateDer::from).collect();
            let text = encode_certificates(&wanted);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            prop_assert_eq!(certificates(&text).unwrap(), wanted);
        }
    }

    #[test]
    fn broken_or_empty_text_is_no_chain() {
        assert_eq!(certificates(""), None);
        assert_eq!(certificates("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(crls("").unwrap(), []);
    }
}
