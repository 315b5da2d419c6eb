//! Every decision, pure: scheduler, controllers, pod plan, proxy tables. No IO, no clock, no chance.

pub mod pod;
pub mod proxy;
