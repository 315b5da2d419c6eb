//! The cases of the specification, bad input, and what passes through.

mod resolvers;
mod spec;
mod wire;
