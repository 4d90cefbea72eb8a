//! Admission: a bounded number of runs hold slots, and a run that waits for a person keeps its slot.

/// Slot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Upper bound on runs that hold a slot (`max_live_runs`).
    pub max: u32,
    /// Upper bound on slots that are reserved for waiting runs (`max_reserved_slots`), so that other runs always
    /// progress. A waiting run beyond this bound has no slot of its own, but it keeps its workspace and is readmitted
    /// before any new run.
    pub max_reserved: u32,
    /// Runs in progress.
    pub live: u32,
    /// Runs waiting for a person.
    pub waiting: u32,
}

impl Slots {
    /// Returns the slots that are not available to new runs.
    pub fn taken(&self) -> u32 {
        self.live.saturating_add(self.waiting.min(self.max_reserved))
    }
    /// Returns whether a new run may start.
    pub fn admits(&self) -> bool {
        self.taken() < self.max
    }
    /// Returns whether a waiting run whose block was lifted may resume at once.
    pub fn readmits(&self) -> bool {
        self.live < self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_run_keeps_its_slot_and_cannot_starve_others() {
        let slots = Slots { max: 10, max_reserved: 8, live: 2, waiting: 8 };
        assert!(!slots.admits(), "ten of ten are taken");
        let crowd = Slots { waiting: 1_000, live: 1, ..slots };
        assert!(crowd.admits(), "a thousand waiting runs leave two slots to new ones");
        assert!(crowd.readmits());
        assert!(!Slots { live: 10, ..slots }.readmits(), "never more runs in progress than slots");
    }
}
