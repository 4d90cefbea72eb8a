//! Text from outside, made safe for Markdown.

/// Returns text from outside as a code block whose fence it cannot close.
pub fn fenced(text: &str) -> String {
    // Cleaned first: a control character between backticks must not hide how many there will be.
    let clean: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let longest = clean.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", clean.trim_end())
}

/// Returns one line of text from outside as a code span.
pub fn inline(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control() && *c != '`').collect();
    format!("`{}`", clean.trim())
}
