//! What must hold of every input, however it was made: the bodies that fuzz targets and property tests share.

use chancery_identity::der::{Reader, Writer};
use chancery_identity::normalise::Path;
use chancery_identity::{Grant, Leaf, Pattern, Scope, SpiffeId, Target, Timestamp};

/// What parses is shown as it came, and never longer than a SPIFFE ID may be.
pub(crate) fn spiffe_id(text: &str) {
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.as_str(), text);
    assert_eq!(format!("{}{}", id.trust_domain().id(), id.path()), text);
    assert!(id.is_in(&id.trust_domain()));
    assert!(text.len() <= 2048 && id.trust_domain().as_str().len() <= 255);
    assert!(!text.contains(['%', '?', '#', '@']) && !text.ends_with('/') && !id.path().contains("//"));
    let _ = id.principal();
}

/// What parses has one spelling, lies within itself, and is a pattern too.
pub(crate) fn scope(text: &str) {
    let Ok(scope) = text.parse::<Scope>() else { return };
    assert_eq!(scope.to_string(), text);
    assert_eq!(format!("{}:{}/{}", scope.action(), scope.system(), scope.object()), text);
    assert!(scope.covers(&scope) && scope.overlaps(&scope));
    assert!(text.parse::<Pattern>().is_ok_and(|pattern| pattern.covers(&scope)));
}

/// What is normalised stays as it is when normalised again, and can stand in a scope that allows that object alone.
pub(crate) fn normalise_path(text: &str) {
    let Ok(path) = Path::parse(text) else { return };
    let spelled = path.to_string();
    assert_eq!(Path::parse(&spelled).as_ref(), Ok(&path));
    if path.segments().is_empty() || spelled.len() > 200 {
        return;
    }
    let scope: Scope = format!("GET:system{spelled}").parse().expect("a normalised path is a scope's object");
    assert!(scope.is_concrete());
}

/// What is read as a grant is what would be written.
pub(crate) fn grant(der: &[u8]) {
    if let Ok(grant) = Grant::from_der(der) {
        assert_eq!(grant.to_der(), der);
    }
}

/// What is read as a leaf points into the bytes it came from, and says the same owned as borrowed.
pub(crate) fn leaf(der: &[u8]) {
    let Ok(leaf) = Leaf::read(der) else { return };
    assert_eq!(leaf.der(), der);
    let range = der.as_ptr_range();
    for part in [leaf.spki(), leaf.serial(), leaf.spiffe_id().as_bytes()] {
        assert!(range.contains(&part.as_ptr()));
    }
    let certificate = leaf.certificate();
    assert_eq!(certificate.spiffe_id.as_str(), leaf.spiffe_id());
    assert!(!certificate.spiffe_id.path().is_empty());
    assert!(leaf.scopes().iter().all(|held| certificate.scopes.iter().any(|scope| scope.as_str() == *held)));
    assert!(certificate.scopes.is_empty() || certificate.grant.is_some());
    assert_eq!(certificate.grant.is_some(), leaf.grant_der().is_some());
}

/// What parses is shown in one spelling that means the same.
pub(crate) fn target(text: &str) {
    let Ok(target) = text.parse::<Target>() else { return };
    let shown = target.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(&target));
    assert!(shown.contains(':'));
}

/// What parses is shown as an instant that parses back to itself.
pub(crate) fn timestamp(text: &str) {
    let Ok(at) = text.parse::<Timestamp>() else { return };
    assert_eq!(at.to_string().parse(), Ok(at));
    assert_eq!(Timestamp::from_civil(at.civil()), Some(at.floor_to_second()));
}

/// What is read value by value is what the writer would write.
pub(crate) fn der(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let mut writer = Writer::new();
    let mut taken = 0;
    while let Ok((tag, contents, whole)) = reader.read_any() {
        writer.value(tag, contents);
        taken += whole.len();
    }
    assert_eq!(writer.finish(), bytes[..taken]);
}
