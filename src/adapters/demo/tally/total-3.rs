
// A customer's invoice: 2.5 was counted as 2.05.
#[test]
fn one_digit_after_the_point_means_tens_of_cents() {
    assert_eq!(cents("2.5"), Ok(250));
    assert_eq!(total("2.5\n2.50"), Ok(500));
}
