//! Pages of records, newest first.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_api::List;
use chancery_identity::{Name, Timestamp};

use crate::refusal::{Code, Refusal};

/// Records on a page, unless the caller says otherwise.
const LIMIT: u32 = 50;
/// Records on a page, at most.
const LIMIT_MAX: u32 = 500;

/// Declares the query of a list: its own filters, and the page.
macro_rules! list_query {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub(in crate::http) struct $name {
            $($(#[$field_doc])* pub(in crate::http) $field: Option<$type>,)*
            /// How many, 1 to 500; 50 if absent.
            pub(in crate::http) limit: Option<u32>,
            /// The `next_cursor` of the page before.
            pub(in crate::http) cursor: Option<String>,
            /// Whether to add how many there are in all.
            pub(in crate::http) count: Option<bool>,
        }

        impl $name {
            /// Whether the total is asked for.
            #[allow(dead_code, reason = "some lists leave it to their page")]
            pub(in crate::http) fn counts(&self) -> bool {
                self.count.unwrap_or(false)
            }
        }
    };
}

pub(super) use list_query;

/// Which page is asked for.
#[derive(Debug)]
pub(super) struct Page {
    limit: usize,
    cursor: Option<String>,
    count: bool,
}

impl Page {
    pub(super) fn new(limit: Option<u32>, cursor: Option<String>, count: Option<bool>) -> Result<Self, Refusal> {
        Ok(Self { limit: limit_of(limit)?, cursor, count: count.unwrap_or(false) })
    }

    /// Cuts the page out of all records that a filter left. Only what is on it is copied.
    pub(super) fn of<T: Listed + Clone>(&self, mut records: Vec<Arc<T>>) -> Result<List<T>, Refusal> {
        let total = self.count.then(|| u64::try_from(records.len()).unwrap_or(u64::MAX));
        if let Some(cursor) = &self.cursor {
            let (at, name) = decode(cursor)?;
            records.retain(|record| record.place() < (at, name.as_str()));
        }
        let more = records.len() > self.limit;
        if more {
            // Only what is on the page is put in order.
            records.select_nth_unstable_by(self.limit, |a, b| b.place().cmp(&a.place()));
            records.truncate(self.limit);
        }
        records.sort_unstable_by(|a, b| b.place().cmp(&a.place()));
        let next_cursor = records.last().filter(|_| more).map(|last| encode(last.place()));
        let data = records.into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(List { data, next_cursor, total })
    }
}

/// How many records a page shall have.
pub(super) fn limit_of(limit: Option<u32>) -> Result<usize, Refusal> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit: wanted 1 to {LIMIT_MAX}, got {limit}");
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// What to ask a search for, to know whether there is more.
pub(super) fn one_more(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1)
}

/// One page of what a search found, whose last record tells the cursor; the search was asked for one more than `limit`.
pub(super) fn cut<T, U>(
    mut found: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
    view: impl Fn(T) -> U,
) -> List<U> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(cursor);
    List { data: found.into_iter().map(view).collect(), next_cursor, total: None }
}

/// A cursor that is a number or an id.
pub(super) fn cursor_of<T: std::str::FromStr>(cursor: Option<&str>) -> Result<Option<T>, Refusal> {
    cursor.map(|text| text.parse().map_err(|_| bad_cursor())).transpose()
}

/// The refusal of a cursor that no page ended with.
fn bad_cursor() -> Refusal {
    Refusal::new(Code::BadRequest, "cursor: wanted the next_cursor of a page before")
}

/// What can be listed: its place is when it was made, then its name.
pub(super) trait Listed {
    fn place(&self) -> (Timestamp, &str);
}

macro_rules! listed_by_name {
    ($($type:ty),+) => {$(
        impl Listed for $type {
            fn place(&self) -> (Timestamp, &str) {
                (self.created_at, Name::as_str(&self.name))
            }
        }
    )+};
}

listed_by_name!(chancery_api::Agent, chancery_api::Service, chancery_api::Admin);

fn encode((at, name): (Timestamp, &str)) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {name}", at.unix_millis()))
}

fn decode(cursor: &str) -> Result<(Timestamp, String), Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad_cursor())?;
    let text = String::from_utf8(bytes).map_err(|_| bad_cursor())?;
    let (millis, name) = text.split_once(' ').ok_or_else(bad_cursor)?;
    let millis = millis.parse().map_err(|_| bad_cursor())?;
    Ok((Timestamp::from_unix_millis(millis), name.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Thing(Timestamp, String);

    impl Listed for Thing {
        fn place(&self) -> (Timestamp, &str) {
            (self.0, &self.1)
        }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_whole_list_newest_first(
            places in proptest::collection::btree_set((0_i64..5, "[a-z]{1,3}"), 0..40),
            limit in 1_u32..12,
        ) {
            let all: Vec<Arc<Thing>> =
                places.into_iter().map(|(at, name)| Arc::new(Thing(Timestamp::from_unix_millis(at), name))).collect();
            let mut seen = Vec::new();
            let mut cursor = None;
            loop {
                let page = Page::new(Some(limit), cursor, Some(true)).unwrap().of(all.clone()).unwrap();
                prop_assert_eq!(page.total, Some(all.len() as u64));
                seen.extend(page.data);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let wanted: Vec<Thing> = all.into_iter().rev().map(Arc::unwrap_or_clone).collect();
            prop_assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn limits_and_cursors_are_checked() {
        for limit in [0, 501] {
            assert_eq!(Page::new(Some(limit), None, None).unwrap_err().code(), Code::BadRequest);
        }
        let page = Page::new(None, Some("not ours".into()), None).unwrap();
        assert_eq!(page.of(Vec::<Arc<Thing>>::new()).unwrap_err().code(), Code::BadRequest);
    }
}
