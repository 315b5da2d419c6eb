//! The agent.

mod clock;
mod events;
mod files;
mod ledger;
mod security;
mod spec;
mod sources;
