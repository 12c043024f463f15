//! Tiles, as [c2sp.org/tlog-tiles](https://c2sp.org/tlog-tiles) cuts and names them: 256 hashes wide, 8 levels high.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::frontier::SIZE_MAX;
use crate::hash::Hash;

/// A node of a tile above level 0: the root of a full tile of the level below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileNode {
    /// The level of the tile that the node stands in, 1 to 7.
    pub level: u8,
    /// The node's position in its level, counted over all tiles; its tile is `index / 256`.
    pub index: u64,
    /// The Merkle Tree Hash of the leaves `[index · 256^level, (index + 1) · 256^level)`.
    pub hash: Hash,
}

/// The coordinates of a tile of hashes. Its text is its path below the log's prefix: `tile/0/x001/234.p/12`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile of a level that holds a position, as wide as it is in a tree of `size` leaves.
    ///
    /// `None` where the tree is too small to have it.
    pub fn holding(level: u8, position: u64, size: u64) -> Option<Self> {
        let index = position / u64::from(WIDTH);
        let nodes = level_len(level, size)?;
        let width = width_at(index, nodes)?;
        (position < nodes).then_some(Self { level, index, width })
    }

    /// The level: 0 for leaf hashes.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The tile's number in its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// The positions in its level of the hashes it holds: at level 0 the indexes of the leaves, above it those of
    /// [`TileNode`]s.
    pub fn positions(&self) -> Range<u64> {
        let start = self.index * u64::from(WIDTH);
        start..start + u64::from(self.width)
    }

    /// Whether a tree of `size` leaves has all its hashes; only such a tile may be served.
    pub fn within(&self, size: u64) -> bool {
        level_len(self.level, size).is_some_and(|nodes| self.positions().end <= nodes)
    }

    /// What is served for the tile: its hashes end to end. Refuses any number but [`Tile::width`].
    pub fn to_bytes(&self, hashes: &[Hash]) -> Result<Vec<u8>, TileError> {
        self.expect_width(hashes.len())?;
        Ok(hashes.iter().flat_map(|hash| hash.0).collect())
    }

    /// Reads what [`Tile::to_bytes`] wrote.
    pub fn parse_bytes(&self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        let hashes = bytes.chunks_exact(Hash::LEN);
        if !hashes.remainder().is_empty() {
            return Err(TileError::Bytes);
        }
        self.expect_width(hashes.len())?;
        Ok(hashes.filter_map(|hash| hash.try_into().ok().map(Hash)).collect())
    }

    fn expect_width(&self, got: usize) -> Result<(), TileError> {
        if got == usize::from(self.width) { Ok(()) } else { Err(TileError::Width { wanted: self.width, got }) }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_place(f, self.index, self.width)
    }
}

impl FromStr for Tile {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let (level, place) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(TileError::Path)?;
        let level = parse_decimal(level).and_then(|level| u8::try_from(level).ok()).ok_or(TileError::Path)?;
        let (index, width) = parse_place(place).ok_or(TileError::Path)?;
        let tile = Self { level, index, width };
        if tile.within(SIZE_MAX) { Ok(tile) } else { Err(TileError::Path) }
    }
}

/// The coordinates of an entry bundle. Its text is its path below the log's prefix: `tile/entries/x001/234.p/12`.
///
/// The entries of this log are the 32-byte commitments of records: see [`Entry`](crate::Entry).
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bundle {
    index: u64,
    width: u16,
}

impl Bundle {
    /// The bundle that holds an entry, as wide as it is in a tree of `size` leaves; `None` past the end.
    pub fn holding(entry: u64, size: u64) -> Option<Self> {
        Tile::holding(0, entry, size).map(|tile| Self { index: tile.index, width: tile.width })
    }

    /// The indexes of its entries.
    pub fn positions(&self) -> Range<u64> {
        self.tile().positions()
    }

    /// Whether a tree of `size` leaves has all its entries; only such a bundle may be served.
    pub fn within(&self, size: u64) -> bool {
        self.tile().within(size)
    }

    /// What is served for the bundle: each entry after its length as 2 bytes, big-endian.
    ///
    /// Refuses any number of entries but [`Bundle::positions`]' length, and entries above 65,535 bytes.
    pub fn to_bytes<E: AsRef<[u8]>>(&self, entries: &[E]) -> Result<Vec<u8>, TileError> {
        self.tile().expect_width(entries.len())?;
        let mut bytes = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            let len = u16::try_from(entry.len()).map_err(|_| TileError::Entry(entry.len()))?;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        Ok(bytes)
    }

