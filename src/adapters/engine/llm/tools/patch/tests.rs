//! Applying patches to texts, and the errors when one does not match.

use super::fit::apply;
use super::read;
use proptest::prelude::*;

fn fitted(text: &str, patch: &str) -> Result<String, String> {
    apply(text, &read::patch(patch)?[0].hunks)
}

#[test]
fn both_forms_agree_and_wrong_counts_and_numbers_are_ignored() {
    let text = "one\ntwo\nthree\nfour\n";
    for patch in [
        "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n",
        "```diff\n--- x\n+++ x\n@@ -40,9 +7,1 @@ fn who()\n one\n-two\n+zwei\n three\n```\n",
        "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\t2026\n+++ b/x\t2026\n@@ -2 +2 @@\n-two\n+zwei\n",
        "*** Begin Patch\n*** Update File: x\n@@ one\n-two\n+zwei\n*** End Patch",
        "*** Begin Patch\n*** Update File: x\n one\n-two\n+zwei\n*** End Patch\n",
    ] {
        assert_eq!(fitted(text, patch).as_deref(), Ok("one\nzwei\nthree\nfour\n"), "{patch}");
    }
}

#[test]
fn an_ambiguous_hunk_goes_to_its_line_or_is_refused() {
    let text = "a\nx\nb\na\nx\nb\n";
    let at = |line: usize| format!("--- a/f\n+++ b/f\n@@ -{line},2 +{line},2 @@\n a\n-x\n+y\n");
    assert_eq!(fitted(text, &at(4)).unwrap(), "a\nx\nb\na\ny\nb\n");
    assert_eq!(fitted(text, &at(1)).unwrap(), "a\ny\nb\na\nx\nb\n");
    assert!(fitted(text, &at(3)).unwrap_err().contains("hunk 1 (@@ -3) matches at several lines (1, 4)"));
    let under = "*** Begin Patch\n*** Update File: f\n@@ b\n a\n-x\n+y\n*** End Patch";
    assert_eq!(fitted(text, under).unwrap(), "a\nx\nb\na\ny\nb\n");
    let end = "*** Begin Patch\n*** Update File: f\n@@\n a\n-x\n+y\n b\n*** End of File\n*** End Patch";
    assert_eq!(fitted(text, end).unwrap(), "a\nx\nb\na\ny\nb\n");
    let repeated = format!("--- a/f\n+++ b/f\n@@ -1 +1 @@\n{} b\n", "-a\n".repeat(20_000));
    assert!(fitted(&"a\n".repeat(100_000), &repeated).unwrap_err().contains("too repetitive"));
}

