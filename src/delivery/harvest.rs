//! What is done with a good answer before its entity is told: a page of a polled source becomes messages, a record read back is compared.
//!
//! The effect is not settled until that is durable. Whatever dies in between, the call is made again and brings the same again.

use std::fmt;

use async_trait::async_trait;
use syncline_actors::outbox::OutboxRow;
use syncline_actors::value::Value;

/// What the entity is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Harvested {
    /// This, instead of the result.
    Told(Value),
    /// The effect has failed: what came cannot be used, and the text says why.
    Unusable(String),
    /// Nothing yet: it could not be made durable now. It is tried again.
    Later(String),
}

/// Takes in what calls have brought.
#[async_trait]
pub trait Harvest: fmt::Debug + Send + Sync + 'static {
    /// Whether the answer to this effect is for it.
    fn is_for(&self, row: &OutboxRow) -> bool;
    /// Takes a result in. Called again with the same one after [`Harvested::Later`], and after a crash with what a new call brought.
    async fn harvest(&self, row: &OutboxRow, result: &Value) -> Harvested;
}

/// Takes in nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fallow;

#[async_trait]
impl Harvest for Fallow {
    fn is_for(&self, _row: &OutboxRow) -> bool {
        false
    }

    async fn harvest(&self, _row: &OutboxRow, result: &Value) -> Harvested {
        Harvested::Told(result.clone())
    }
}
