//! A listing before its first entry.

use crate::protocol::listing::Order;

/// The facts about a listing that are known before its first entry.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// The directory's path below the root, without slashes at its ends.
    pub(super) path: Vec<u8>,
    /// The order that was asked for.
    pub(super) order: Order,
    /// Whether its entries come in that order.
    pub(super) is_sorted: bool,
}
