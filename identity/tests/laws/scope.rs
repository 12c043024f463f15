//! The scope algebra against the languages that scopes stand for.

use std::sync::LazyLock;

use proptest::prelude::*;

use chancery_identity::{Pattern, PatternSet, Scope, ScopeError, ScopeSet};

use crate::bodies;

/// One request, as three lists of segments.
type Request = (Vec<&'static str>, &'static str, Vec<&'static str>);

/// `z` stands in no pattern, so it speaks for all segments that none names.
const LETTERS: [&str; 3] = ["a", "b", "z"];

fn words(longest: usize) -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        last = last.iter().flat_map(|w| LETTERS.map(|l| [w.as_slice(), &[l]].concat())).collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|word| !word.is_empty());
    all
}

static REQUESTS: LazyLock<Vec<Request>> = LazyLock::new(|| {
    let objects = words(4);
    words(2)
        .into_iter()
        .flat_map(|action| ["x", "y"].map(|system| (action.clone(), system)))
        .flat_map(|(action, system)| objects.iter().map(move |object| (action.clone(), system, object.clone())))
        .collect()
});

/// What the grammar says, read as a definition and not as an algorithm.
fn admits_segments(pattern: &[&str], word: &[&str]) -> bool {
    match (pattern, word) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        (["*", pattern @ ..], [_, word @ ..]) => admits_segments(pattern, word),
        ([p, pattern @ ..], [w, word @ ..]) => p == w && admits_segments(pattern, word),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

/// Which of the requests a scope admits.
fn language(scope: &str) -> Vec<bool> {
    let (a, rest) = scope.split_once(':').unwrap();
    let (s, o) = rest.split_once('/').unwrap();
    let (a, o) = (split(a), split(o));
    let admits = |(action, system, object): &Request| {
        (s == "*" || s == *system) && admits_segments(&a, action) && admits_segments(&o, object)
    };
    REQUESTS.iter().map(admits).collect()
}

fn segments(longest: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..=longest).prop_map(|s| s.join("/"))
}

fn object() -> impl Strategy<Value = String> {
    prop_oneof![segments(3), segments(2).prop_map(|s| format!("{s}/**")), Just("**".to_owned()),]
}

