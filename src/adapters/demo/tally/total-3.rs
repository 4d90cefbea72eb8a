
// From a customer's invoice, where 2.5 was read as 2.05.
#[test]
fn one_decimal_digit_means_tens_of_cents() {
    assert_eq!(cents("2.5"), Ok(250));
    assert_eq!(total("2.5\n2.50"), Ok(500));
}
