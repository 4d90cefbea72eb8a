//! The one integration-test binary.

mod gates;
mod matrix;
mod pieces;
mod rules;
mod simulate;
mod support;
