//! Ed25519 keys (RFC 8032) in the PEM files that every other tool writes and reads (RFC 8410):
//! `openssl genpkey -algorithm ed25519` makes one as well as `psc keygen` does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::{hex, unhex};

/// DER before the 32 bytes of a secret key: PKCS#8 version 1 (RFC 8410, section 7).
const SECRET_DER: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// DER before the 32 bytes of a public key: SubjectPublicKeyInfo (RFC 8410, section 4).
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A key to sign with.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of 32 bytes from a good generator.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads a PEM file.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let wanted = "an Ed25519 secret key (PEM, `-----BEGIN PRIVATE KEY-----`); make one with \
                      `psc keygen` or `openssl genpkey -algorithm ed25519`";
        if text.contains("ENCRYPTED") {
            return Err(format!("the key is encrypted and this needs {wanted}"));
        }
        let der = unwrap(text, "PRIVATE KEY").ok_or_else(|| format!("this is not {wanted}"))?;
        // Version 2 of PKCS#8 has the public key after; it is derived, so it is not needed.
        let at = SECRET_DER.len();
        let same = der.len() >= at + 32 && der[5..at] == SECRET_DER[5..];
        let seed = der
            .get(at..at + 32)
            .filter(|_| same)
            .ok_or_else(|| format!("this key is of another kind: what is needed is {wanted}"))?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(seed);
        Ok(Self::from_seed(bytes))
    }

    /// The PEM file of this key.
    pub fn to_pem(&self) -> String {
        wrap(&[&SECRET_DER[..], self.0.as_bytes()].concat(), "PRIVATE KEY")
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// A key to check signatures with. Shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key of 64 hex digits; `None` for anything that is no key.
    pub fn from_hex(text: &str) -> Option<Self> {
        VerifyingKey::from_bytes(&unhex(text)?).ok().filter(|key| !key.is_weak()).map(Self)
    }

    /// Reads a PEM file, or 64 hex digits.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if let Some(key) = Self::from_hex(text.trim()) {
            return Ok(key);
        }
        if text.contains("PRIVATE KEY") {
            return Err("this is a secret key; give the public one, made beside it".to_owned());
        }
        let der = unwrap(text, "PUBLIC KEY").filter(|der| der.starts_with(&PUBLIC_DER));
        let key = der.and_then(|der| Self::from_hex(&hex(der.get(PUBLIC_DER.len()..)?)));
        key.ok_or_else(|| {
            "this is no Ed25519 public key (PEM, `-----BEGIN PUBLIC KEY-----`, or 64 hex digits)"
                .to_owned()
        })
    }

    /// The PEM file of this key.
    pub fn to_pem(self) -> String {
        wrap(&[&PUBLIC_DER[..], self.0.as_bytes()].concat(), "PUBLIC KEY")
    }

    /// Whether `signature` over `message` is this key's.
    pub fn signed(self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

fn wrap(der: &[u8], label: &str) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// The DER inside a PEM file with this label (RFC 7468).
fn unwrap(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.1 and 10.3.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    const SECRET: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_keys_of_rfc_8410_read_and_belong_together() {
        let secret = SecretKey::from_pem(SECRET).unwrap();
        assert_eq!(secret.public(), PublicKey::from_text(PUBLIC).unwrap());
        assert_eq!((secret.to_pem(), secret.public().to_pem()), (SECRET.into(), PUBLIC.into()));
    }

    #[test]
    fn a_message_of_rfc_8032_is_signed_as_there() {
        // Section 7.1, test 2.
        let seed =
            unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SecretKey::from_seed(seed);
        let signature = key.sign(&[0x72]);
        assert!(hex(&signature).starts_with("92a009a9f0d4cab8720e820b5f642540"));
        assert!(key.public().signed(&[0x72], &signature));
        assert!(!key.public().signed(&[0x73], &signature));
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_to_do() {
        let cases = [
            ("", "this is not"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "encrypted"),
            (PUBLIC, "this is not"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "another kind"),
        ];
        for (text, expected) in cases {
            let error = SecretKey::from_pem(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("psc keygen"), "{error}");
        }
        assert!(PublicKey::from_text(SECRET).unwrap_err().contains("secret"));
        assert!(PublicKey::from_text(&"0".repeat(64)).is_err(), "a weak key signs anything");
    }
}
