//! The one pure function that runs the product.
use super::*;
/// What follows from an event.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The run after it.
    pub run: Run,
    /// New effects, by key.
    pub effects: Vec<(EffectKey, Effect)>,
    /// Effects done with.
    pub finished: Vec<EffectKey>,
}
/// Opens a run.
pub fn open(_o: &Opened, _at: At) -> Result<Decision, Refusal> {
    unimplemented!()
}
/// Decides.
pub fn decide(_r: &Run, _e: &Event, _at: At) -> Result<Decision, Refusal> {
    unimplemented!()
}
