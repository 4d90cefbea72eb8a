//! Parts of pages that are more than a few tags: text and numbers in, markup out.
//!
//! Invariant: pure. Uses the domain and `render` only, and every output is bounded by its input.

pub mod ansi;
pub mod chart;
pub mod diff_view;
pub mod hidden;
pub mod plan;
pub mod timeline;
