//! Many rows in one statement, in few sizes, so that statements stay prepared.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use super::db::{DbError, Placeholder, Row, Transaction, Value};

/// An INSERT of any number of rows, or an UPDATE from them.
pub(super) struct Insert<const COLUMNS: usize> {
    /// Up to and with `VALUES`, the verb first.
    head: &'static str,
    /// What follows the rows.
    tail: &'static str,
    texts: [[OnceLock<Arc<str>>; SIZES.len()]; Placeholder::ALL.len()],
}

impl<const COLUMNS: usize> Insert<COLUMNS> {
    pub(super) const fn new(head: &'static str, tail: &'static str) -> Self {
        Self { head, tail, texts: [const { [const { OnceLock::new() }; SIZES.len()] }; Placeholder::ALL.len()] }
    }

    /// Writes the rows in order; returns how many were written.
    ///
    /// A row that is refused leaves those before it behind on SQLite: the transaction must be rolled back then.
    pub(super) async fn run(&self, transaction: &mut Transaction, rows: Vec<[Value; COLUMNS]>) -> Result<u64, DbError> {
        let placeholder = transaction.placeholder();
        let texts = Placeholder::ALL.iter().zip(&self.texts).find(|(of, _)| **of == placeholder);
        let texts = texts.map(|(_, texts)| texts.as_slice()).unwrap_or_default();
        let mut rest = rows.into_iter();
        let mut written = 0;
        while let Some((text, size)) = texts.iter().zip(SIZES).find(|(_, size)| *size <= rest.len()) {
            let text = text.get_or_init(|| self.compose(placeholder, size));
            let values = rest.by_ref().take(size).flatten().collect();
            written += transaction.execute(text, values).await?;
        }
        Ok(written)
    }

    fn compose(&self, placeholder: Placeholder, count: usize) -> Arc<str> {
        let mut text = match placeholder {
            Placeholder::Numbered => self.head.to_owned(),
            // By default SQLite copies each page that such a statement touches, to undo it alone should a row be refused.
            Placeholder::Plain => self.head.replacen(' ', " OR FAIL ", 1),
        };
        rows(&mut text, placeholder, 0, count, COLUMNS);
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
        let mut found = Vec::new();
        let mut rest = keys.into_iter().peekable();
        while rest.peek().is_some() {
            let largest = self.texts.iter().zip(SIZES);
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
            placeholders(&mut text, Placeholder::Numbered, leading, count);
        } else {
            // SQLite has lists of rows in this form only.
            text.push_str("(VALUES");
            rows(&mut text, Placeholder::Numbered, leading, count, COLUMNS);
            text.push(')');
        }
        let _ = write!(text, " {}", self.tail);
        text.into()
    }
}

fn rows(text: &mut String, placeholder: Placeholder, from: usize, count: usize, columns: usize) {
    for row in 0..count {
        text.push_str(if row == 0 { " " } else { ", " });
        placeholders(text, placeholder, from + row * columns, columns);
    }
}

fn placeholders(text: &mut String, placeholder: Placeholder, from: usize, count: usize) {
    text.push('(');
    for column in 1..=count {
        if column > 1 {
            text.push_str(", ");
        }
        match placeholder {
            Placeholder::Numbered => drop(write!(text, "${}", from + column)),
            Placeholder::Plain => text.push('?'),
        }
    }
    text.push(')');
}

/// Largest first, down to 1. What few decisions write is one statement each: a statement more costs two threads a turn.
const SIZES: [usize; 35] = [
    256, 128, 64, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7,
    6, 5, 4, 3, 2, 1,
];

#[cfg(test)]
mod tests {
    use super::super::db::Db;
    use super::super::{lineages, tokens};
    use super::*;

    /// What issuance asks and changes is found by an index, whatever the number of rows: by a plan that reads a table to its
    /// end, each commit would cost as much as all the certificates that live.
    #[tokio::test]
    async fn no_statement_reads_a_whole_table() {
        let file = std::env::temp_dir().join(format!("chancery-plans-{}.db", std::process::id()));
        let db = Db::create(&format!("sqlite:{}", file.display())).await.unwrap();
        db.migrate().await.unwrap();
        let mut transaction = db.begin().await.unwrap();
        for size in SIZES {
            let plain = Placeholder::Plain;
            let texts = [
                lineages::RENEW.compose(plain, size),
                tokens::COUNT.compose(plain, size),
                lineages::BY_ID.compose(0, size),
                lineages::BY_KEY.compose(0, size),
                lineages::LIVE.compose(2, size),
                tokens::REDEMPTIONS.compose(0, size),
                tokens::USES.compose(0, size),
                tokens::JOIN_TOKENS.compose(0, size),
            ];
            for text in texts {
                let plan = transaction.rows(format!("EXPLAIN QUERY PLAN {text}"), Vec::new()).await.unwrap();
                assert!(!plan.is_empty());
                for step in plan {
                    let step: String = step.read(3).unwrap();
                    let table = ["lineage", "redemption", "join_token"].iter().any(|table| {
                        step.strip_prefix("SCAN ").is_some_and(|scanned| scanned.split(' ').next() == Some(*table))
                    });
                    assert!(!table && !step.contains("AUTOMATIC"), "{step}, with {size} rows: {text}");
                }
            }
        }
        drop(transaction);
        db.close().await;
        std::fs::remove_file(file).unwrap();
    }
}
