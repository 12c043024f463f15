//! What a signing attestor signs: one digest that ties a nonce, a name and a new key together.

/// The bytes whose SHA-256 is the binding: label, trust domain, name, nonce and the SHA-256 of the new key's
/// SubjectPublicKeyInfo, each with its length before it as a big-endian u16.
///
/// The signature is made over the 32 bytes of that SHA-256, as a message, by the key that the evidence certifies. `None`
/// when a part is longer than a u16 can say.
pub fn binding_preimage(trust_domain: &str, name: &str, nonce: &str, spki_sha256: &[u8; 32]) -> Option<Vec<u8>> {
    const LABEL: &[u8] = b"chancery attest v1";
    let mut preimage = Vec::new();
    for part in [LABEL, trust_domain.as_bytes(), name.as_bytes(), nonce.as_bytes(), spki_sha256] {
        preimage.extend_from_slice(&u16::try_from(part.len()).ok()?.to_be_bytes());
        preimage.extend_from_slice(part);
    }
    Some(preimage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_from_one_part_to_the_next_changes_it() {
        let one = binding_preimage("example.org", "bot", "n", &[0; 32]);
        let other = binding_preimage("example.orgb", "ot", "n", &[0; 32]);
        assert_ne!(one, other);
        assert_eq!(binding_preimage(&"x".repeat(65_536), "bot", "n", &[0; 32]), None);
    }
}
