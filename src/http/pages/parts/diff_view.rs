//! A file of a diff as a table: unified or side by side, with the changed words of a line marked.

use super::hidden::push_char;
use crate::render::diff::{FileDiff, Hunk, Line, LineKind};
use crate::render::words;
use maud::{Markup, PreEscaped, html};
use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Characters of a line that are shown.
const MAX_LINE_CHARS: usize = 4_000;
/// Time for the comparison of words on one page. Lines that are left are shown without marks.
const WORDS_TIME: Duration = Duration::from_millis(120);

/// Layout of a diff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One column.
    Unified,
    /// Old and new side by side.
    Split,
}

/// View of the files of one page.
pub struct View {
    layout: Layout,
    words_until: Instant,
}

/// Address of a comment on a line, for the reason of a decline.
pub type CommentLink<'a> = &'a dyn Fn(u64) -> String;

/// Comments on the lines of one file. The tab key stops at the first line only: a diff has hundreds. Arrow keys lead
/// from there to the others.
struct Comments<'a> {
    address: CommentLink<'a>,
    is_first: Cell<bool>,
}

impl View {
    /// Creates a view.
    pub fn new(layout: Layout) -> View {
        View { layout, words_until: Instant::now() + WORDS_TIME }
    }

    /// Returns the lines `part` of a file, counted over its hunks.
    pub fn table(&self, file: &FileDiff<'_>, part: Range<usize>, comment: Option<CommentLink<'_>>) -> Markup {
        let mut at = 0;
        let comment = comment.map(|address| Comments { address, is_first: Cell::new(true) });
        let columns: &[&str] = match self.layout {
            Layout::Unified => &["Old line", "New line", "Text"],
            Layout::Split => &["Old line", "Old text", "New line", "New text"],
        };
        html! {
            table.diff.split[self.layout == Layout::Split] {
                @if self.layout == Layout::Split { colgroup { col.n; col; col.n; col; } }
                thead.hidden-title { tr { @for name in columns { th scope="col" { (name) } } } }
                @for hunk in &file.hunks {
                    @let from = part.start.saturating_sub(at).min(hunk.lines.len());
                    @let to = part.end.saturating_sub(at).min(hunk.lines.len());
                    ({ at += hunk.lines.len(); "" })
                    @if from < to { (self.hunk(hunk, from..to, comment.as_ref())) }
                }
            }
        }
    }

