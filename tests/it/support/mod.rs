//! What the tests share: throw-away databases and runs to put into them.

pub mod away;
pub mod postgres;
pub mod rest;
pub mod runs;
pub mod stores;
