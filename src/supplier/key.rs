//! The key of a supplier's account: read from one place, shown nowhere; and hashes that it is part of.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::AccountId;
use crate::protocol::Fingerprint;

/// Why there is no key. Nothing was sent. The key itself is in none of these.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The environment has no such variable, or it is not UTF-8.
    #[error("environment variable {0} holds no key")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("key file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Everybody on the machine could read or change the file.
    #[error("key file {0} is open to every user: run chmod 600 on it")]
    OpenToAll(PathBuf),
    /// It is empty or has something other than printable ASCII in it.
    #[error("a key is 1 to 1024 bytes of printable ASCII without space")]
    Malformed,
}

/// The key of one account. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Takes a key; space around it is cut off.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if it is empty, longer than 1,024 bytes or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > 1024 || !printable {
            return Err(KeyError::Malformed);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// Takes the key from an environment variable.
    ///
    /// # Errors
    /// [`KeyError::NoVariable`] if it is not set, [`KeyError::Malformed`] as for [`ApiKey::new`].
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let text = SecretString::from(
            std::env::var(variable).map_err(|_| KeyError::NoVariable(variable.to_owned()))?,
        );
        Self::new(text.expose_secret())
    }

    /// Takes the key from a file, the better place: an environment is inherited and shown.
    ///
    /// A file that the group can read is taken with a warning (mounted secrets often are), one
    /// that every user can read or write, or that the group can write, is not taken.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`], [`KeyError::OpenToAll`], [`KeyError::Malformed`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
            if mode & 0o027 != 0 {
                return Err(KeyError::OpenToAll(path.to_owned()));
            }
            if mode & 0o040 != 0 {
                tracing::warn!(path = %path.display(), "the group can read the key file");
            }
        }
        let text = SecretString::from(std::fs::read_to_string(path).map_err(unreadable)?);
        Self::new(text.expose_secret())
    }

    /// The key, for the header and the fingerprint alone.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}
/// The first 64 bits of a hash that tells key, address and account apart and betrays none.
pub(super) fn fingerprint(key: &ApiKey, base: &str, account: &str) -> Fingerprint {
    Fingerprint(hash(&["order-router fingerprint 1", key.expose(), base, account]))
}

/// Keys are rotated, and two accounts at one address differ in nothing else: so a key tells accounts
/// apart only until the account has a name.
pub(super) fn account(base: &str, account: &str, fingerprint: Fingerprint) -> AccountId {
    match account {
        "" => AccountId(fingerprint.0),
        name => AccountId(hash(&["order-router account 1", base, name])),
    }
}

/// The first 64 bits.
fn hash(texts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
