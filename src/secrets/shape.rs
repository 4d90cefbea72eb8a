//! Recognizes keys and tokens of well-known services by their format, without knowing their values.

use aho_corasick::{AhoCorasick, MatchKind};
use std::sync::LazyLock;

/// Certainty that a text is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sure {
    /// It may be a secret. Masked only in logs and errors, where a false positive costs nothing.
    May,
    /// It is a secret. Masked everywhere, and it stops a push.
    Yes,
}

/// A text that looks like a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub rule: &'static str,
    pub start: usize,
    pub end: usize,
}

/// A kind of token, recognized by its prefix.
struct Token {
    rule: &'static str,
    start: &'static str,
    /// Minimum number of bytes after the prefix for a certain match.
    sure: usize,
}

const fn token(rule: &'static str, start: &'static str, sure: usize) -> Token {
    Token { rule, start, sure }
}

const NEVER_SURE: usize = usize::MAX;
/// Minimum number of bytes after the prefix of a possible token.
const MAY: usize = 8;

#[rustfmt::skip]
const TOKENS: &[Token] = &[
    token("github-token", "ghp_", 36), token("github-token", "gho_", 36), token("github-token", "ghu_", 36),
    token("github-token", "ghs_", 36), token("github-token", "ghr_", 36), token("github-token", "github_pat_", 40),
    token("gitlab-token", "glpat-", 20), token("slack-token", "xoxb-", 20), token("slack-token", "xoxp-", 20),
    token("slack-token", "xoxa-", 20), token("slack-token", "xapp-", 20), token("api-key", "sk-ant-", 24),
    token("api-key", "sk-proj-", 24), token("api-key", "sk-or-v1-", 24), token("api-key", "sk-", 32),
    token("payment-key", "sk_live_", 20), token("payment-key", "rk_live_", 20), token("google-key", "AIza", 35),
    token("skep-token", "skep_pat_", 70), token("skep-token", "skep_svc_", 70),
    token("skep-token", "skep_agt_", 70), token("skep-token", "skep_inv_", 70),
    token("npm-token", "npm_", 36), token("pypi-token", "pypi-AgE", 50), token("aws-key", "AKIA", 16), token("aws-key", "ASIA", 16),
    token("bearer", "Bearer ", NEVER_SURE), token("bearer", "bearer ", NEVER_SURE), token("basic", "Basic ", NEVER_SURE),
];
/// Prefixes after those of the tokens, whose secrets are recognized by more than the prefix.
const JWT: &str = "eyJ";
const PRIVATE_KEY: &str = "-----BEGIN ";
const URL: &str = "://";
const PARAMETER: &str = "password=";
/// Start of the text that replaces a secret.
const MASK: &[u8] = b"[redacted:";

/// Maximum number of masked bytes of a private key without an end marker.
const KEY_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of the authority of a URL.
const AUTHORITY_BYTES_MAX: usize = 1024;

/// Search for all prefixes at once. Building it can fail only because of its size.
static STARTS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let starts = TOKENS.iter().map(|t| t.start).chain([JWT, PRIVATE_KEY, URL, PARAMETER]);
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(starts).ok()
});

