//! The way in: what makes a request authentic, which message it is, and how a sender signs.

pub mod gate;
pub mod identify;
pub mod preset;
pub mod sign;
pub mod source;
pub mod verify;
