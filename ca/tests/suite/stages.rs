//! What must not compile: stages skipped, repeated or made by hand.

#[test]
fn stages_cannot_be_skipped_repeated_or_made_by_hand() {
    trybuild::TestCases::new().compile_fail("tests/suite/stages/*.rs");
}
