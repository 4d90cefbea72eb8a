//! REST: projects, runs, their events and artifacts, and what people say to them. Talks to the actors by message, to the store by
//! its views.

pub mod view;
