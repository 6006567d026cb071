//! What a Syncline actor knows and decides: values computed from what has happened. Nothing here waits, sends or stores.
//!
//! The heart is [`decide::decide`]: what an entity's [`entity::State`] answers to an [`envelope::Envelope`] under a
//! [`process::Process`]. The answer is a [`decision::Decision`]; once it is journaled as a [`record::Record`],
//! [`entity::State::fold`] makes it so.

pub mod class;
pub mod decide;
pub mod decision;
pub mod document;
pub mod entity;
pub mod envelope;
pub mod expr;
pub mod id;
pub mod lease;
pub mod letter;
pub mod mapping;
pub mod mask;
pub mod migration;
pub mod outbox;
pub mod ownership;
pub mod placement;
pub mod process;
pub mod reading;
pub mod record;
pub mod retry;
pub mod schedule;
pub mod schema;
pub mod slo;
pub mod subscription;
#[cfg(test)]
mod testing;
pub mod time;
pub mod value;
pub mod whatif;