    /// Reads what [`Bundle::to_bytes`] wrote.
    pub fn parse_bytes(&self, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, TileError> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let (len, rest) = bytes.split_first_chunk::<2>().ok_or(TileError::Bytes)?;
            let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(TileError::Bytes)?;
            entries.push(entry.to_vec());
            bytes = rest;
        }
        self.tile().expect_width(entries.len())?;
        Ok(entries)
    }

    /// The tile of the entries' leaf hashes.
    pub fn tile(&self) -> Tile {
        Tile { level: 0, index: self.index, width: self.width }
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_place(f, self.index, self.width)
    }
}

impl FromStr for Bundle {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let place = path.strip_prefix("tile/entries/").ok_or(TileError::Path)?;
        let (index, width) = parse_place(place).ok_or(TileError::Path)?;
        let bundle = Self { index, width };
        if bundle.within(SIZE_MAX) { Ok(bundle) } else { Err(TileError::Path) }
    }
}

/// What is wrong with a tile's or bundle's path or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not a path that a tile or bundle of a tree below 2^63 leaves has.
    #[error("wanted tile/<level>/<index>[.p/<width>] or tile/entries/<index>[.p/<width>], index as x001/x234/067")]
    Path,
    /// The tile or bundle has another number of hashes or entries than its coordinates say.
    #[error("wanted {wanted} hashes or entries, got {got}")]
    Width {
        /// What the coordinates say.
        wanted: u16,
        /// What came.
        got: usize,
    },
    /// The bytes end inside a hash or an entry.
    #[error("the bytes end inside a hash or an entry")]
    Bytes,
    /// An entry longer than its 2-byte length can say.
    #[error("wanted an entry of at most 65535 bytes, got {0}")]
    Entry(usize),
}

/// How many hashes of a level a tree of `size` leaves has; `None` for a level that no tree below 2^63 leaves has.
fn level_len(level: u8, size: u64) -> Option<u64> {
    (level <= LEVEL_MAX).then(|| size >> (HEIGHT * u32::from(level)))
}

/// How wide the tile `index` of a level of `nodes` hashes is; `None` past the end.
fn width_at(index: u64, nodes: u64) -> Option<u16> {
    let start = index.checked_mul(u64::from(WIDTH))?;
    let rest = nodes.checked_sub(start).filter(|rest| *rest > 0)?;
    Some(rest.min(u64::from(WIDTH)) as u16)
}

fn write_place(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    let mut groups = vec![index % 1000];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.push(rest % 1000);
        rest /= 1000;
    }
    while let Some(group) = groups.pop() {
        if groups.is_empty() {
            write!(f, "{group:03}")?;
        } else {
            write!(f, "x{group:03}/")?;
        }
    }
    if width < WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
}

fn parse_place(place: &str) -> Option<(u64, u16)> {
    let (index, width) = match place.split_once(".p/") {
        Some((index, width)) => (index, parse_decimal(width).filter(|width| (1..u64::from(WIDTH)).contains(width))?),
        None => (place, u64::from(WIDTH)),
    };
    let (upper, last) = index.rsplit_once('/').map_or((None, index), |(upper, last)| (Some(upper), last));
    let mut value = 0u64;
    let mut groups = 0;
    for group in
        upper.into_iter().flat_map(|upper| upper.split('/')).map(|group| group.strip_prefix('x')).chain([Some(last)])
    {
        let group = group.filter(|group| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit()))?;
        value = value.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
        groups += 1;
        // "zero-padded 3-digit path elements": one spelling for each index, so no leading x000.
        if value == 0 && groups == 1 && upper.is_some() {
            return None;
        }
    }
    Some((value, width as u16))
}

/// An ASCII decimal without leading zeroes, up to 2^63 − 1.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if digits && canonical { text.parse().ok().filter(|value| *value <= SIZE_MAX) } else { None }
}

