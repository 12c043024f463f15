//! What a command prints: records on stdout in the form asked for, narration on stderr.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

/// The forms a result can be printed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns that fit a terminal.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// The HTTP body as it came.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Names or ids alone, one a line.
    Id,
}

impl Form {
    /// As `-o` takes it.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A column of a table: its title, whether only `wide` has it, and what stands in it.
pub(crate) struct Column<T: 'static>(pub(crate) &'static str, pub(crate) Width, pub(crate) fn(&T) -> String);

/// Which tables have a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Every one.
    Always,
    /// Only the wide one.
    Wide,
}

/// What can stand in a table.
pub(crate) trait Record: serde::de::DeserializeOwned + 'static {
    /// Its columns, the naming one first.
    const COLUMNS: &'static [Column<Self>];

    /// What `-o id` prints.
    fn id(&self) -> String;
}

/// Where results and narration go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    form: Form,
    quiet: bool,
    verbose: bool,
    colour: bool,
}

impl Output {
    pub(crate) fn new(form: Form, quiet: bool, verbose: bool, no_color: bool) -> Self {
        let unwanted = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { form, quiet, verbose, colour: !unwanted && std::io::stderr().is_terminal() }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// A line for people, on stderr.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            // Nobody to tell it to is no failure.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// A line for people who want to know more.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            self.say(text);
        }
    }

    /// What went wrong, on stderr, quiet or not; with `json` the problem document as the result too.
    pub(crate) fn complain(&self, failure: &super::Failure) {
        let (red, plain) = if self.colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let text = failure.to_string();
        let (first, rest) = text.split_once('\n').map_or((text.as_str(), ""), |(first, rest)| (first, rest));
        let _ = writeln!(std::io::stderr(), "chancery: {red}{first}{plain}");
        if !rest.is_empty() {
            let _ = writeln!(std::io::stderr(), "{rest}");
        }
        if let (Form::Json | Form::Jsonl, Some(problem)) = (self.form, failure.problem())
            && let Ok(body) = serde_json::to_value(problem)
        {
            print(&self.json(&body));
        }
    }

    /// A page of records.
    pub(crate) fn list<T: Record>(&self, body: &Value, records: &[T]) {
        match self.form {
            Form::Json => print(&self.json(body)),
            Form::Jsonl => {
                for record in body.get("data").and_then(Value::as_array).into_iter().flatten() {
                    print(&record.to_string());
                }
            }
            Form::Id => records.iter().for_each(|record| print(&record.id())),
            Form::Table | Form::Wide => print_table(records, self.form == Form::Wide),
        }
    }

    /// One record, each column on a line of its own, or `text` in its place.
    pub(crate) fn record<T: Record>(&self, body: &Value, record: &T, text: Option<&str>) {
        match (self.form, text) {
            (Form::Json | Form::Jsonl, _) => print(&self.json(body)),
            (Form::Id, _) => print(&record.id()),
            (Form::Table | Form::Wide, Some(text)) => print(text),
            (Form::Table | Form::Wide, None) => {
                let width = T::COLUMNS.iter().map(|column| column.0.len()).max().unwrap_or(0);
                for Column(title, _, cell) in T::COLUMNS {
                    print(format!("{:width$}  {}", title.to_lowercase(), cell(record)).trim_end());
                }
            }
        }
    }

    /// A result that is no record: JSON when asked for, else the text.
    pub(crate) fn result(&self, body: &Value, text: &str) {
        match self.form {
            Form::Json | Form::Jsonl => print(&self.json(body)),
            Form::Table | Form::Wide | Form::Id => print(text),
        }
    }

    fn json(&self, body: &Value) -> String {
        if self.form == Form::Jsonl { body.to_string() } else { format!("{body:#}") }
    }
}

/// A line of result. A reader that has gone (`| head`) ends the program quietly, as it does others.
pub(crate) fn print(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

fn print_table<T: Record>(records: &[T], wide: bool) {
    let columns: Vec<_> = T::COLUMNS.iter().filter(|column| wide || column.1 == Width::Always).collect();
    let mut rows = vec![columns.iter().map(|column| column.0.to_owned()).collect::<Vec<_>>()];
    rows.extend(records.iter().map(|record| columns.iter().map(|column| column.2(record)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        print(line.join("  ").trim_end());
    }
}
