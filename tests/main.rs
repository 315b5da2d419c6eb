//! The tests that look at the whole: each room is a module, so that one binary is linked once.
//! Run one room with `cargo test -p edge-tests --test all tidy::`.

mod api;
mod board;
mod bus;
mod card;
mod dns;
mod guest;
mod lab;
mod power;
mod sim;
mod store;
mod tidy;
