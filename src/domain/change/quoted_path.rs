//! Paths as git writes them in patches and lists: in quotes, if they contain anything but printable ASCII characters
//! (`core.quotePath`, <https://git-scm.com/docs/git-config>).

/// Returns a path that git wrote in quotes, with its escapes resolved; `None` if it is not UTF-8.
pub fn unquoted(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'a') => bytes.push(7),
            Some(b'b') => bytes.push(8),
            Some(b'v') => bytes.push(11),
            Some(b'f') => bytes.push(12),
            Some(digit @ b'0'..=b'7') => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(next) = rest.next_if(|b| (b'0'..=b'7').contains(b)) else { break };
                    value = value * 8 + u32::from(next - b'0');
                }
                bytes.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::unquoted;

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(unquoted(r"a/\303\251.txt").as_deref(), Some("a/é.txt"));
        assert_eq!(unquoted(r#"\"a\"\t\\"#).as_deref(), Some("\"a\"\t\\"));
        assert_eq!(unquoted(r"\303"), None);
        assert_eq!(unquoted("plain").as_deref(), Some("plain"));
    }
}
