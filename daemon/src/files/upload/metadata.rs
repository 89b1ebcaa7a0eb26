//! The description of a partial, written into an extended attribute of its file, so that a daemon that starts anew
//! can continue it. Where the file system has no such attributes, a restart loses partials.

use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::digest::Digests;
use super::super::unpublished::DESCRIPTION;

/// Most bytes of a description: ext4 keeps all attributes of a file in one block of 4 KiB.
const METADATA_BYTES_MAX: usize = 3 << 10;

/// The description of a partial.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) destination: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) length: Option<u64>,
    /// Whether the partial is continued by its id alone, not by its destination.
    pub(super) is_resource: bool,
    #[serde(flatten)]
    pub(super) digests: Digests,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
    /// The boot of the host in which the description was written, whose page cache had the bytes.
    pub(super) boot: String,
    /// Bytes that are on the disk whatever happens. In another boot the rest can't be trusted: a file system may
    /// have recorded the length before the content.
    pub(super) durable: u64,
}

/// Returns the identity of this boot; the empty text, which is no boot's, where it isn't known.
pub(super) fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

impl Metadata {
    /// Writes the description into the file. Waits for the disk.
    pub(super) fn store(&self, file: impl AsFd) -> Result<(), Errno> {
        let text = serde_json::to_vec(self).map_err(|_| Errno::INVAL)?;
        if text.len() > METADATA_BYTES_MAX {
            return Err(Errno::TOOBIG);
        }
        fsetxattr(file, DESCRIPTION, &text, XattrFlags::empty())
    }

    /// Reads the description from the file; None where there is none that makes sense. Waits for the disk.
    pub(super) fn load(file: impl AsFd) -> Option<Metadata> {
        let mut buffer = vec![0; METADATA_BYTES_MAX];
        let length = fgetxattr(file, DESCRIPTION, buffer.as_mut_slice()).ok()?;
        serde_json::from_slice(buffer.get(..length)?).ok()
    }

    /// Returns how many of `size` bytes can be trusted in this boot.
    pub(super) fn trusted(&self, size: u64, boot: &str) -> u64 {
        let received = size.min(self.length.unwrap_or(u64::MAX));
        if self.boot == boot && !boot.is_empty() { received } else { received.min(self.durable) }
    }
}

/// Removes the description of a file that has its name and is a partial no more. Waits for the disk.
pub(super) fn erase(file: impl AsFd) {
    // A description that stays does no harm: it is read in staging directories alone.
    let _ = fremovexattr(file, DESCRIPTION);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        Metadata {
            destination: "a/b".to_owned(),
            length: Some(100),
            is_resource: true,
            digests: Digests { sha256: Some([7; 32]), crc32c: None },
            note: "note".to_owned(),
            boot: "this".to_owned(),
            durable: 30,
        }
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Metadata::load(&file), None);
        match sample().store(&file) {
            Err(Errno::OPNOTSUPP) => println!("skipped: no extended attributes on this file system"),
            result => {
                result.unwrap();
                assert_eq!(Metadata::load(&file), Some(sample()));
                let plain =
                    Metadata { length: None, note: String::new(), digests: Digests::default(), ..sample() };
                plain.store(&file).unwrap();
                assert_eq!(Metadata::load(&file), Some(plain));
                erase(&file);
                assert_eq!(Metadata::load(&file), None);
            }
        }
    }

    #[test]
    fn a_description_that_is_too_long_or_makes_no_sense_is_none() {
        let file = tempfile::tempfile().unwrap();
        let long = Metadata { note: "x".repeat(METADATA_BYTES_MAX), ..sample() };
        assert_eq!(long.store(&file), Err(Errno::TOOBIG));
        if fsetxattr(&file, DESCRIPTION, b"{}", XattrFlags::empty()).is_ok() {
            assert_eq!(Metadata::load(&file), None);
        }
    }

    #[test]
    fn another_boot_trusts_what_was_synced() {
        for (size, boot, trusted) in [
            (50, "this", 50),
            (50, "other", 30),
            (20, "other", 20),
            (50, "", 30),
            (500, "this", 100),
            (0, "this", 0),
        ] {
            assert_eq!(sample().trusted(size, boot), trusted, "{size} in {boot}");
        }
        assert_eq!(Metadata { boot: String::new(), ..sample() }.trusted(50, ""), 30, "no boot is no boot's");
    }
}
