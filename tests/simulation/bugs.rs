//! Bugs to be found: each is planted around the real program, never in it.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {}
