//! Rules in a file: one TOML table for services in Rust and for what proxies ask `chancery authz serve`.

use std::fmt;

use toml::{Table, Value};

use crate::{Rules, RulesRefused};

/// The keys of the whole table, of a `[[rule]]` and of a `[[public]]`.
const FILE: &[&str] = &["system", "rule", "public", "high_risk"];
const RULE: &[&str] = &["method", "path", "scope"];
const PUBLIC: &[&str] = &["method", "path"];

impl Rules {
    /// Reads rules as a file states them.
    ///
    /// Every scope must be of the one `system`. A `[[public]]` without a method is for `GET`. `high_risk` is as
    /// [`Rules::high_risk`].
    ///
    /// ```
    /// # use chancery_verifier::Rules;
    /// let rules = Rules::from_toml(r#"
    ///     system = "crm"
    ///     high_risk = ["tools/call:crm/refund"]
    ///     [[rule]]
    ///     method = "GET"
    ///     path   = "/customers/{id}"
    ///     scope  = "tools/call:crm/get_customer"
    ///     [[public]]
    ///     path = "/healthz"
    /// "#)?;
    /// # Ok::<(), chancery_verifier::RulesFileRefused>(())
    /// ```
    ///
    /// # Errors
    /// Text that is no TOML, a key that is not known or not there, and what [`Rules::allow`] refuses, with its place.
    pub fn from_toml(text: &str) -> Result<Self, RulesFileRefused> {
        let file: Table = text.parse().map_err(|error: toml::de::Error| RulesFileRefused::Toml(error.to_string()))?;
        let file = Part { table: &file, at: String::new() };
        file.knows(FILE)?;
        let system = file.text("system")?;
        let mut rules = Self::new();
        for rule in file.parts("rule")? {
            rule.knows(RULE)?;
            let (method, path, scope) = (rule.method()?, rule.text("path")?, rule.text("scope")?);
            rules = rules.allow(method, path, scope).map_err(|why| rule.refused(why))?;
            rule.is_of(system, &rules)?;
        }
        for public in file.parts("public")? {
            public.knows(PUBLIC)?;
            let method = if public.table.contains_key("method") { public.method()? } else { "GET" };
            rules = rules.public(method, public.text("path")?).checked().map_err(|why| public.refused(why))?;
        }
        for scope in file.texts("high_risk")? {
            rules = rules.high_risk(scope).map_err(|why| file.refused(why))?;
        }
        Ok(rules)
    }
}

/// One table of the file, and where it stands there.
struct Part<'a> {
    table: &'a Table,
    at: String,
}

impl<'a> Part<'a> {
    fn knows(&self, keys: &[&'static str]) -> Result<(), RulesFileRefused> {
        match self.table.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(came) => {
                Err(RulesFileRefused::Key { at: self.at.clone(), came: came.clone(), nearest: nearest(came, keys) })
            }
            None => Ok(()),
        }
    }

    fn text(&self, key: &'static str) -> Result<&'a str, RulesFileRefused> {
        self.table.get(key).and_then(Value::as_str).ok_or_else(|| self.wanted(key, "a text"))
    }

    /// RFC 9110 §9.1: a token, and case counts; those in use are upper case.
    fn method(&self) -> Result<&'a str, RulesFileRefused> {
        let method = self.text("method")?;
        let plain = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if plain { Ok(method) } else { Err(self.wanted("method", "a method in upper case, such as GET")) }
    }

    fn texts(&self, key: &'static str) -> Result<Vec<&'a str>, RulesFileRefused> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|array| array.iter().map(Value::as_str).collect());
        texts.ok_or_else(|| self.wanted(key, "an array of texts"))
    }

    fn parts(&self, key: &'static str) -> Result<Vec<Part<'a>>, RulesFileRefused> {
        let Some(value) = self.table.get(key) else { return Ok(Vec::new()) };
        let tables = value.as_array().and_then(|array| array.iter().map(Value::as_table).collect::<Option<Vec<_>>>());
        let tables = tables.ok_or_else(|| RulesFileRefused::Wanted {
            at: self.at.clone(),
            key,
            what: "tables, each under a heading in double brackets",
        })?;
        let numbered = tables.into_iter().enumerate();
        Ok(numbered.map(|(at, table)| Part { table, at: format!("[[{key}]] {}: ", at + 1) }).collect())
    }

    /// All scopes before were of the system, so one that is not is this part's.
    fn is_of(&self, system: &str, rules: &Rules) -> Result<(), RulesFileRefused> {
        match rules.systems().find(|came| *came != system) {
            Some(came) => {
                Err(RulesFileRefused::System { at: self.at.clone(), wanted: system.into(), came: came.into() })
            }
            None => Ok(()),
        }
    }

    fn wanted(&self, key: &'static str, what: &'static str) -> RulesFileRefused {
        RulesFileRefused::Wanted { at: self.at.clone(), key, what }
    }

    fn refused(&self, why: RulesRefused) -> RulesFileRefused {
        RulesFileRefused::Rule { at: self.at.clone(), why }
    }
}