/// Returns the texts that look like secrets, in order and without overlaps.
pub(super) fn find(text: &[u8], least: Sure) -> Vec<Hit> {
    let Some(starts) = STARTS.as_ref() else { return Vec::new() };
    let (mut hits, mut done) = (Vec::new(), 0);
    for found in starts.find_iter(text) {
        if found.start() < done {
            continue;
        }
        let hit = match TOKENS.get(found.pattern().as_usize()) {
            Some(token) => of_token(text, token, found.start(), least),
            None => match found.pattern().as_usize() - TOKENS.len() {
                0 => jwt(text, found.start()),
                1 => private_key(text, found.start()),
                2 if least == Sure::May => url_password(text, found.end()),
                3 if least == Sure::May => parameter(text, found.end()),
                _ => None,
            },
        };
        if let Some(hit) = hit {
            done = hit.end;
            hits.push(hit);
        }
    }
    hits
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Returns whether a word continues to the left of `at`: `task-1` does not contain `sk-`.
fn within_word(text: &[u8], at: usize) -> bool {
    at.checked_sub(1).and_then(|before| text.get(before)).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn run_of(text: &[u8], from: usize, is_in: impl Fn(u8) -> bool) -> usize {
    text.get(from..).unwrap_or_default().iter().take_while(|b| is_in(**b)).count()
}

fn of_token(text: &[u8], token: &Token, start: usize, least: Sure) -> Option<Hit> {
    let body = start + token.start.len();
    if within_word(text, start) {
        return None;
    }
    if token.sure == NEVER_SURE {
        let len = run_of(text, body, |b| is_word(b) || b"+/=.~:".contains(&b));
        let hit = Hit { rule: token.rule, start: body, end: body + len };
        return (least == Sure::May && len >= MAY).then_some(hit);
    }
    let len = run_of(text, body, is_word);
    let value = text.get(body..body + len)?;
    // An AWS key id has capitals and digits, and one length.
    let fits = !token.rule.starts_with("aws") || len == token.sure && value.iter().all(|b| !b.is_ascii_lowercase());
    let sure = fits && len >= token.sure && looks_random(value);
    let hit = Hit { rule: token.rule, start, end: body + len };
    (sure || (least == Sure::May && len >= MAY)).then_some(hit)
}

/// Returns whether a value looks random: letters and digits, enough of them distinct, and not marked as an example.
fn looks_random(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    value.iter().for_each(|b| seen[usize::from(*b)] = true);
    let different = seen.iter().filter(|s| **s).count();
    let low = value.to_ascii_lowercase();
    let contains = |word: &[u8]| low.windows(word.len()).any(|w| w == word);
    different >= 8
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && ![b"example".as_slice(), b"xxxx", b"placeholder", b"dummy", b"your-", b"your_"].into_iter().any(contains)
}

/// Recognizes a JSON web token: three parts, the first two of which begin like a JSON object.
fn jwt(text: &[u8], start: usize) -> Option<Hit> {
    if within_word(text, start) {
        return None;
    }
    let mut at = start;
    for (least, opens) in [(10, true), (10, true), (16, false)] {
        if at > start {
            at = (text.get(at) == Some(&b'.')).then_some(at + 1)?;
        }
        if opens && !text.get(at..)?.starts_with(JWT.as_bytes()) {
            return None;
        }
        let len = run_of(text, at, is_word);
        at = (len >= least).then_some(at + len)?;
    }
    Some(Hit { rule: "jwt", start, end: at })
}

/// Recognizes a private key with at least the beginning of its body. The marker alone occurs in every key parser.
fn private_key(text: &[u8], start: usize) -> Option<Hit> {
    const TAIL: &[u8] = b"PRIVATE KEY";
    let rest = &text[start + PRIVATE_KEY.len()..];
    let label = run_of(rest, 0, |b| b.is_ascii_uppercase() || b == b' ');
    if !rest[..label].ends_with(TAIL) && !rest[..label].ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let body = rest.get(label..)?.strip_prefix(b"-----")?;
    // Line ends (also escaped), quotes, and the markers that diffs and comments put at the start of a line.
    let skipped = run_of(body, 0, |b| b.is_ascii_whitespace() || b"\\nr\"'+#*/|>,;".contains(&b));
    let is_body = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    let coded = run_of(body, skipped, is_body);
    // Old keys begin with headers ("Proc-Type: 4,ENCRYPTED").
    let headed = body.get(skipped..).is_some_and(|b| b.starts_with(b"Proc-Type:") || b.starts_with(b"Version:"));
    if coded < 32 && !headed {
        return None;
    }
    let most = &rest[..rest.len().min(KEY_BYTES_MAX)];
    let end = most.windows(9).position(|w| w == b"-----END ").map(|at| {
        let line = at + 9;
        let label = run_of(most, line, |b| b.is_ascii_uppercase() || b == b' ');
        line + label + run_of(most, line + label, |b| b == b'-')
    });
    Some(Hit { rule: "private-key", start, end: start + PRIVATE_KEY.len() + end.unwrap_or(most.len()) })
}

/// Returns the length of a mask at the start: `[redacted:NAME]`.
fn mask(text: &[u8]) -> Option<usize> {
    let name = text.strip_prefix(MASK)?;
    name.iter().position(|b| *b == b']').map(|end| MASK.len() + end + 1)
}

/// Recognizes the password of `scheme://user:password@host`, or the user if there is no password: it is often a token,
/// except for SSH.
fn url_password(text: &[u8], start: usize) -> Option<Hit> {
    let rest = &text[start..text.len().min(start + AUTHORITY_BYTES_MAX)];
    let end = run_of(rest, 0, |b| !b.is_ascii_whitespace() && !b"\"'/?#".contains(&b));
    let at = rest[..end].iter().rposition(|b| *b == b'@')?;
    // The colon of a mask does not end the user.
    let mut colon = 0;
    while colon < at && rest[colon] != b':' {
        colon += mask(&rest[colon..at]).unwrap_or(1);
    }
    let has_password = colon < at;
    let from = if has_password { colon + 1 } else { 0 };
    let value = &rest[from..at];
    let scheme = &text[..start - URL.len()];
    let is_user = !has_password && (value == b"git" || scheme.ends_with(b"ssh") || scheme.ends_with(b"sftp"));
    let is_hit = !value.is_empty() && mask(value) != Some(value.len()) && !is_user;
    is_hit.then_some(Hit { rule: "url-password", start: start + from, end: start + at })
}

/// Recognizes the value of a `password=…` parameter.
fn parameter(text: &[u8], start: usize) -> Option<Hit> {
    let len = run_of(text, start, |b| !b.is_ascii_whitespace() && !b"&\"',;)}]<>".contains(&b));
    let is_hit = len > 0 && !text[start..].starts_with(MASK);
    is_hit.then_some(Hit { rule: "password", start, end: start + len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str, least: Sure) -> Vec<&'static str> {
        find(text.as_bytes(), least).into_iter().map(|h| h.rule).collect()
    }

    // Assembled at run time, so that no file of this repository contains what looks like a secret.
    fn token_like(start: &str, len: usize) -> String {
        let body: String = ('A'..='Z').zip('0'..='9').cycle().flat_map(|(a, b)| [a, b]).take(len).collect();
        format!("{start}{body}")
    }

    #[test]
    fn known_forms_are_found_and_their_neighbours_are_not() {
        for (start, len, rule) in [
            ("ghp_", 36, "github-token"),
            ("glpat-", 20, "gitlab-token"),
            ("sk-ant-", 24, "api-key"),
            ("AKIA", 16, "aws-key"),
            ("AIza", 35, "google-key"),
        ] {
            let found = token_like(start, len);
            assert_eq!(rules(&format!("x = \"{found}\"\n"), Sure::Yes), [rule], "{found}");
            let short = token_like(start, len - 6);
            assert!(rules(&short, Sure::Yes).is_empty(), "{short}");
            assert!(rules(&format!("x{found}"), Sure::Yes).is_empty());
        }
        let jwt = format!("{}.{}.{}", token_like("eyJ", 20), token_like("eyJ", 30), token_like("", 43));
        assert_eq!(rules(&format!("t={jwt};"), Sure::Yes), ["jwt"]);
        let key =
            format!("-----BEGIN RSA PRIVATE {}-----\n{}\n-----END RSA PRIVATE KEY-----", "KEY", token_like("", 64));
        let hits = find(format!("<{key}>").as_bytes(), Sure::Yes);
        assert_eq!(hits, [Hit { rule: "private-key", start: 1, end: 1 + key.len() }]);
        assert!(rules("if line == \"-----BEGIN PRIVATE KEY-----\" { parse() }", Sure::Yes).is_empty());
    }

    #[test]
    fn examples_and_prose_are_not_reported() {
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-your-key-goes-here-0123456789abcdef",
            "sk-circle-fade-dot-animation-delay-long",
            "Bearer authentication is used",
            "postgres://postgres:postgres@localhost/test",
            "eyJhbGciOi.x.y",
            "task-0123456789abcdefABCDEF0123456789abcdef",
        ] {
            assert!(rules(text, Sure::Yes).is_empty(), "{text}");
        }
    }

    #[test]
    fn possible_secrets_are_masked_in_logs() {
        for (text, want) in [
            ("postgres://skep:hunter2@db/skep", "postgres://skep:[redacted:url-password]@db/skep"),
            ("https://ghp_abcdefgh12345678@github.com/a/b x", "https://[redacted:url-password]@github.com/a/b x"),
            (
                "curl -H 'Authorization: Bearer abcdefghijkl' now",
                "curl -H 'Authorization: Bearer [redacted:bearer]' now",
            ),
            ("https://a:[redacted:A]b@host", "https://a:[redacted:url-password]@host"),
            ("https://[redacted:A]:pw@host", "https://[redacted:A]:[redacted:url-password]@host"),
            // A user of SSH proves nothing.
            ("ssh://git@nosuch.invalid/a.git", "ssh://git@nosuch.invalid/a.git"),
            ("git+ssh://me@host/a; https://git@host/a", "git+ssh://me@host/a; https://git@host/a"),
            ("ssh://git:pw@host/a", "ssh://git:[redacted:url-password]@host/a"),
            ("key sk-ant-0123456789", "key [redacted:api-key]"),
            ("db?user=a&password=pw1&x=2", "db?user=a&password=[redacted:password]&x=2"),
            ("task-1 of http://host/path@1", "task-1 of http://host/path@1"),
            ("", ""),
        ] {
            assert_eq!(crate::secrets::redact_all(text), want);
            assert_eq!(crate::secrets::redact_all(want), want, "a mask is not masked again");
        }
    }
}
