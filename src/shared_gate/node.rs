//! Who a node is at the gate.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The file in a data directory that tells its store from every other.
const MARK_FILE: &str = "gate-mark";

/// What tells one store from another.
///
/// A node's name alone would not do: it is copied with the settings to the next machine, and two
/// nodes of one name would let each other's references pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMark(String);

impl StoreMark {
    /// The mark of a data directory: random, made once, kept there.
    ///
    /// # Errors
    /// What the system says; or the file is there and holds something else.
    pub fn of_directory(dir: &Path) -> io::Result<Self> {
        let path = dir.join(MARK_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::read(text.trim_end()).ok_or_else(|| {
                let why = format!("{} does not hold eight hexadecimal digits", path.display());
                io::Error::other(why)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(dir, &path),
            Err(error) => Err(error),
        }
    }

    fn make(dir: &Path, path: &Path) -> io::Result<Self> {
        let mark = Self(uuid::Uuid::new_v4().simple().to_string()[..8].to_owned());
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{}", mark.0)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(dir)?.sync_all()?;
        Ok(mark)
    }

    fn read(text: &str) -> Option<Self> {
        let plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| Self(text.to_owned()))
    }

    /// The mark of a store that is somewhere else: of where it is, without user and password.
    #[must_use]
    pub fn of_place(place: &str) -> Self {
        let hash = Sha256::digest(place);
        Self(hash[..4].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Who a node is at the gate: a name for people, and the mark of its store. Equal only if both are.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeName(String);

/// The name has other characters than letters, digits, `.`, `_` and `-`, or is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node's name is 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`")]
pub struct InvalidNodeName;

impl NodeName {
    /// A node of this name on this store. Nodes that share a store need the same name, if one is to
    /// go on with what the other began.
    ///
    /// # Errors
    /// [`InvalidNodeName`].
    pub fn new(name: &str, store: &StoreMark) -> Result<Self, InvalidNodeName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match (1..=64).contains(&name.len()) && name.chars().all(plain) {
            true => Ok(Self(format!("{name}/{}", store.0))),
            false => Err(InvalidNodeName),
        }
    }

    /// This machine's name, as far as it can be one of a node's.
    #[must_use]
    pub fn of_this_machine() -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        let name: String = host.trim().chars().filter(plain).take(64).collect();
        if name.is_empty() { "node".to_owned() } else { name }
    }

    /// As it stands at the gate.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_mark_and_no_two_have_the_same() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mark = StoreMark::of_directory(one.path()).unwrap();
        assert_eq!(StoreMark::of_directory(one.path()).unwrap(), mark);
        assert_ne!(StoreMark::of_directory(two.path()).unwrap(), mark);
        fs::write(two.path().join(MARK_FILE), "not a mark").unwrap();
        StoreMark::of_directory(two.path()).unwrap_err();
    }

    #[test]
    fn a_node_is_its_name_and_its_store() {
        let (here, there) =
            (StoreMark::of_place("db-1/orders"), StoreMark::of_place("db-2/orders"));
        let node = NodeName::new("eu-1", &here).unwrap();
        assert_eq!(node, NodeName::new("eu-1", &here).unwrap());
        assert_ne!(node, NodeName::new("eu-1", &there).unwrap());
        assert_ne!(node, NodeName::new("eu-2", &here).unwrap());
        for name in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
            NodeName::new(name, &here).unwrap_err();
        }
        NodeName::new(&NodeName::of_this_machine(), &here).unwrap();
    }
}
