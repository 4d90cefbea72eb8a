//! Readers tolerate any bytes: no panic, no hang, bounded text.

use proptest::prelude::*;
use skep::adapters::checks::{junit, repo_file};
use skep::adapters::engine::parse_script;
use skep::platform::{rooted_fs, terminal_text};

/// Bytes that resemble what the readers expect, corrupted at arbitrary positions.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "<testsuite",
        "<testcase>",
        "</testcase>",
        "<failure/>",
        ">",
        "failures=\"",
        "<!DOCTYPE",
        "<![CDATA[",
        "&a;",
        "[[check]]\n",
        "name = ",
        "\"\"\"",
        "[[turn]]\n",
        "step = \"develop\"\n",
        "edit = [",
        "\u{1b}[",
        "\u{1b}]0;",
        "\r",
        "\n",
        "../",
        "ü",
    ]);
    let piece =
        prop_oneof![3 => pieces.prop_map(|p| p.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..8)];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_never_panic(bytes in nearly(), most in 0usize..64) {
        let _report = junit::read(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        if let Err(output) = repo_file::parse(&text) {
            prop_assert!(output.starts_with(".skep.toml") && !output.contains('\n'), "{output:?}");
        }
        let _script = parse_script(&text);
        let _path = rooted_fs::check(&text);
        let tail = terminal_text::tail(&bytes, most);
        prop_assert!(tail.len() <= most);
        prop_assert!(tail.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{tail:?}");
    }
}

#[test]
fn deep_nesting_is_rejected() {
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(repo_file::parse(&deep[..60_000]).is_err());
    assert!(parse_script(&deep).is_err());
}
