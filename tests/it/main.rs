//! The one integration-test binary.

mod gates;
mod matrix;
mod pieces;
mod simulate;
mod support;
