//! Every mistake gets an error that says what to write. To see what changed: `TRYBUILD=overwrite cargo test`.

#[test]
fn mistakes_are_answered_with_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
