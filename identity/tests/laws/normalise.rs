//! What a service checks: every refusal, and one spelling for the rest.

use proptest::prelude::*;

use chancery_identity::normalise::{Path, PathRefused, segment};

use crate::bodies;

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    use PathRefused as R;
    let cases: &[(&str, R)] = &[
        ("", R::NotAbsolute),
        ("a", R::NotAbsolute),
        ("*", R::NotAbsolute),
        ("http://h/a", R::NotAbsolute),
        ("//", R::EmptySegment),
        ("//a", R::EmptySegment),
        ("/a//b", R::EmptySegment),
        ("/a/", R::EmptySegment),
        ("/.", R::DotSegment),
        ("/..", R::DotSegment),
        ("/a/../b", R::DotSegment),
        ("/%2e", R::DotSegment),
        ("/%2E%2e/b", R::DotSegment),
        ("/.%2e", R::DotSegment),
        ("/a%2Fb", R::Separator),
        ("/a%2fb", R::Separator),
        ("/a\\b", R::Separator),
        ("/a%5Cb", R::Separator),
        ("/..%2fb", R::Separator),
        ("/a%00", R::Control),
        ("/a\0", R::Control),
        ("/a%0d%0aHost", R::Control),
        ("/a\tb", R::Control),
        ("/a%7F", R::Control),
        ("/a%252e", R::DoubleEncoding),
        ("/a%25", R::DoubleEncoding),
        ("/a%", R::Encoding),
        ("/a%4", R::Encoding),
        ("/a%zz", R::Encoding),
        ("/a%+1", R::Encoding),
        ("/*", R::Wildcard),
        ("/a*", R::Wildcard),
        ("/%2A", R::Wildcard),
        ("/**", R::Wildcard),
        ("/a;v=1", R::Parameter),
        ("/a%3Bv=1", R::Parameter),
        ("/%C0%AF", R::Utf8),
        ("/%C0%AE%C0%AE", R::Utf8),
        ("/a%FF", R::Utf8),
        ("/%ED%A0%80", R::Utf8),
    ];
    for &(path, why) in cases {
        assert_eq!(Path::parse(path), Err(why), "{path:?}");
    }
}

#[test]
fn the_rest_has_one_spelling() {
    for (raw, spelled) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/customers/J%6Fe%20B", "/customers/Joe%20B"),
        ("/a b", "/a%20b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/é", "/%C3%A9"),
        ("/a:b", "/a%3Ab"),
        ("/...", "/..."),
        ("/~_-.@+=", "/~_-.@+="),
        ("/%7E", "/~"),
        ("/a!$&'(),", "/a%21%24%26%27%28%29%2C"),
    ] {
        assert_eq!(Path::parse(raw).map(|path| path.to_string()).as_deref(), Ok(spelled), "{raw:?}");
    }
    assert_eq!(segment("get_customer").as_deref(), Ok("get_customer"));
    assert_eq!(segment("get customer"), Ok("get%20customer".into()));
    assert_eq!(segment("a/b"), Err(PathRefused::Separator));
    assert_eq!(segment("a%20b"), Err(PathRefused::DoubleEncoding));
    assert_eq!(segment("*"), Err(PathRefused::Wildcard));
    assert_eq!(segment(""), Err(PathRefused::EmptySegment));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn normalising_twice_is_normalising_once(path in "(/([a-zA-Z0-9._~@+=:é -]|%[0-9a-fA-F]{2}){0,6}){0,5}") {
        bodies::normalise_path(&path);
    }

    #[test]
    fn any_text_at_all(path in any::<String>()) {
        bodies::normalise_path(&path);
        bodies::normalise_path(&format!("/{path}"));
    }

    /// However a character is written, it is the same object.
    #[test]
    fn encoding_never_changes_the_object(word in "[a-zA-Z0-9._~@+= éß:!-]{1,8}") {
        let encoded: String = word.bytes().map(|b| format!("%{b:02x}")).collect();
        prop_assert_eq!(Path::parse(&format!("/{word}")), Path::parse(&format!("/{encoded}")));
    }
}
