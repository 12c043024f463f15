//! Server-sent events (WHATWG HTML §9.2.6), as bytes come: one event after the other, each of a bounded size.

use super::FeedRefused;

/// The most bytes of one event's lines: a bundle of some hundred roots fits.
const EVENT_LEN_MAX: usize = 1 << 20;

/// One event with data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty when it has none.
    pub(super) kind: String,
    /// Its data lines, joined by newlines.
    pub(super) data: String,
}

/// Puts events together.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    event: Event,
    /// Bytes of the event so far.
    len: usize,
    has_data: bool,
    /// The last line ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Decoder {
    /// The next whole event in `bytes`, which is cut by what was read; `None` when all is read.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, FeedRefused> {
        loop {
            if !bytes.is_empty() && std::mem::take(&mut self.after_return) {
                *bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (line, rest) = match end.and_then(|end| bytes.split_at_checked(end)) {
                Some((line, rest)) => (line, rest.split_first()),
                None => (*bytes, None),
            };
            self.len = self.len.saturating_add(line.len());
            if self.len > EVENT_LEN_MAX {
                return Err(FeedRefused::Oversize { most: EVENT_LEN_MAX });
            }
            let Some((&end, rest)) = rest else {
                self.line.extend_from_slice(line);
                *bytes = &[];
                return Ok(None);
            };
            *bytes = rest;
            // A line feed may come with the next bytes.
            self.after_return = end == b'\r';
            // Most lines come whole.
            let mut begun = std::mem::take(&mut self.line);
            let line = if begun.is_empty() {
                line
            } else {
                begun.extend_from_slice(line);
                &begun
            };
            let line = std::str::from_utf8(line).map_err(|_| FeedRefused::Text)?;
            if let Some(event) = self.take_line(line) {
                return Ok(Some(event));
            }
        }
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            self.len = 0;
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment has no name; ids and retries are for other clients.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut events = Vec::new();
        while let Some(event) = decoder.next(&mut bytes).unwrap() {
            events.push((event.kind, event.data));
        }
        events
    }

    fn pair(kind: &str, data: &str) -> (String, String) {
        (kind.into(), data.into())
    }

    #[test]
    fn reads_what_the_standard_shows() {
        let text = ": hello\n\nevent: entry\nid: 1.2\ndata: {}\n\ndata\ndata:\n\ndata: a\rdata:  b\r\n\r\nevent: x\n\ndata: cut";
        let events = all(&mut Decoder::default(), text.as_bytes());
        assert_eq!(events, [pair("entry", "{}"), pair("", "\n"), pair("", "a\n b")]);
    }

    #[test]
    fn one_event_has_bounds() {
        let mut decoder = Decoder::default();
        let chunk = [b'x'; 1 << 16];
        let refused = (0..32).find_map(|_| decoder.next(&mut &chunk[..]).err());
        assert!(matches!(refused, Some(FeedRefused::Oversize { .. })));
        let mut decoder = Decoder::default();
        let refused = (0..1 << 20).find_map(|_| decoder.next(&mut &b"data: x\n"[..]).err());
        assert!(matches!(refused, Some(FeedRefused::Oversize { .. })));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_come(
            text in "(event: [a-z]{0,4}(\n|\r|\r\n)|data: ?[a-z]{0,3}(\n|\r|\r\n)|:x(\n|\r\n)|(\n|\r|\r\n)){0,24}",
            cuts in proptest::collection::vec(0_usize..8, 0..40),
        ) {
            let whole = all(&mut Decoder::default(), text.as_bytes());
            let (mut decoder, mut rest, mut events) = (Decoder::default(), text.as_bytes(), Vec::new());
            for cut in cuts {
                let (first, later) = rest.split_at(cut.min(rest.len()));
                events.extend(all(&mut decoder, first));
                rest = later;
            }
            events.extend(all(&mut decoder, rest));
            prop_assert_eq!(events, whole);
        }
    }
}
