//! The one integration-test binary.

mod matrix;
mod simulate;
mod support;
