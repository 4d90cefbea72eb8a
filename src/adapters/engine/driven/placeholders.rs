//! Blanks in an agent's command, environment and files; and a command's words as one line for the shell that starts it.

/// What the blanks stand for, by name.
#[derive(Clone, Debug, Default)]
pub struct Blanks(Vec<(&'static str, String)>);

/// Every blank there is.
pub const NAMES: &[&str] = &["model", "effort", "dir", "proxy_url", "home", "scratch", "prompt", "prompt_file"];

impl Blanks {
    /// Sets what a blank stands for.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    /// `text` with its blanks filled in, once: what is put in is not looked at again. Other text in braces stays as it is.
    ///
    /// # Errors
    /// When a blank stands for nothing here.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            match blank(rest) {
                Some(name) => {
                    let value = self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
                    out.push_str(value.ok_or_else(|| missing(name))?);
                    rest = &rest[name.len() + 2..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn missing(name: &str) -> String {
    match name {
        "model" => "it asks for {model} and none was chosen; write the engine as KIND:AGENT/MODEL".to_owned(),
        "proxy_url" => "it asks for {proxy_url} and has no provider; set the agent's provider".to_owned(),
        _ => format!("{{{name}}} cannot be used here"),
    }
}

/// The known blank `text` begins with.
fn blank(text: &str) -> Option<&'static str> {
    NAMES.iter().find(|n| text[1..].strip_prefix(**n).is_some_and(|r| r.starts_with('}'))).copied()
}

/// Whether a text has a blank in it.
pub fn has(text: &str, name: &str) -> bool {
    text.contains(&format!("{{{name}}}"))
}

/// A word in braces that is meant as a blank and is none: `{modle}`.
pub fn unknown(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(at, _)| {
        let inner = text[at + 1..].split_once('}')?.0;
        let worded = !inner.is_empty() && inner.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (worded && !NAMES.contains(&inner)).then_some(inner)
    })
}

/// Words as one line that `/bin/sh` takes apart into exactly these words, and replaces itself by the program.
///
/// # Errors
/// When there is no program, or a word has a NUL in it.
pub fn line(words: &[String]) -> Result<String, String> {
    if words.first().is_none_or(|program| program.is_empty() || program.starts_with('-')) {
        return Err("its command has no program".to_owned());
    }
    if words.iter().any(|w| w.contains('\0')) {
        return Err("its command has a NUL character in it".to_owned());
    }
    Ok(std::iter::once("exec".to_owned()).chain(words.iter().map(|w| quoted(w))).collect::<Vec<_>>().join(" "))
}

/// A word as `/bin/sh` takes it: as it is, whatever it holds.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_once_and_other_braces_stay() {
        let mut blanks = Blanks::default();
        blanks.set("model", "{dir}");
        blanks.set("dir", "/w");
        assert_eq!(blanks.fill(r#"{"a": {"m": "{model}", "d": "{dir}/x"}} {modle} {"#).unwrap(), {
            r#"{"a": {"m": "{dir}", "d": "/w/x"}} {modle} {"#
        });
        assert!(blanks.fill("{proxy_url}/v1").unwrap_err().contains("provider"));
        assert_eq!((unknown("--model={modle}"), unknown("{model}"), unknown("{\"a\"}")), (Some("modle"), None, None));
    }

    #[test]
    fn the_shell_sees_exactly_the_words() {
        let words = ["printf", "%s\n", "it's", "$HOME `id` $(id)", "-n", "a\nb", "", "*", "\\", "!x", "ü"];
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let out = std::process::Command::new("/bin/sh").arg("-c").arg(line(&words).unwrap()).output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        assert_eq!(said, words[2..].iter().map(|w| format!("{w}\n")).collect::<String>());
        assert!(
            line(&[]).is_err()
                && line(&["-x".to_owned()]).is_err()
                && line(&[String::new()]).is_err()
                && line(&["a\0".to_owned()]).is_err()
        );
    }
}
