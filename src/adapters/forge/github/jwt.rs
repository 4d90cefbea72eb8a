//! The signed token by which a GitHub App identifies itself (RS256).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use zeroize::Zeroizing;

/// How long it is valid, in seconds. GitHub accepts at most ten minutes.
const VALID_SECS: u64 = 540;
/// How much this machine's clock may be ahead of GitHub's, in seconds.
const SKEW_SECS: u64 = 60;

/// Signs a token for an App at a time, in seconds since the epoch.
///
/// # Errors
/// Why the key cannot be used.
pub(super) fn sign(app_id: u64, pem: &str, now_secs: u64) -> Result<String, String> {
    let key = key_pair(pem)?;
    let claims = serde_json::json!({
        "iat": now_secs.saturating_sub(SKEW_SECS),
        "exp": now_secs + VALID_SECS,
        "iss": app_id.to_string(),
    });
    let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","typ":"JWT"}"#);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "it cannot sign".to_owned())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Reads an RSA key in PKCS#1, as GitHub issues it, or in PKCS#8.
fn key_pair(pem: &str) -> Result<KeyPair, String> {
    let no_key = || "it is not an RSA private key in PEM (-----BEGIN RSA PRIVATE KEY-----)".to_owned();
    let (kind, rest) = ["RSA PRIVATE KEY", "PRIVATE KEY"]
        .into_iter()
        .find_map(|kind| Some((kind, pem.split_once(&format!("-----BEGIN {kind}-----"))?.1)))
        .ok_or_else(no_key)?;
    let (body, _) = rest.split_once(&format!("-----END {kind}-----")).ok_or_else(no_key)?;
    let base64: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let der = Zeroizing::new(STANDARD.decode(base64.as_str()).map_err(|_| no_key())?);
    let key = if kind == "PRIVATE KEY" { KeyPair::from_pkcs8(&der) } else { KeyPair::from_der(&der) };
    key.map_err(|e| format!("it is not an RSA private key that can be used: {e}"))
}