/// The key that was most likely meant.
fn nearest(came: &str, keys: &[&'static str]) -> &'static str {
    keys.iter().copied().min_by_key(|key| distance(came, key)).unwrap_or_default()
}

/// How many letters have to be put in, taken out or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut next = vec![at + 1];
        for (wanted, before) in other.chars().zip(row.windows(2)) {
            let [diagonal, up] = before else { continue };
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(letter != wanted)).min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// A file of rules that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesFileRefused {
    /// Not TOML.
    Toml(String),
    /// A key that there is not.
    Key {
        /// The table it stands in.
        at: String,
        /// The key.
        came: String,
        /// The known one that is most like it.
        nearest: &'static str,
    },
    /// A key that is not there, or holds something else.
    Wanted {
        /// The table it belongs in.
        at: String,
        /// The key.
        key: &'static str,
        /// What it holds.
        what: &'static str,
    },
    /// A scope of another system than the file's.
    System {
        /// The table it stands in.
        at: String,
        /// The file's.
        wanted: String,
        /// The scope's.
        came: String,
    },
    /// A rule that is none.
    Rule {
        /// The table it stands in.
        at: String,
        /// What is wrong with it.
        why: RulesRefused,
    },
}

impl fmt::Display for RulesFileRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(why) => f.write_str(why.trim_end()),
            Self::Key { at, came, nearest } => write!(f, "{at}there is no key {came:?}; did you mean {nearest:?}?"),
            Self::Wanted { at, key, what } => write!(f, "{at}{key} is to be {what}"),
            Self::System { at, wanted, came } => {
                write!(f, "{at}the scope is of system {came}, and the file's is {wanted}")
            }
            Self::Rule { at, why } => write!(f, "{at}{why}"),
        }
    }
}

impl std::error::Error for RulesFileRefused {}

#[cfg(test)]
mod tests {
    use chancery_identity::normalise::Path;

    use super::*;

    const GOOD: &str = r#"
        system = "crm"
        high_risk = ["tools/call:crm/refund"]
        [[rule]]
        method = "GET"
        path   = "/customers/{id}"
        scope  = "resources/read:crm/customers/{id}"
        [[rule]]
        method = "POST"
        path   = "/refunds"
        scope  = "tools/call:crm/refund"
        [[public]]
        path = "/healthz"
        [[public]]
        method = "HEAD"
        path = "/healthz"
    "#;

    #[test]
    fn a_file_says_what_the_same_rules_in_rust_say() {
        let file = Rules::from_toml(GOOD).unwrap();
        let rust = Rules::new()
            .allow("GET", "/customers/{id}", "resources/read:crm/customers/{id}")
            .and_then(|rules| rules.allow("POST", "/refunds", "tools/call:crm/refund"))
            .and_then(|rules| rules.high_risk("tools/call:crm/refund"))
            .unwrap()
            .public("GET", "/healthz")
            .public("HEAD", "/healthz");
        assert_eq!(format!("{file:?}"), format!("{rust:?}"));
        assert_eq!(file.to_string(), "rules 2, public 2 (/healthz, /healthz)");
        assert_eq!(Rules::from_toml("system = 'crm'").unwrap().to_string(), "rules 0, public 0");
        assert!(file.needs("GET", &Path::parse("/refunds").unwrap()).is_none());
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_its_place() {
        let refused = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            Rules::from_toml(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert_eq!(refused("method", "metod"), "[[rule]] 1: there is no key \"metod\"; did you mean \"method\"?");
        assert_eq!(refused("[[public]]", "[[publik]]"), "there is no key \"publik\"; did you mean \"public\"?");
        assert_eq!(
            refused("path = \"/healthz\"", "paths = \"/h\""),
            "[[public]] 1: there is no key \"paths\"; did you mean \"path\"?"
        );
        assert_eq!(refused("system = \"crm\"", ""), "system is to be a text");
        assert_eq!(refused("\"GET\"", "\"get\""), "[[rule]] 1: method is to be a method in upper case, such as GET");
        assert!(refused("\"GET\"", "7").starts_with("[[rule]] 1: method is to be a text"));
        assert!(
            refused("crm/customers", "billing/customers").starts_with("[[rule]] 1: the scope is of system billing")
        );
        assert!(refused("scope  = \"tools/call:crm/refund\"", "scope = \"refund\"").starts_with("[[rule]] 2: scope"));
        assert!(refused("\"HEAD\"", "\"GET\"").starts_with("[[public]] 2: a rule before matches the same"));
        assert!(refused("[\"tools/call:crm/refund\"]", "\"all\"").starts_with("high_risk is to be an array"));
        assert!(refused("[[rule]]", "[[rule]").contains("TOML"));
        assert!(
            Rules::from_toml("system = 'crm'\nrule = 1").unwrap_err().to_string().starts_with("rule is to be tables")
        );
    }

    #[test]
    fn a_distance_counts_letters() {
        for (one, other, wanted) in
            [("", "", 0), ("", "ab", 2), ("path", "path", 0), ("pth", "path", 1), ("scope", "system", 4)]
        {
            assert_eq!(distance(one, other), wanted, "{one} {other}");
            assert_eq!(distance(other, one), wanted);
        }
    }
}
