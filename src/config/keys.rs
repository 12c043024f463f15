//! The keys that a configuration file can have.

/// All of them, sections before a dot.
pub(crate) const KEYS: &[&str] = &[
    "trust_domain",
    "data_dir",
    "public_url",
    "status_url",
    "dns_suffixes",
    "listen.api",
    "listen.status",
    "listen.admin_socket",
    "listen.metrics",
    "store.url",
    "keys.root",
    "keys.seal",
    "ttl.leaf",
    "ttl.task_max",
    "ttl.authority",
    "ttl.root",
    "ttl.rejoin_within",
    "ttl.max_session",
    "freshness.stale_after",
    "freshness.expired_after",
    "x509pop.roots",
];

/// The first key of a file that is none, and the known one that is nearest to it.
pub(super) fn first_unknown(file: &toml::Table) -> Option<(String, &'static str)> {
    let unknown = file.iter().find_map(|(name, value)| match value {
        toml::Value::Table(section) => {
            section.keys().map(|key| format!("{name}.{key}")).find(|key| !KEYS.contains(&key.as_str()))
        }
        _ => Some(name.clone()).filter(|key| !KEYS.contains(&key.as_str())),
    })?;
    let nearest = KEYS.iter().min_by_key(|key| distance(&unknown, key))?;
    Some((unknown, nearest))
}

/// How many characters are to be put in, taken out or changed to get from one to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.chars().enumerate() {
        let (mut diagonal, mut left) = (line, line + 1);
        let mut next = vec![left];
        for (above, b) in row.iter().skip(1).zip(&to) {
            left = (diagonal + usize::from(a != *b)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (from, to, wanted) in [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("leave", "leaf", 2)] {
            assert_eq!(distance(from, to), wanted, "{from} {to}");
        }
    }

    #[test]
    fn the_first_unknown_key_is_told_with_the_nearest() {
        let found = |text: &str| first_unknown(&text.parse().unwrap_or_default());
        assert_eq!(found("[ttl]\nleave = 1"), Some(("ttl.leave".into(), "ttl.leaf")));
        assert_eq!(found("trustdomain = 1"), Some(("trustdomain".into(), "trust_domain")));
        assert_eq!(found("[lisen]\napi = 1"), Some(("lisen.api".into(), "listen.api")));
        assert_eq!(found("[ttl]\nleaf = 1"), None);
    }
}
