//! The capabilities that the thread keeps. Root without capabilities is a user like any other, and the owner of
//! root's files.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// The capabilities that binding may need: for a port below 1024, and for a congestion control outside the allowed
/// ones.
const BINDING: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_ADMIN);

/// The most names that are listed in a line.
const NAMES_MAX: u32 = 3;

/// Gives up all capabilities that binding doesn't need. `has_group`: a Unix socket is given a group, which may be none
/// of the user's.
pub(super) fn keep_binding(has_group: bool) -> io::Result<()> {
    keep(if has_group { BINDING | CapabilitySet::CHOWN } else { BINDING })
}

/// Gives up all capabilities.
pub(super) fn keep_none() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

/// Describes the capabilities that the thread has.
pub(super) fn held() -> String {
    let permitted = match capabilities(None) {
        Ok(sets) => sets.permitted,
        Err(error) => return format!("unknown: {error}"),
    };
    match permitted.bits().count_ones() {
        0 => "none".to_owned(),
        count if count > NAMES_MAX => format!("{count} of them"),
        _ => permitted.iter_names().map(|(name, _)| format!("CAP_{name}")).collect::<Vec<_>>().join(" "),
    }
}

/// Reduces the thread's capabilities to `wanted`. The bounding set stays: with no_new_privs no program that is
/// executed gains anything from it. The ambient set is reduced with the inheritable one (capabilities(7)).
fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let held = capabilities(None)?;
    let kept = held.permitted & wanted;
    let new = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    // Under streamd.service there is nothing to give up, and capset(2) is refused.
    if held == new {
        return Ok(());
    }
    Ok(set_capabilities(None, new)?)
}
