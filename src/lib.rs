//! Syncline keeps business processes in step across `SaaS` and ERP systems.
//!
//! This crate is the shell: everything that waits, sends or stores. What an entity decides is in `syncline-actors`.

pub mod clock;
pub mod ingress;
pub mod journal;
