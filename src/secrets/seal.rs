//! Encryption of stored secrets with XChaCha20-Poly1305 and a 32-byte key that is kept outside the store.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Size of a key in bytes.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// A master key. Zeroed when dropped; `Debug` shows only its id.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// An encrypted secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Id of the key.
    pub key_id: String,
    /// Random nonce of this encryption.
    pub nonce: Vec<u8>,
    /// Ciphertext with the authentication tag.
    pub ciphertext: Vec<u8>,
}

/// The ciphertext cannot be decrypted: it was changed, or sealed with another key or for another context. These cases
/// cannot be distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged, or was sealed for another context or with another key")]
pub struct Unsealable;

impl Key {
    /// Generates a random key.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn generate() -> Result<Key, getrandom::Error> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Key(bytes))
    }

    /// Parses a key from a file or a variable: 64 hex digits, or base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<Key> {
        let text = text.trim();
        let bytes = match text.len() == KEY_BYTES * 2 {
            true => {
                let digit = |n: usize| text.get(n * 2..n * 2 + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
                (0..KEY_BYTES).map(digit).collect::<Option<Vec<u8>>>()?
            }
            false => STANDARD.decode(text).ok()?,
        };
        let bytes = Zeroizing::new(bytes);
        // Zeros are a placeholder, which anyone could guess.
        if bytes.iter().all(|byte| *byte == 0) {
            return None;
        }
        Some(Key(bytes.as_slice().try_into().ok()?))
    }

    /// Returns the key as 64 hex digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Returns an identifier of the key, which reveals nothing about it.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"skep vault key id\0");
        hash.update(self.0);
        hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect()
    }

    /// Encrypts a text. It can only be decrypted with the same `context`.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn seal(&self, context: &[u8], text: &str) -> Result<Sealed, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload { msg: text.as_bytes(), aad: context };
        // Fails only for texts of hundreds of gigabytes.
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let ciphertext = sealed.map_err(|_| getrandom::Error::UNEXPECTED)?;
        Ok(Sealed { key_id: self.id(), nonce: nonce.to_vec(), ciphertext })
    }

    /// Decrypts a secret.
    ///
    /// # Errors
    /// If it was sealed with another key or context, or was changed.
    pub fn open(&self, context: &[u8], sealed: &Sealed) -> Result<super::Secret, Unsealable> {
        let nonce: [u8; NONCE_BYTES] = sealed.nonce.as_slice().try_into().map_err(|_| Unsealable)?;
        let payload = Payload { msg: &sealed.ciphertext, aad: context };
        let bytes = self.cipher().decrypt(&XNonce::from(nonce), payload).map_err(|_| Unsealable)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(super::Secret::new(text)),
            Err(bad) => {
                bad.into_bytes().zeroize();
                Err(Unsealable)
            }
        }
    }

    /// Encrypts a text for a place that holds only letters, digits, `-` and `_`, such as a cookie.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn seal_text(&self, context: &[u8], text: &str) -> Result<String, getrandom::Error> {
        let sealed = self.seal(context, text)?;
        Ok(URL_SAFE_NO_PAD.encode([sealed.nonce, sealed.ciphertext].concat()))
    }

    /// Decrypts what [`Key::seal_text`] has encrypted.
    ///
    /// # Errors
    /// If it was sealed with another key or context, or was changed.
    pub fn open_text(&self, context: &[u8], text: &str) -> Result<super::Secret, Unsealable> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Unsealable)?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES).ok_or(Unsealable)?;
        self.open(context, &Sealed { key_id: self.id(), nonce: nonce.to_vec(), ciphertext: ciphertext.to_vec() })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decryption_requires_the_same_key_and_context() {
        let key = Key::generate().unwrap();
        let sealed = key.seal(b"here", "the text").unwrap();
        assert_eq!(key.open(b"here", &sealed).unwrap().expose(), "the text");
        assert_ne!(key.seal(b"here", "the text").unwrap().nonce, sealed.nonce);
        assert!(key.open(b"there", &sealed).is_err());
        assert!(Key::generate().unwrap().open(b"here", &sealed).is_err());
        for at in 0..sealed.ciphertext.len() {
            let mut bad = sealed.clone();
            bad.ciphertext[at] ^= 1;
            assert!(key.open(b"here", &bad).is_err());
        }
        assert!(key.open(b"here", &Sealed { nonce: Vec::new(), ..sealed.clone() }).is_err());
    }

    #[test]
    fn sealed_texts_fit_into_cookies() {
        let key = Key::generate().unwrap();
        let sealed = key.seal_text(b"here", "the text; ü").unwrap();
        assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(key.open_text(b"here", &sealed).unwrap().expose(), "the text; ü");
        assert!(key.open_text(b"there", &sealed).is_err());
        for bad in ["", "AAAA", &sealed[1..], &format!("{sealed}AAAA"), "ü"] {
            assert!(key.open_text(b"here", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_parsed_in_both_forms() {
        let key = Key::generate().unwrap();
        assert_eq!(Key::parse(&format!("{}\n", *key.to_hex())).unwrap().id(), key.id());
        assert_eq!(Key::parse(&STANDARD.encode(key.0)).unwrap().id(), key.id());
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32), &STANDARD.encode([0; 31])] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
        assert!(!format!("{key:?}").contains(key.to_hex().as_str()));
    }
}
