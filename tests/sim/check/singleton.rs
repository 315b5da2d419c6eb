//! A singleton never runs twice.

use super::Checks;

impl Checks {
    pub(in super::super) fn pods(&mut self, running: usize) {
        if running > 1 {
            self.breaks("a singleton never runs twice", || format!("{running} of it run"));
        }
    }
}
