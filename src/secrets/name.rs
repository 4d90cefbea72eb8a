//! Names of secrets.

use std::fmt;

const MAX_NAME: usize = 64;

/// A secret's name: a letter, then letters, digits, `_`, `-` and `.`, at most 64 in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

impl SecretName {
    /// Parses a name.
    ///
    /// # Errors
    /// The name is too long or has other characters; the error says which.
    pub fn new(text: &str) -> Result<SecretName, String> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        match text {
            t if t.len() > MAX_NAME => Err(format!("a secret's name has at most {MAX_NAME} characters")),
            t if t.starts_with(|c: char| c.is_ascii_alphabetic()) && t.chars().all(is_word) => {
                Ok(SecretName(t.to_owned()))
            }
            _ => Err("a secret's name starts with a letter and has only letters, digits, _ - and .".to_owned()),
        }
    }
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