/// The levels of the tree that one tile spans.
pub(crate) const HEIGHT: u32 = 8;
/// The hashes in a full tile.
const WIDTH: u16 = 256;
/// 256^8 leaves are more than a tree can have.
const LEVEL_MAX: u8 = 7;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive;

    #[test]
    fn paths_of_the_specification() {
        let tile = Tile { level: 0, index: 1_234_067, width: 256 };
        assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
        assert_eq!("tile/0/x001/x234/067".parse(), Ok(tile));
        assert_eq!(Bundle { index: 0, width: 1 }.to_string(), "tile/entries/000.p/1");

        // "a tree of size 70,000 will be represented by 273 full level 0 tiles, one partial level 0 tile of width 112,
        // one full level 1 tile, one partial level 1 tile of width 17, and one partial level 2 tile of width 1"
        let tiles = |level| {
            (0..)
                .step_by(256)
                .map_while(move |at| Tile::holding(level, at, 70_000))
                .map(|tile| tile.width)
                .collect::<Vec<_>>()
        };
        assert_eq!(tiles(0), [vec![256; 273], vec![112]].concat());
        assert_eq!(tiles(1), [256, 17]);
        assert_eq!(tiles(2), [1]);
        assert!(tiles(3).is_empty());
        assert_eq!(Tile::holding(8, 0, u64::MAX), None);
    }

    #[test]
    fn one_spelling_for_each_tile() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/+1/000",
            "tile/-1/000",
            "tile/8/000",
            "tile/64/000",
            "tile/256/000",
            "tile/0/x000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001/x002",
            "tile/0/x001//002",
            "tile/0/x01/002",
            "tile/0/000.p/0",
            "tile/0/000.p/00",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000/",
            "tile/0/+01",
            "tile/0/٠٠٠",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/7/128",
            "tile/entries/000",
            "tile/0/../000",
        ] {
            assert_eq!(path.parse::<Tile>(), Err(TileError::Path), "{path}");
        }
        for path in ["tile/0/000", "entries/000", "tile/entries/", "tile/entries/000.p/256", "tile/entries/x000/000"] {
            assert_eq!(path.parse::<Bundle>(), Err(TileError::Path), "{path}");
        }
    }

    #[test]
    fn only_what_the_tree_has() {
        let tile: Tile = "tile/0/000.p/5".parse().unwrap();
        assert!(tile.within(5) && tile.within(300) && !tile.within(4));
        let tile: Tile = "tile/1/000".parse().unwrap();
        assert!(tile.within(65_536) && !tile.within(65_535));
        let bundle: Bundle = "tile/entries/001.p/1".parse().unwrap();
        assert!(bundle.within(257) && !bundle.within(256));
    }

    #[test]
    fn bytes_of_the_wrong_length() {
        let tile = Tile::holding(0, 0, 2).unwrap();
        let hashes = naive::leaves(2);
        let bytes = tile.to_bytes(&hashes).unwrap();
        assert_eq!(tile.parse_bytes(&bytes).unwrap(), hashes);
        assert_eq!(tile.parse_bytes(&bytes[..63]), Err(TileError::Bytes));
        assert_eq!(tile.parse_bytes(&bytes[..32]), Err(TileError::Width { wanted: 2, got: 1 }));
        assert_eq!(tile.to_bytes(&naive::leaves(3)), Err(TileError::Width { wanted: 2, got: 3 }));

        let bundle = Bundle::holding(1, 2).unwrap();
        assert_eq!(bundle.to_bytes(&["a", "bc"]).unwrap(), b"\0\x01a\0\x02bc");
        assert_eq!(bundle.to_bytes(&["", &"x".repeat(65_536)]), Err(TileError::Entry(65_536)));
        assert_eq!(bundle.to_bytes(&[""]), Err(TileError::Width { wanted: 2, got: 1 }));
        assert_eq!(bundle.parse_bytes(b"\0\x01a\0\x02b"), Err(TileError::Bytes));
        assert_eq!(bundle.parse_bytes(b"\0\x01a\0"), Err(TileError::Bytes));
        assert_eq!(bundle.parse_bytes(b"\0\x01a"), Err(TileError::Width { wanted: 2, got: 1 }));
    }

    proptest! {
        #[test]
        fn paths_parse_back(level in 0u8..=7, position: u64, size in 0..=SIZE_MAX) {
            if let Some(tile) = Tile::holding(level, position, size) {
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
                prop_assert!(tile.within(size));
                prop_assert!(tile.positions().contains(&position));
            }
        }

        #[test]
        fn any_path_has_one_meaning(path in "(tile/)?[0-9a-z./x]{0,20}|tile/[0-9]/(x[0-9]{3}/){0,3}[0-9]{3}(\\.p/[0-9]{1,3})?") {
            if let Ok(tile) = path.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), path.as_str());
            }
            if let Ok(bundle) = path.parse::<Bundle>() {
                prop_assert_eq!(bundle.to_string(), path.as_str());
            }
        }

        #[test]
        fn bundles_parse_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..256)) {
            let bundle = Bundle::holding(0, entries.len() as u64).unwrap();
            prop_assert_eq!(bundle.parse_bytes(&bundle.to_bytes(&entries).unwrap()).unwrap(), entries);
        }

        #[test]
        fn bundle_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), width in 1u16..=256) {
            let bundle = Bundle { index: 0, width };
            if let Ok(entries) = bundle.parse_bytes(&bytes) {
                prop_assert_eq!(bundle.to_bytes(&entries).unwrap(), bytes);
            }
        }
    }
}
