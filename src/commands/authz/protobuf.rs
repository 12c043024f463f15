//! As much of Protocol Buffers' wire format as one message in and one out need.

/// Bytes that are no message, or say one field twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The length-delimited field at the end of a way through messages, by field numbers; empty if it or one on the way is not there,
/// as the format has it. A field on the way that comes twice is refused: of two, readers can take either.
pub(super) fn find<'a>(message: &'a [u8], way: &[u64]) -> Result<&'a [u8], Malformed> {
    let mut inner = message;
    for &number in way {
        let mut found = None;
        let mut rest = inner;
        while !rest.is_empty() {
            let (came, value) = field(&mut rest)?;
            if came == number && found.replace(value.ok_or(Malformed)?).is_some() {
                return Err(Malformed);
            }
        }
        inner = found.unwrap_or_default();
    }
    Ok(inner)
}

/// One field's number, and its contents if it is length-delimited.
fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Option<&'a [u8]>), Malformed> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => {
            varint(rest)?;
            None
        }
        1 => {
            take(rest, 8)?;
            None
        }
        2 => {
            let len = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
            Some(take(rest, len)?)
        }
        5 => {
            take(rest, 4)?;
            None
        }
        _ => return Err(Malformed),
    };
    match tag >> 3 {
        0 => Err(Malformed),
        number => Ok((number, value)),
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first().ok_or(Malformed)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(Malformed);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// With a field that is a number, a bool or an enum.
    pub(super) fn number(mut self, number: u64, value: u64) -> Self {
        self.varint(number << 3);
        self.varint(value);
        self
    }

    /// With a field that is a text, bytes or a message.
    pub(super) fn bytes(mut self, number: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let inner = Message::default().number(1, 300).bytes(5, "text").number(2, u64::MAX);
        let outer = Message::default().bytes(3, "other").bytes(1, &inner).bytes(16, "far").into_bytes();
        assert_eq!(find(&outer, &[1, 5]), Ok(&b"text"[..]));
        assert_eq!(find(&outer, &[16]), Ok(&b"far"[..]));
        assert_eq!(find(&outer, &[1, 6]), Ok(&b""[..]));
        assert_eq!(find(&outer, &[9, 5]), Ok(&b""[..]));
        // A number is not what is looked for, and what is there twice can be read in two ways.
        assert_eq!(find(&outer, &[1, 1]), Err(Malformed));
        assert_eq!(find(&[outer.clone(), outer].concat(), &[1, 5]), Err(Malformed));
    }

    /// The bytes are those of the format's own documentation: field 1 = 150, field 2 = "testing".
    #[test]
    fn the_documented_examples_are_read_and_written() {
        assert_eq!(Message::default().number(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        let text = [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67];
        assert_eq!(Message::default().bytes(2, "testing").into_bytes(), text);
        assert_eq!(find(&text, &[2]), Ok(&b"testing"[..]));
        for wrong in [&[0x08][..], &[0x12, 0x07, 0x74], &[0x0b], &[0x00, 0x01], &[0xff; 11], &[0x0d, 1, 2, 3]] {
            assert_eq!(find(wrong, &[2]), Err(Malformed), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200), way in prop::collection::vec(1..20_u64, 1..4)) {
            let _ = find(&bytes, &way);
        }

        #[test]
        fn every_number_and_text_comes_back(number in 1..1_u64 << 29, text in ".*", value: u64) {
            let bytes = Message::default().number(number + 1, value).bytes(number, &text).into_bytes();
            prop_assert_eq!(find(&bytes, &[number]).unwrap(), text.as_bytes());
        }
    }
}
