//! What a Syncline actor knows and decides.

pub mod document;
