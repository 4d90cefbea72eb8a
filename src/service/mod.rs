//! Use cases, one function each. REST, the CLI and every later surface parse, call these and render.

pub mod host;
