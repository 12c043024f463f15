//! Which serials of one authority are revoked: a large sorted base that is shared, and a small recent layer.
//!
//! A serial of ours is six bytes of time, then ten random ones. The base keys by the random part, so that equal spans of
//! key space hold equally many serials; a fence for each span says where it begins. A look-up reads two fences and some
//! sixteen keys, however many serials there are, at 16.3 bytes each.

use std::sync::Arc;

use chancery_identity::Serial;

/// Keys in a span, on average.
const SPAN: usize = 16;
/// The most serials the recent layer holds before they are merged into a new base.
const RECENT_MAX: usize = 4096;

/// The revoked serials of one authority. Cheap to clone; never changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    base: Arc<Base>,
    recent: Arc<[Serial]>,
}

impl Index {
    /// From the serials of a complete CRL.
    pub(crate) fn new(serials: impl Iterator<Item = Serial>) -> Self {
        Self { base: Arc::new(Base::new(serials)), recent: Arc::default() }
    }

    /// From the serials of a newer complete CRL. Keeps the base unless a serial left it or the recent layer is full.
    pub(crate) fn renewed<I: Iterator<Item = Serial>>(&self, serials: impl Fn() -> I) -> Self {
        let (mut kept, mut recent) = (0, Vec::new());
        for serial in serials() {
            if self.base.contains(&serial) {
                kept += 1;
            } else if recent.len() < RECENT_MAX {
                recent.push(serial);
            } else {
                return Self::new(serials());
            }
        }
        if kept < self.base.len() {
            return Self::new(serials());
        }
        recent.sort_unstable();
        recent.dedup();
        Self { base: Arc::clone(&self.base), recent: recent.into() }
    }

    /// Whether the serial is revoked.
    pub(crate) fn contains(&self, serial: &Serial) -> bool {
        self.recent.binary_search(serial).is_ok() || self.base.contains(serial)
    }

    /// How many are revoked.
    pub(crate) fn len(&self) -> usize {
        self.base.len() + self.recent.len()
    }
}

/// Serials with the numbers of the entries that name them: 20.3 bytes each. Never changes.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    base: Base,
    /// Of each key of the base, less `first`.
    numbers: Box<[u32]>,
    first: u64,
}

impl Numbered {
    /// Whether the layer can hold this serial.
    pub(crate) fn takes(serial: &Serial) -> bool {
        key(serial).is_some()
    }

    /// These serials and those of `self` whose numbers are above the floor. One that is named twice has the greater
    /// number.
    pub(crate) fn merged(&self, more: impl Iterator<Item = (Serial, u64)>, floor: u64) -> Self {
        let old = self.base.keys.iter().zip(&self.numbers).map(|(key, n)| (*key, self.first + u64::from(*n)));
        let mut pairs: Vec<(u128, u64)> = old.collect();
        pairs.extend(more.filter_map(|(serial, n)| Some((key(&serial)?, n))));
        pairs.retain(|(_, n)| *n > floor);
        // The old ones are in order already, which this sort makes use of.
        pairs.sort();
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            kept.1 = if same { later.1 } else { kept.1 };
            same
        });
        let first = pairs.iter().map(|(_, n)| *n).min().unwrap_or(0);
        // One that is too far off is forgotten later than it could be.
        let numbers = pairs.iter().map(|(_, n)| u32::try_from(n - first).unwrap_or(u32::MAX)).collect();
        let keys = pairs.into_iter().map(|(key, _)| key).collect();
        Self { base: Base::sorted(keys, Box::default()), numbers, first }
    }

    pub(crate) fn contains(&self, serial: &Serial) -> bool {
        self.base.contains(serial)
    }

    pub(crate) fn len(&self) -> usize {
        self.base.len()
    }

    /// What it takes in memory, in bytes.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.base.size() + size_of_val(&*self.numbers)
    }
}

/// Sorted keys of the 16-byte serials with their fences; the few of other lengths stand beside.
#[derive(Debug, Default)]
struct Base {
    keys: Box<[u128]>,
    /// `fences[s]` is where span `s` begins in `keys`; one more closes the last span.
    fences: Box<[u32]>,
    others: Box<[Serial]>,
}

impl Base {
    fn new(serials: impl Iterator<Item = Serial>) -> Self {
        let (mut keys, mut others) = (Vec::new(), Vec::new());
        for serial in serials {
            match key(&serial) {
                Some(key) => keys.push(key),
                None => others.push(serial),
            }
        }
        keys.sort_unstable();
        keys.dedup();
        others.sort_unstable();
        others.dedup();
        Self::sorted(keys.into(), others.into())
    }