fn scope_text() -> impl Strategy<Value = String> {
    (segments(2), prop::sample::select(vec!["x", "y"]), object()).prop_map(|(a, s, o)| format!("{a}:{s}/{o}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn covers_is_inclusion_and_overlaps_is_intersection(one in scope_text(), other in scope_text()) {
        let (a, b) = (language(&one), language(&other));
        let included = a.iter().zip(&b).all(|(a, b)| *a || !*b);
        let intersect = a.iter().zip(&b).any(|(a, b)| *a && *b);
        let (one, other): (Scope, Scope) = (one.parse().unwrap(), other.parse().unwrap());
        prop_assert_eq!(one.covers(&other), included);
        prop_assert_eq!(one.overlaps(&other), intersect);
        prop_assert_eq!(other.overlaps(&one), intersect);
    }

    #[test]
    fn a_pattern_of_any_system_covers_in_each(action in segments(2), object in object(), scope in scope_text()) {
        let pattern: Pattern = format!("{action}:*/{object}").parse().unwrap();
        let scope: Scope = scope.parse().unwrap();
        let same_system: Scope = format!("{action}:{}/{object}", scope.system()).parse().unwrap();
        prop_assert_eq!(pattern.covers(&scope), same_system.covers(&scope));
    }

    #[test]
    fn a_set_allows_no_more_than_its_members_together(
        held in prop::collection::vec(scope_text(), 0..4), asked in scope_text()
    ) {
        let set = ScopeSet::new(held.iter().map(|s| s.parse().unwrap())).unwrap();
        let scope: Scope = asked.parse().unwrap();
        prop_assert_eq!(set.covers(&scope), held.iter().any(|h| h.parse::<Scope>().unwrap().covers(&scope)));
        if set.covers(&scope) {
            let together = held.iter().map(|h| language(h)).reduce(|a, b| a.iter().zip(b).map(|(a, b)| *a || b).collect());
            prop_assert!(together.unwrap().iter().zip(language(&asked)).all(|(held, asked)| *held || !asked));
        }
        let wanted = ScopeSet::new([scope.clone()]).unwrap();
        prop_assert_eq!(set.missing(&wanted).count(), usize::from(!set.covers(&scope)));
        let ceiling = PatternSet::new(held.iter().map(|s| s.parse().unwrap())).unwrap();
        prop_assert_eq!(ceiling.covers(&scope), set.covers(&scope));
    }

    #[test]
    fn covering_is_an_order(a in scope_text(), b in scope_text(), c in scope_text()) {
        let [a, b, c]: [Scope; 3] = [a, b, c].map(|s| s.parse().unwrap());
        prop_assert!(a.covers(&a));
        if a.covers(&b) && b.covers(&c) {
            prop_assert!(a.covers(&c));
        }
        if a.covers(&b) && b.covers(&a) {
            prop_assert_eq!(&a, &b);
        }
    }

    #[test]
    fn any_text_at_all(text in any::<String>(), near in "[a*/%:]{0,4}[a-z*/.]{0,3}:?[a-z.*]{0,3}/?([a-z*%0-9A-F~@+=]{0,3}/?){0,4}") {
        bodies::scope(&text);
        bodies::scope(&near);
    }
}

#[test]
fn the_grammar_takes_its_examples() {
    for text in [
        "tools/call:crm/get_customer",
        "resources/read:docs/projects/**",
        "GET:billing/v1/invoices/*",
        "db.select:warehouse/sales/eu/*",
        "*:crm/**",
        "a:b/~_-.@+=",
        "a:b/x%20y%2F%C3%A9",
        "a:-/b",
    ] {
        assert_eq!(text.parse::<Scope>().map(|scope| scope.to_string()).as_deref(), Ok(text));
    }
}

#[test]
fn the_grammar_refuses_all_else() {
    use ScopeError as E;
    let refused = |text: &str| text.parse::<Scope>().expect_err(text);
    for text in ["", "a", "a:b", "a/b", "tools/call"] {
        assert!(matches!(refused(text), E::Shape(_)), "{text}");
    }
    for text in
        [":crm/a", "a//b:crm/a", "a/:crm/a", "a b:crm/a", "**:crm/a", "a*:crm/a", "a/**:crm/a", "ä:crm/a", "a%20:c/a"]
    {
        assert!(matches!(refused(text), E::Action(_)), "{text}");
    }
    for text in ["a:/b", "a:CRM/b", "a:c_m/b", "a:*/b", "a:c*/b", "a:c:d/b"] {
        assert!(matches!(refused(text), E::System(_)), "{text}");
    }
    assert!(matches!(refused(&format!("a:{}/b", "c".repeat(64))), E::System(_)));
    for text in [
        "a:c/", "a:c//", "a:c/a/", "a:c/a//b", "a:c/a*", "a:c/*a", "a:c/***", "a:c/**/a", "a:c/a b", "a:c/a;b",
        "a:c/a?b", "a:c/é", "a:c/%", "a:c/%2", "a:c/%2f", "a:c/%GG", "a:c/%41", "a:c/%7E", "a:c/%2E", "a:c/a:b",
    ] {
        assert!(matches!(refused(text), E::Object(_)), "{text}");
    }
    let long = format!("a:c/{}", "x".repeat(252));
    assert_eq!(long.parse::<Scope>().map(|scope| scope.as_str().len()), Ok(256));
    assert_eq!(refused(&format!("{long}x")), E::TooLong(257));
}

#[test]
fn a_star_is_one_segment_and_two_are_one_or_more() {
    let covers = |wide: &str, narrow: &str| wide.parse::<Scope>().unwrap().covers(&narrow.parse().unwrap());
    assert!(covers("a:c/*", "a:c/x"));
    assert!(!covers("a:c/*", "a:c/x/y"));
    assert!(!covers("a:c/*", "a:c/**"));
    assert!(covers("a:c/**", "a:c/*"));
    assert!(covers("a:c/x/**", "a:c/x/*/**"));
    assert!(!covers("a:c/x/**", "a:c/x"));
    assert!(!covers("a:c/*/**", "a:c/**"));
    assert!(!covers("a:c/x", "a:d/x"));
    assert!(!covers("a/*:c/x", "a:c/x"));
}

#[test]
fn a_set_is_sorted_unique_and_bounded() {
    let scope = |n: usize| format!("a:c/{n:03}").parse::<Scope>().unwrap();
    let set = ScopeSet::new([3, 1, 2, 1].map(scope)).unwrap();
    assert_eq!(set.iter().map(Scope::as_str).collect::<Vec<_>>(), ["a:c/001", "a:c/002", "a:c/003"]);
    assert!(ScopeSet::new((0..64).chain(0..64).map(scope)).is_ok());
    assert_eq!(ScopeSet::new((0..65).map(scope)), Err(ScopeError::TooMany(65)));
    assert_eq!(PatternSet::new((0..65).map(scope).map(Pattern::from)), Err(ScopeError::TooMany(65)));
}
