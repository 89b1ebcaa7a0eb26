//! What holds for all engines.

mod sizes;