    /// From keys that are in order, each once.
    fn sorted(keys: Box<[u128]>, others: Box<[Serial]>) -> Self {
        let spans = keys.len() / SPAN + 1;
        let mut fences = Vec::with_capacity(spans + 1);
        for (at, key) in keys.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            fences.resize(fences.len().max(span(*key, spans) + 1), at);
        }
        fences.resize(spans + 1, u32::try_from(keys.len()).unwrap_or(u32::MAX));
        Self { keys, fences: fences.into(), others }
    }

    fn contains(&self, serial: &Serial) -> bool {
        let Some(key) = key(serial) else { return self.others.binary_search(serial).is_ok() };
        let span = span(key, self.keys.len() / SPAN + 1);
        let fence = |at: usize| self.fences.get(at).and_then(|&fence| usize::try_from(fence).ok()).unwrap_or(0);
        let within = self.keys.get(fence(span)..fence(span + 1)).unwrap_or_default();
        within.binary_search(&key).is_ok()
    }

    fn len(&self) -> usize {
        self.keys.len() + self.others.len()
    }

    #[cfg(test)]
    fn size(&self) -> usize {
        size_of_val(&*self.keys) + size_of_val(&*self.fences)
    }
}

/// The serial with its random part first.
fn key(serial: &Serial) -> Option<u128> {
    <[u8; 16]>::try_from(serial.bytes()).ok().map(|bytes| u128::from_be_bytes(bytes).rotate_left(48))
}

/// The span of a key: its leading 32 bits scaled to the number of spans.
fn span(key: u128, spans: usize) -> usize {
    let leading = usize::try_from(key >> 96).unwrap_or(0);
    // At most 2^32 serials are counted in u32 fences, so the product stays below 2^64.
    leading.saturating_mul(spans) >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn serial() -> impl Strategy<Value = Serial> {
        let of = |bytes: Vec<u8>| Serial::from_bytes(&bytes);
        let ours = (0_u8..4, 0_u8..4).prop_map(|(a, b)| {
            let mut bytes = [0x40; 16];
            bytes[8] = a;
            bytes[6] = b << 6;
            Serial::from_bytes(&bytes).unwrap()
        });
        prop_oneof![ours, proptest::collection::vec(any::<u8>(), 1..=20).prop_filter_map("not zero", of)]
    }

    fn serials() -> impl Strategy<Value = BTreeSet<Serial>> {
        proptest::collection::btree_set(serial(), 0..200)
    }

    proptest! {
        #[test]
        fn holds_what_a_set_holds(set in serials(), others in serials()) {
            let index = Index::new(set.iter().copied());
            prop_assert_eq!(index.len(), set.len());
            for serial in set.union(&others) {
                prop_assert_eq!(index.contains(serial), set.contains(serial));
            }
        }

        #[test]
        fn renewed_holds_what_the_newer_set_holds(old in serials(), new in serials(), keep in any::<bool>()) {
            let new: BTreeSet<Serial> = if keep { old.union(&new).copied().collect() } else { new };
            let index = Index::new(old.iter().copied()).renewed(|| new.iter().copied());
            prop_assert_eq!(index.len(), new.len());
            for serial in old.union(&new) {
                prop_assert_eq!(index.contains(serial), new.contains(serial));
            }
        }
    }

    fn random_serial(state: &mut u64) -> Serial {
        let mut draw = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 32).to_be_bytes()
        };
        let [_, _, _, _, a, b, c, d] = draw();
        let [_, _, _, _, e, f, g, h] = draw();
        let [_, _, _, _, i, j, ..] = draw();
        let millis = chancery_identity::Timestamp::from_unix_millis(1_795_000_000_000);
        Serial::compose(millis, [a, b, c, d, e, f, g, h, i, j])
    }

    #[test]
    fn a_serial_costs_less_than_17_bytes() {
        let mut state = 7;
        let base = Base::new((0..100_000).map(|_| random_serial(&mut state)));
        let bytes = base.size();
        assert!(bytes < base.len() * 17, "{bytes} bytes for {} serials", base.len());
        let widest = base.fences.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest < 80, "a span holds {widest} serials");
    }

    #[test]
    fn a_numbered_serial_costs_less_than_21_bytes_and_is_forgotten_by_its_number() {
        let mut state = 7;
        let all: Vec<(Serial, u64)> = (1..=100_000).map(|n| (random_serial(&mut state), n)).collect();
        let first = Numbered::default().merged(all[..90_000].iter().copied(), 0);
        let whole = first.merged(all[90_000..].iter().copied(), 0);
        assert_eq!(whole.len(), all.len());
        assert!(whole.size() < all.len() * 21, "{} bytes", whole.size());
        assert!(all.iter().all(|(serial, _)| whole.contains(serial)));
        let later = whole.merged(std::iter::empty(), 60_000);
        assert!(all.iter().all(|(serial, n)| later.contains(serial) == (*n > 60_000)));
    }

    #[test]
    fn an_update_keeps_the_base_until_the_recent_layer_is_full() {
        let mut state = 7;
        let all: Vec<Serial> = (0..20_000).map(|_| random_serial(&mut state)).collect();
        let index = Index::new(all[..10_000].iter().copied());
        let more = index.renewed(|| all[..10_000 + RECENT_MAX].iter().copied());
        assert!(Arc::ptr_eq(&index.base, &more.base));
        let most = more.renewed(|| all.iter().copied());
        assert!(!Arc::ptr_eq(&index.base, &most.base));
        assert_eq!(most.len(), 20_000);
        let fewer = index.renewed(|| all[1..10_000].iter().copied());
        assert!(!fewer.contains(&all[0]) && fewer.contains(&all[1]));
    }
}
