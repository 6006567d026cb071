//! The operations API and its pages over a fake node, without a network.

#[path = "console/api.rs"]
mod api;
#[path = "console/fake.rs"]
mod fake;
#[path = "console/pages.rs"]
mod pages;
