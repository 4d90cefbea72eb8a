//! Placeholders in an agent's command, environment and files, and quoting of the command for the shell that starts it.

/// Values of placeholders, by name.
#[derive(Clone, Debug, Default)]
pub struct Placeholders(Vec<(&'static str, String)>);

/// All placeholders.
pub const NAMES: &[&str] = &["model", "effort", "dir", "proxy_url", "home", "scratch", "prompt", "prompt_file"];

impl Placeholders {
    /// Sets the value of a placeholder.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    /// Replaces the placeholders of `text` once: values are not expanded again. Other text in braces is unchanged.
    ///
    /// # Errors
    /// If a placeholder has no value here.
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
        "model" => "it uses {model}, but no model was chosen; write the engine as KIND:AGENT/MODEL".to_owned(),
        "proxy_url" => "it uses {proxy_url} but has no provider; set the agent's provider".to_owned(),
        _ => format!("{{{name}}} cannot be used here"),
    }
}

/// Returns the placeholder at the start of `text`.
fn blank(text: &str) -> Option<&'static str> {
    NAMES.iter().find(|n| text[1..].strip_prefix(**n).is_some_and(|r| r.starts_with('}'))).copied()
}

/// Returns whether a text contains a placeholder.
pub fn has(text: &str, name: &str) -> bool {
    text.contains(&format!("{{{name}}}"))
}

/// Finds a word in braces that looks like a placeholder but is unknown: `{modle}`.
pub fn unknown(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(at, _)| {
        let inner = text[at + 1..].split_once('}')?.0;
        let worded = !inner.is_empty() && inner.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (worded && !NAMES.contains(&inner)).then_some(inner)
    })
}

/// Quotes arguments as a line for `/bin/sh`, which replaces itself by the program.
///
/// # Errors
/// If there is no program, or an argument contains a NUL character.
pub fn line(words: &[String]) -> Result<String, String> {
    if words.first().is_none_or(|program| program.is_empty() || program.starts_with('-')) {
        return Err("the command has no program".to_owned());
    }
    let line = shlex::try_join(words.iter().map(String::as_str));
    Ok(format!("exec {}", line.map_err(|_| "the command contains a NUL character".to_owned())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_once_and_other_braces_stay() {
        let mut placeholders = Placeholders::default();
        placeholders.set("model", "{dir}");
        placeholders.set("dir", "/w");
        assert_eq!(placeholders.fill(r#"{"a": {"m": "{model}", "d": "{dir}/x"}} {modle} {"#).unwrap(), {
            r#"{"a": {"m": "{dir}", "d": "/w/x"}} {modle} {"#
        });
        assert!(placeholders.fill("{proxy_url}/v1").unwrap_err().contains("provider"));
        assert_eq!((unknown("--model={modle}"), unknown("{model}"), unknown("{\"a\"}")), (Some("modle"), None, None));
    }

    #[test]
    fn the_shell_receives_exactly_the_arguments() {
        let words = ["printf", "%s\n", "it's", "$HOME `id` $(id)", "-n", "a\nb", "", "*", "\\", "!x", "ü"];
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let out = std::process::Command::new("/bin/sh").arg("-c").arg(line(&words).unwrap()).output().unwrap();
        let printed = String::from_utf8(out.stdout).unwrap();
        assert_eq!(printed, words[2..].iter().map(|w| format!("{w}\n")).collect::<String>());
        assert!(
            line(&[]).is_err()
                && line(&["-x".to_owned()]).is_err()
                && line(&[String::new()]).is_err()
                && line(&["a\0".to_owned()]).is_err()
        );
    }
}
