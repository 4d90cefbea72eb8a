//! Characters that text from outside may hide something with.

/// Returns whether a character is not shown, or changes how others are shown: control characters, zero-width and direction
/// marks, and the tags and selectors that can spell invisible words.
pub fn is_hidden(c: char) -> bool {
    match c {
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e01ef}' => true,
        c => c.is_control(),
    }
}
