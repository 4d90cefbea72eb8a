//! Who may go on: a bounded number of runs holds slots, and a run that waits for a person keeps its own (M13).

/// How many runs hold slots now, and how many may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The most runs that hold a slot (`max_live_runs`).
    pub most: u32,
    /// Of these, how many waiting runs may keep to themselves (`max_reserved_slots`), so that others' progress is bounded
    /// below. A waiting run beyond them shares: it keeps its workspace and comes back before any new run.
    pub most_reserved: u32,
    /// Runs at work.
    pub live: u32,
    /// Runs waiting for a person.
    pub waiting: u32,
}

impl Slots {
    /// Slots not to be given away.
    pub fn taken(&self) -> u32 {
        self.live.saturating_add(self.waiting.min(self.most_reserved))
    }
    /// Whether a new run may start.
    pub fn admits(&self) -> bool {
        self.taken() < self.most
    }
    /// Whether a waiting run whose block was lifted may go on at once.
    pub fn readmits(&self) -> bool {
        self.live < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_run_keeps_its_slot_and_cannot_starve_the_rest() {
        let slots = Slots { most: 10, most_reserved: 8, live: 2, waiting: 8 };
        assert!(!slots.admits(), "ten of ten are taken");
        let crowd = Slots { waiting: 1_000, live: 1, ..slots };
        assert!(crowd.admits(), "a thousand waiting runs leave two slots to new ones");
        assert!(crowd.readmits());
        assert!(!Slots { live: 10, ..slots }.readmits(), "never more at work than there are slots");
    }
}
