//! Syncline keeps business processes in step across SaaS and ERP systems.
//!
//! This crate is the shell: everything that waits, sends or stores. What an entity decides is in `syncline-actors`.

pub mod api;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod console;
pub mod delivery;
pub mod demo;
pub mod gossip;
pub mod guard;
pub mod host;
pub mod ingress;
pub mod integration;
pub mod journal;
pub mod load;
pub mod node;
pub mod problem;
pub mod sandbox;
pub mod secret;
pub mod serve;
pub mod telemetry;
pub mod timer;
pub mod transport;
