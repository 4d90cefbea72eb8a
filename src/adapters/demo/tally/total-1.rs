use tally::{cents, total};

#[test]
fn reads_amounts() {
    assert_eq!(cents("12.34"), Ok(1234));
    assert_eq!(cents("7"), Ok(700));
    assert_eq!(cents("0.05"), Ok(5));
    assert!(cents("twelve").is_err());
}

#[test]
fn adds_up_a_list() {
    assert_eq!(total("12.34\n\n0.66\n"), Ok(1300));
}
