
#[test]
fn shows_a_total() {
    assert_eq!(tally::show(1300), "13.00");
    assert_eq!(tally::show(-5), "-0.05");
}
