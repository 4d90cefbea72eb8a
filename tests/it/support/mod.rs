//! What the proofs of the run machine share: chance, births, a world, people, and what must always hold.

pub mod birth;
pub mod checker;
pub mod engines;
pub mod people;
pub mod process;
pub mod rng;
pub mod story;
pub mod world;
