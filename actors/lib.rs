//! What a Syncline actor knows and decides.
