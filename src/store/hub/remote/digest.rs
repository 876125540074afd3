//! The digests under which the Hub knows a file: sha256 for large ones (LFS, Xet), git's blob id for the others.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A digest in the making.
pub(super) enum Digest {
    Sha256(Sha256),
    Git(Sha1),
}

impl Digest {
    /// The kind that `expected` is, for a file of `size` bytes.
    pub fn like(expected: &str, size: u64) -> Self {
        match expected.len() {
            64 => Digest::Sha256(Sha256::new()),
            // git hashes a header before the bytes: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
            _ => Digest::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Digest::Sha256(digest) => digest.update(bytes),
            Digest::Git(digest) => digest.update(bytes),
        }
    }

    /// In hexadecimal digits.
    pub fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Digest::Sha256(digest) => hex(&digest.finalize()),
            Digest::Git(digest) => hex(&digest.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `git hash-object` and `sha256sum` gave these.
    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        for (bytes, expected) in [
            (&b""[..], "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"hello\n", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
        ] {
            let mut digest = Digest::like(expected, bytes.len() as u64);
            bytes.chunks(4).for_each(|part| digest.update(part));
            assert_eq!(digest.finish(), expected);
        }
    }
}
