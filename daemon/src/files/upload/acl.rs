//! Access control lists in the form that the kernel gives them in an extended attribute (posix_acl_xattr.h, since
//! Linux 2.5.46): a version, then entries of tag, permissions and id, all little-endian.

/// The attribute with a file's own list, and the one with the list that a directory's new files get.
pub(super) const ACCESS: &str = "system.posix_acl_access";
pub(super) const DEFAULT: &str = "system.posix_acl_default";

/// The positions of owner and group in a mode.
const OWNER_SHIFT: u32 = 6;
pub(super) const GROUP_SHIFT: u32 = 3;

const VERSION: u32 = 2;
const VERSION_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An access control list, with its entries in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: [u8; 4],
}

impl Acl {
    /// Parses the attribute; None where it makes no sense.
    pub(super) fn parse(bytes: &[u8]) -> Option<Acl> {
        let (version, entries) = bytes.split_at_checked(VERSION_BYTES)?;
        if version != VERSION.to_le_bytes() || entries.len() % ENTRY_BYTES != 0 {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let [a, b, c, d, id @ ..] = <[u8; ENTRY_BYTES]>::try_from(bytes).ok()?;
            Some(Entry { tag: u16::from_le_bytes([a, b]), permissions: u16::from_le_bytes([c, d]), id })
        };
        entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>().map(Acl)
    }

    /// Encodes the list as the attribute has it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.id);
        }
        bytes
    }

    /// Returns the list and the mode that a file created with `mode` gets from a directory's default list; no list
    /// where the mode alone says the same (acl(5) OBJECT CREATION; `posix_acl_create_masq` in Linux).
    pub(super) fn inherited(mut self, mode: u32) -> (Option<Acl>, u32) {
        let has_mask = self.0.iter().any(|entry| entry.tag == MASK);
        let mut result = 0;
        for entry in &mut self.0 {
            let shift = match entry.tag {
                USER_OBJ => OWNER_SHIFT,
                MASK => GROUP_SHIFT,
                GROUP_OBJ if !has_mask => GROUP_SHIFT,
                OTHER => 0,
                _ => continue,
            };
            let asked = u16::try_from((mode >> shift) & 0o7).unwrap_or_default();
            entry.permissions &= asked;
            result |= u32::from(entry.permissions) << shift;
        }
        // Entries of users and groups always come with a mask.
        (has_mask.then_some(self), result)
    }

    /// Returns the permissions of the owning group, by its entry and the mask.
    pub(super) fn group_permissions(&self) -> u32 {
        let of = |tag| self.0.iter().find(|entry| entry.tag == tag).map_or(0o7, |entry| entry.permissions);
        u32::from(of(GROUP_OBJ) & of(MASK)) & 0o7
    }

    /// Takes from the owning group the permissions that `permissions` lacks.
    pub(super) fn limit_group(&mut self, permissions: u32) {
        let permissions = u16::try_from(permissions & 0o7).unwrap_or_default();
        self.0
            .iter_mut()
            .filter(|entry| entry.tag == GROUP_OBJ)
            .for_each(|entry| entry.permissions &= permissions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u16 = 0x08;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl(entries
            .iter()
            .map(|&(tag, permissions, id)| Entry { tag, permissions, id: id.to_le_bytes() })
            .collect())
    }

    #[test]
    fn a_list_is_read_as_it_is_written() {
        let list = acl(&[(USER_OBJ, 7, u32::MAX), (GROUP, 6, 100), (OTHER, 0, u32::MAX)]);
        assert_eq!(Acl::parse(&list.to_bytes()), Some(list.clone()));
        assert_eq!(list.to_bytes()[..12], [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255]);
        for bytes in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01\0\x07\0"] {
            assert_eq!(Acl::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Acl::parse(b"\x02\0\0\0"), Some(acl(&[])));
    }

    #[test]
    fn a_file_inherits_what_its_mode_leaves() {
        let none = u32::MAX;
        // The list is u::rwx,g::r-x,g:100:rwx,m::rwx,o::---, and the file is opened with open(2) and 0666.
        let default = acl(&[
            (USER_OBJ, 7, none),
            (GROUP_OBJ, 5, none),
            (GROUP, 7, 100),
            (MASK, 7, none),
            (OTHER, 0, none),
        ]);
        let expected = acl(&[
            (USER_OBJ, 6, none),
            (GROUP_OBJ, 5, none),
            (GROUP, 7, 100),
            (MASK, 6, none),
            (OTHER, 0, none),
        ]);
        assert_eq!(default.inherited(0o666), (Some(expected.clone()), 0o660));
        assert_eq!(expected.group_permissions(), 4);
        // Without entries of named users and groups there is nothing but a mode.
        let default = acl(&[(USER_OBJ, 7, none), (GROUP_OBJ, 7, none), (OTHER, 5, none)]);
        assert_eq!(default.clone().inherited(0o666), (None, 0o664));
        let mut limited = default;
        limited.limit_group(4);
        assert_eq!(limited.group_permissions(), 4);
    }
}