#[test]
fn a_mismatch_shows_the_lines_in_the_file() {
    let result = fitted(
        "fn a() {\n    one();\n    three();\n}\n",
        "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n fn a() {\n     one();\n-    two();\n+    drei();\n",
    );
    assert_eq!(
        result.unwrap_err(),
        "hunk 1 (@@ -1) does not match: expected \"    two();\" at line 3, found \"    three();\". Lines in the file:\n\
         1\tfn a() {\n2\t    one();\n3\t    three();"
    );
    assert!(fitted("a\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-zz\n+y\n").unwrap_err().contains("none of its lines"));
    assert!(
        fitted("a\nb\n", "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-b\n+c\n@@ -1 +1 @@\n-a\n+d\n").is_err(),
        "hunks go down"
    );
    for (patch, part) in [
        ("hello", "the patch contains no file"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\nfoo\n", "line 4 of the patch, \"foo\", must start with"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n```\nso it is\n", "is not part of a diff"),
        ("diff --git a/f b/f\nnew file mode 120000\n", "with mode 120000"),
        ("diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", "is not supported: a patch"),
        ("diff --git a/f b/f\nGIT binary patch\n", "is not supported: a patch"),
        ("*** Begin Patch\n*** Copy File: f\n", "is not *** Update File:"),
        ("*** Begin Patch\n*** Add File: f\n+a\nb\n", "must start with"),
        ("--- \"a/\\303\"\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", "quotes a file name that is not UTF-8"),
    ] {
        assert!(read::patch(patch).unwrap_err().contains(part), "{patch}: {:?}", read::patch(patch));
    }
}

#[test]
fn line_endings_are_preserved_unless_the_patch_changes_them() {
    let patch = "--- a/f\n+++ b/f\n@@ -1,2 +1,3 @@\n a\n-b\n+c\n+d\n";
    assert_eq!(fitted("a\r\nb\r\n", patch).unwrap(), "a\r\nc\r\nd\r\n");
    assert_eq!(fitted("a\r\nb\r\n", &patch.replace('\n', "\r\n")).unwrap(), "a\r\nc\r\nd\r\n");
    assert_eq!(fitted("a\r\nb\nz\n", patch).unwrap(), "a\r\nc\nd\nz\n");
    assert_eq!(fitted("a\nb", patch).unwrap(), "a\nc\nd");
    assert_eq!(fitted("a\nb", &format!("{patch}\\ No newline at end of file\n")).unwrap(), "a\nc\nd");
    assert_eq!(fitted("a\nb\n", &format!("{patch}\\ No newline at end of file\n")).unwrap(), "a\nc\nd");
    let ended = patch.replace("-b\n", "-b\n\\ No newline at end of file\n");
    assert_eq!(fitted("a\nb", &ended).unwrap(), "a\nc\nd\n");
    assert_eq!(fitted("a\nb", "--- a/f\n+++ b/f\n@@ -2,0 +3 @@\n+c\n").unwrap(), "a\nb\nc");
}

#[test]
fn a_carriage_return_of_an_added_line_is_kept() {
    let new = "--- /dev/null\n+++ b/f\n@@ -0,0 +1,2 @@\n+a\r\n+b\r\n";
    assert_eq!(fitted("", new).unwrap(), "a\r\nb\r\n");
    assert_eq!(
        fitted("", "*** Begin Patch\n*** Add File: f\n+a\r\n+\r\n+b\r\n*** End Patch").unwrap(),
        "a\r\n\r\nb\r\n"
    );
    let change = |old: &str, new: &str| format!("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-{old}\n+{new}\n b\n");
    assert_eq!(fitted("a\nb\n", &change("a", "a\r")).unwrap(), "a\r\nb\n");
    assert_eq!(fitted("a\r\nb\n", &change("a\r", "a")).unwrap(), "a\nb\n");
    let all = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\r\n-b\r\n+a\n+b\n";
    assert_eq!(fitted("a\r\nb\r\n", all).unwrap(), "a\nb\n");
    // The whole patch got other line endings on its way here.
    assert_eq!(fitted("a\nb\n", &change("a", "c").replace('\n', "\r\n")).unwrap(), "c\nb\n");
    // Of lines that differ only in their ending, the one that is named is meant.
    let mixed = "x\r\ny\nx\ny\n";
    assert_eq!(fitted(mixed, "--- a/f\n+++ b/f\n@@\n-x\r\n+z\r\n").unwrap(), "z\r\ny\nx\ny\n");
    assert_eq!(fitted(mixed, "--- a/f\n+++ b/f\n@@\n-x\n+z\n").unwrap(), "x\r\ny\nz\ny\n");
}

#[test]
fn names_in_quotes_are_resolved_wherever_git_writes_them() {
    let named = |patch: &str| read::patch(patch).map(|changes| (changes[0].from.clone(), changes[0].to.clone()));
    let some = |name: &str| Some(name.to_owned());
    for (patch, from, to) in [
        ("--- \"a/\\303\\251.txt\"\n+++ \"b/\\303\\251.txt\"\n@@ -1 +1 @@\n-a\n+b\n", some("é.txt"), some("é.txt")),
        (
            "diff --git \"a/\\303\\251\" b/e\nsimilarity index 100%\nrename from \"\\303\\251\"\nrename to e\n",
            some("é"),
            some("e"),
        ),
        (
            "diff --git a/e \"b/t\\tb\"\nsimilarity index 100%\nrename from e\nrename to \"t\\tb\"\n",
            some("e"),
            some("t\tb"),
        ),
        (
            "diff --git \"a/\\303\\251\" \"b/\\303\\251\"\nnew file mode 100644\nindex 0000000..e69de29\n",
            None,
            some("é"),
        ),
        (
            "diff --git \"a/q\\\"q\" \"b/q\\\"q\"\ndeleted file mode 100644\nindex e69de29..0000000\n",
            some("q\"q"),
            None,
        ),
    ] {
        assert_eq!(named(patch), Ok((from, to)), "{patch}");
    }
    let broken = "diff --git a/e b/f\nrename from e\nrename to \"\\303\"\n";
    assert!(named(broken).unwrap_err().contains("quotes a file name that is not UTF-8"));
}

#[test]
fn lines_that_look_like_heads_are_lines() {
    let sql = "select 1;\n-- old note\nselect 2;\n";
    let patch = "--- a/q.sql\n+++ b/q.sql\n@@ -1,3 +1,3 @@\n select 1;\n--- old note\n+-- new note\n select 2;\n";
    assert_eq!(fitted(sql, patch).unwrap(), "select 1;\n-- new note\nselect 2;\n");
    // An empty context line without its leading space, and the blank line before the next file.
    let two = "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n";
    let changes = read::patch(two).unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!(apply("a\n\nb\n", &changes[0].hunks).unwrap(), "a\n\nc\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// A unified diff of two texts turns one into the other. Without line numbers, it either still does or is refused.
    #[test]
    fn a_diff_of_two_texts_turns_one_into_the_other(
        before in prop::collection::vec("[ab]{0,2}", 0..30),
        after in prop::collection::vec("[ab]{0,2}", 0..30),
        ends in any::<(bool, bool)>(),
        context in 0usize..4,
    ) {
        let text = |lines: &[String], end: bool| {
            let whole: String = lines.iter().map(|l| format!("{l}\n")).collect();
            if end || lines.last().is_none_or(|l| l.is_empty()) { whole } else { whole[..whole.len() - 1].to_owned() }
        };
        let (old, new) = (text(&before, ends.0), text(&after, ends.1));
        prop_assume!(old != new);
        let diff = similar::TextDiff::from_lines(&old, &new);
        let patch = diff.unified_diff().context_radius(context).header("a/f", "b/f").to_string();
        prop_assert_eq!(fitted(&old, &patch), Ok(new.clone()), "{}", patch);
        let unnumbered = patch.lines().map(|l| if l.starts_with("@@") { "@@" } else { l }).collect::<Vec<_>>().join("\n");
        if let Ok(patched) = fitted(&old, &unnumbered) {
            prop_assert_eq!(patched, new, "{}", unnumbered);
        }
    }

    #[test]
    fn no_input_panics(text in "[-+ @\\\\*/a-c\\n\\r]{0,200}", file in "[a-c \\r\\n]{0,80}", begin in 0usize..4) {
        let heads = ["", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n", "*** Begin Patch\n*** Update File: f\n", "diff --git a/f b/f\n"];
        for change in read::patch(&format!("{}{text}", heads[begin])).unwrap_or_default() {
            let _fits_or_says_why = apply(&file, &change.hunks);
        }
    }
}