    fn hunk(&self, hunk: &Hunk<'_>, part: Range<usize>, comment: Option<&Comments<'_>>) -> Markup {
        let lines = &hunk.lines[part];
        let until = self.words_until;
        let marks = words::marks(lines, Some(until), || Instant::now() < until);
        let columns = if self.layout == Layout::Split { 4 } else { 3 };
        let first = lines.iter().find(|l| l.new > 0 || l.old > 0);
        html! {
            tbody {
                tr.hunk { td colspan=(columns) {
                    @if let Some(line) = first { "Line " (line.new.max(line.old)) }
                    @if !hunk.context.is_empty() { " · " bdi { (text(hunk.context, &[])) } }
                } }
                @match self.layout {
                    Layout::Unified => {
                        @for (line, marks) in lines.iter().zip(&marks) {
                            tr class=(class(line.kind)) {
                                td.n { (number(line.old, None)) }
                                td.n { (number(line.new, comment)) }
                                (code(line, marks))
                            }
                        }
                    }
                    Layout::Split => {
                        @for (left, right) in pairs(lines) {
                            tr {
                                @if let Some(at) = left {
                                    td class={ "n " (class(lines[at].kind)) } { (number(lines[at].old, None)) }
                                    (code(&lines[at], &marks[at]))
                                } @else { td.n.none {} td.c.none {} }
                                @if let Some(at) = right {
                                    td class={ "n " (class(lines[at].kind)) } { (number(lines[at].new, comment)) }
                                    (code(&lines[at], &marks[at]))
                                } @else { td.n.none {} td.c.none {} }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the rows of the side-by-side layout, as indices of lines.
fn pairs(lines: &[Line<'_>]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut rows = Vec::with_capacity(lines.len());
    let mut at = 0;
    for (removed, added) in words::blocks(lines) {
        rows.extend((at..removed.start).map(|n| (Some(n), Some(n))));
        for n in 0..removed.len().max(added.len()) {
            let index = |range: &Range<usize>| Some(range.start + n).filter(|i| *i < range.end);
            rows.push((index(&removed), index(&added)));
        }
        at = added.end;
    }
    rows.extend((at..lines.len()).map(|n| (Some(n), Some(n))));
    rows
}

fn class(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Same => "same",
        LineKind::Added => "add",
        LineKind::Removed => "del",
        LineKind::Remark => "remark",
    }
}

fn number(n: u64, comment: Option<&Comments<'_>>) -> Markup {
    html! {
        @if n > 0 {
            @match comment {
                Some(comments) => a href=((comments.address)(n)) rel="nofollow" aria-label={ "Comment on line " (n) }
                    tabindex=[(!comments.is_first.replace(false)).then_some("-1")] { (n) },
                None => (n),
            }
        }
    }
}

/// Returns the cell of a line. The sign is text, so that the difference does not depend on color.
fn code(line: &Line<'_>, marks: &[Range<usize>]) -> Markup {
    let sign = match line.kind {
        LineKind::Added => "+",
        LineKind::Removed => "−",
        LineKind::Same | LineKind::Remark => " ",
    };
    html! { td class={ "c " (class(line.kind)) } { i { (sign) } bdi { (text(line.text, marks)) } } }
}

/// Returns text with marks, escaped, cut if it is very long.
fn text(text: &str, marks: &[Range<usize>]) -> Markup {
    let mut out = String::with_capacity(text.len() + 16);
    let mut is_marked = false;
    for (shown, (at, c)) in text.char_indices().enumerate() {
        let marked = marks.iter().any(|range| range.contains(&at));
        if marked != is_marked {
            out.push_str(if marked { "<mark>" } else { "</mark>" });
            is_marked = marked;
        }
        if shown == MAX_LINE_CHARS {
            let left = text[at..].chars().count();
            out.push_str(&format!("<span class=\"cut\">… {left} more characters</span>"));
            break;
        }
        push_char(&mut out, c);
    }
    if is_marked {
        out.push_str("</mark>");
    }
    PreEscaped(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::diff::parse;
    use proptest::prelude::*;

    const PATCH: &str = "diff --git a/a b/a\n@@ -1,3 +1,3 @@\n one\n-let total = add(a, b);\n-gone\n+let total = sum(a, b);\n \
        end<script>\n";

    #[test]
    fn changed_words_are_marked_in_both_layouts() {
        let files = parse(PATCH);
        for layout in [Layout::Unified, Layout::Split] {
            let html = View::new(layout).table(&files[0], 0..99, None).into_string();
            assert!(html.contains("<mark>add(a,</mark>") || html.contains("<mark>add"), "{html}");
            assert!(html.contains("end&lt;script&gt;") && !html.contains("<script>"), "{html}");
        }
        let rows = pairs(&files[0].hunks[0].lines);
        assert_eq!(rows, [(Some(0), Some(0)), (Some(1), Some(3)), (Some(2), None), (Some(4), Some(4))]);
    }

    #[test]
    fn a_part_of_a_file_has_only_its_lines() {
        let files = parse(PATCH);
        let html = View::new(Layout::Unified).table(&files[0], 4..5, None).into_string();
        assert_eq!(html.matches("td class=\"c").count(), 1, "{html}");
    }

    proptest! {
        #[test]
        fn marks_neither_add_nor_lose_text(a in "[a-c <&\u{200b}é]{0,30}", b in "[a-c <&\u{200b}é]{0,30}") {
            let (old, new) = words::between(&a, &b, None);
            for (line, marks) in [(&a, &old), (&b, &new)] {
                let plain = text(line, &[]).into_string();
                let marked = text(line, marks).into_string();
                prop_assert_eq!(marked.replace("<mark>", "").replace("</mark>", ""), plain);
            }
        }
    }
}
