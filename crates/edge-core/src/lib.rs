//! Every decision, pure: scheduler, controllers, pod plan, proxy tables. No IO, no clock, no chance.

pub mod image_gc;
pub mod pod;
pub mod proxy;
