//! What a Syncline actor knows and decides: values computed from what has happened. Nothing here waits, sends or stores.
//! The heart is `entity::decide`.

pub mod decision;
pub mod document;
pub mod envelope;
pub mod id;
pub mod outbox;
pub mod record;
pub mod retry;
pub mod time;
pub mod value;
