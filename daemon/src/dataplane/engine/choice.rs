//! Which engine moves a window.

use crate::config::EngineChoice;
use crate::files::CONTENT_BYTES_MAX;
use crate::files::residency::Residency;
use crate::telemetry::EngineLabel;

/// Transfers up to this length are read and sent in one piece with their head: two system calls in all.
const COPY_BYTES_MAX: u64 = CONTENT_BYTES_MAX;

/// How bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Engine {
    /// Through a buffer in user space.
    Copy,
    /// By sendfile(2).
    Sendfile,
    /// By splice(2) through a pipe.
    Splice,
}

impl Engine {
    /// As metrics and access lines show it.
    pub(in crate::dataplane) fn label(self) -> EngineLabel {
        match self {
            Engine::Copy => EngineLabel::Copy,
            Engine::Sendfile => EngineLabel::Sendfile,
            Engine::Splice => EngineLabel::Splice,
        }
    }
}

/// The facts about a window by which its engine is chosen.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Facts {
    /// The engine that the operator asked for.
    pub(in crate::dataplane) choice: EngineChoice,
    /// Length of the whole transfer.
    pub(in crate::dataplane) transfer_bytes: u64,
    /// Where the window is.
    pub(in crate::dataplane) residency: Residency,
}

/// The engine of a window.
pub(in crate::dataplane) fn choose(facts: Facts) -> Engine {
    match facts.choice {
        EngineChoice::Copy => Engine::Copy,
        EngineChoice::Sendfile => Engine::Sendfile,
        EngineChoice::Splice => Engine::Splice,
        EngineChoice::Auto if facts.transfer_bytes <= COPY_BYTES_MAX => Engine::Copy,
        EngineChoice::Auto if facts.residency == Residency::Hot => Engine::Sendfile,
        // A disk thread fills a pipe with the pages that it waited for: they are read and handed over in one.
        EngineChoice::Auto => Engine::Splice,
    }
}

#[cfg(test)]
mod tests {
    use super::{COPY_BYTES_MAX, Engine, Facts, choose};
    use crate::config::EngineChoice;
    use crate::files::residency::Residency;

    #[test]
    fn the_engine_follows_from_the_facts() {
        use Engine::{Copy, Sendfile, Splice};
        use EngineChoice as Asked;
        use Residency::{Cold, Hot};
        let large = COPY_BYTES_MAX + 1;
        for (choice, transfer_bytes, residency, engine) in [
            (Asked::Auto, COPY_BYTES_MAX, Hot, Copy),
            (Asked::Auto, COPY_BYTES_MAX, Cold, Copy),
            (Asked::Auto, large, Hot, Sendfile),
            (Asked::Auto, large, Cold, Splice),
            (Asked::Copy, large, Hot, Copy),
            (Asked::Sendfile, 1, Cold, Sendfile),
            (Asked::Splice, 1, Hot, Splice),
        ] {
            let facts = Facts { choice, transfer_bytes, residency };
            assert_eq!(choose(facts), engine, "{facts:?}");
        }
    }
}
