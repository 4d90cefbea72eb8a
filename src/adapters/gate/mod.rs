//! The way out: what leaves a sandbox leaves through here, counted, limited and without a key in sight.

pub mod limits;
pub mod quota;
