//! Many rows in one statement, in few sizes, so that statements stay prepared.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use super::db::{DbError, Row, Transaction, Value};

/// An INSERT of any number of rows, or an UPDATE by them.
pub(super) struct Write<const COLUMNS: usize> {
    /// The statement for a single row, where it is not that for several with one.
    one: Option<&'static str>,
    /// Up to and with `VALUES`.
    head: &'static str,
    /// What follows the rows.
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; SIZES.len()],
}

impl<const COLUMNS: usize> Write<COLUMNS> {
    pub(super) const fn insert(head: &'static str) -> Self {
        Self::upsert(head, "")
    }

    /// An INSERT that has something to say of rows that are there.
    pub(super) const fn upsert(head: &'static str, tail: &'static str) -> Self {
        Self { one: None, head, tail, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// What `one` does with `$1`, `$2` … is done with `column1`, `column2` … between `head` and `tail`.
    pub(super) const fn update(one: &'static str, head: &'static str, tail: &'static str) -> Self {
        Self { one: Some(one), head, tail, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Writes the rows in order; returns how many were written.
    ///
    /// A row that is refused leaves those before it behind on SQLite: the transaction must be rolled back then.
    pub(super) async fn run(
        &self,
        transaction: &mut Transaction,
        mut rows: impl ExactSizeIterator<Item = [Value; COLUMNS]>,
    ) -> Result<u64, DbError> {
        let most = transaction.rows_at_once();
        let mut written = 0;
        while let Some((text, size)) = self.texts.iter().zip(SIZES).find(|(_, size)| *size <= most.min(rows.len())) {
            let text = text.get_or_init(|| self.compose(size));
            written += if size == 1 {
                transaction.execute_each(text, rows.by_ref()).await?
            } else {
                let values = rows.by_ref().take(size).flatten().collect();
                transaction.execute(text, values).await?
            };
        }
        Ok(written)
    }

    fn compose(&self, count: usize) -> Arc<str> {
        if let Some(one) = self.one.filter(|_| count == 1) {
            return one.into();
        }
        let mut text = self.head.to_owned();
        rows(&mut text, 0, count, COLUMNS);
        text.push(' ');
        text.push_str(self.tail);
        text.into()
    }
}

/// A SELECT of the rows whose key, of so many columns, is one of any number.
pub(super) struct SelectIn<const COLUMNS: usize = 1> {
    /// Up to and with `IN`; its own placeholders come first.
    head: &'static str,
    /// What follows the keys.
    tail: &'static str,
    texts: [OnceLock<Arc<str>>; SIZES.len()],
}

impl<const COLUMNS: usize> SelectIn<COLUMNS> {
    pub(super) const fn new(head: &'static str, tail: &'static str) -> Self {
        Self { head, tail, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// The rows for the keys, in no order; `leading` fills the placeholders of the head.
    ///
    /// The last key is repeated to fill up a size, which a set does not mind.
    pub(super) async fn run(
        &self,
        transaction: &mut Transaction,
        leading: &[Value],
        keys: Vec<[Value; COLUMNS]>,
    ) -> Result<Vec<Row>, DbError> {
        let most = transaction.rows_at_once();
        let mut found = Vec::new();
        let mut rest = keys.into_iter().peekable();
        while rest.peek().is_some() {
            let largest = self.texts.iter().zip(SIZES).filter(|(_, size)| *size <= most);
            // The smallest size that holds all that is left, else the largest.
            let Some((text, size)) =
                largest.clone().rev().find(|(_, size)| *size >= rest.len()).or(largest.clone().next())
            else {
                break;
            };
            let text = text.get_or_init(|| self.compose(leading.len(), size));
            let mut keys: Vec<_> = rest.by_ref().take(size).collect();
            if let Some(last) = keys.last().cloned() {
                keys.resize(size, last);
            }
            let mut values = leading.to_vec();
            values.extend(keys.into_iter().flatten());
            found.extend(transaction.rows(text, values).await?);
        }
        Ok(found)
    }

    fn compose(&self, leading: usize, count: usize) -> Arc<str> {
        let mut text = format!("{} ", self.head);
        if COLUMNS == 1 {
            placeholders(&mut text, leading, count);
        } else {
            // SQLite has lists of rows in this form only.
            text.push_str("(VALUES");
            rows(&mut text, leading, count, COLUMNS);
            text.push(')');
        }
        let _ = write!(text, " {}", self.tail);
        text.into()
    }
}

fn rows(text: &mut String, from: usize, count: usize, columns: usize) {
    for row in 0..count {
        text.push_str(if row == 0 { " " } else { ", " });
        placeholders(text, from + row * columns, columns);
    }
}

fn placeholders(text: &mut String, from: usize, count: usize) {
    for column in 1..=count {
        let before = if column == 1 { '(' } else { ',' };
        let _ = write!(text, "{before}${}", from + column);
    }
    text.push(')');
}

/// Largest first, down to 1.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

#[cfg(test)]
mod tests {
    use chancery_api::Subject;
    use chancery_identity::Timestamp;

    use super::super::certificates::{Query, VALID, found_by};
    use super::super::db::Db;
    use super::super::{lineages, tokens};

    /// What issuance asks and changes is found by an index: by a plan that reads a table to its end, each commit would cost as
    /// much as all the certificates that live.
    #[tokio::test]
    async fn no_statement_reads_a_whole_table() {
        let file = std::env::temp_dir().join(format!("chancery-plans-{}.db", std::process::id()));
        let db = Db::create(&format!("sqlite:{}", file.display())).await.unwrap();
        db.migrate().await.unwrap();
        let mut transaction = db.begin().await.unwrap();
        let size = transaction.rows_at_once();
        let of_one = Query { holder: Some(Subject::Admin("ana".parse().unwrap())), ..Query::default() };
        let unexpired = Query { unexpired_at: Some(Timestamp::default()), ..Query::default() };
        let texts = [
            lineages::RENEW.compose(size),
            tokens::COUNT.compose(size),
            lineages::NEWEST.compose(0, size),
            lineages::LIVE.compose(2, size),
            tokens::REDEMPTIONS.compose(0, size),
            tokens::USES.compose(0, size),
            tokens::JOIN_TOKENS.compose(0, size),
            format!("SELECT der FROM {VALID} AND kind = $2 AND name = $3").into(),
            format!("SELECT der FROM {VALID} AND block.number = $2").into(),
            format!("SELECT key FROM {VALID}").into(),
            found_by("SELECT key", &Query { before: Some(9), ..of_one }).0.into(),
            found_by("SELECT key", &unexpired).0.into(),
        ];
        for text in texts {
            let plan = transaction.rows(format!("EXPLAIN QUERY PLAN {text}"), Vec::new()).await.unwrap();
            assert!(!plan.is_empty());
            for step in plan {
                let step: String = step.read(3).unwrap();
                let scanned = step.strip_prefix("SCAN ").and_then(|scanned| scanned.split(' ').next());
                let large = ["lineage", "newest", "certificate", "redemption", "join_token"];
                let reads_all = large.map(Some).contains(&scanned) || step.contains("AUTOMATIC");
                assert!(!reads_all, "{step}: {text}");
            }
        }
        drop(transaction);
        db.close().await;
        std::fs::remove_file(file).unwrap();
    }
}
