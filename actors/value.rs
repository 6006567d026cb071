//! Business data (to be completed).
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Business data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Text.
    Text(Arc<str>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A map.
    Map(Arc<BTreeMap<String, Value>>),
}

impl Value {
    /// Bytes held, about.
    pub fn weight(&self) -> usize {
        16
    }
}
