//! The one integration-test binary.

mod matrix;
mod pieces;
mod simulate;
mod support;
