//! Bodies on their way in, over all connections: bounded in bytes, because a body is read before its request has a place.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Shed;

/// Beyond what one body may have, so that there is always room for one.
const MOST: u64 = 256 << 20;
/// The first bytes of each body do not count: however many send large ones slowly, an ordinary request gets in.
const FREE: u64 = 16 << 10;

#[derive(Default)]
pub struct Intake {
    held: AtomicU64,
}

impl Intake {
    /// Begins a body of at most `longest` bytes.
    pub fn begin(&self, longest: u64) -> Reading<'_> {
        Reading { intake: self, most: MOST + longest, read: 0 }
    }
}

/// A body that is being read. What it holds is given back with it.
pub struct Reading<'a> {
    intake: &'a Intake,
    most: u64,
    read: u64,
}

impl Reading<'_> {
    /// Some more of it has come.
    pub fn add(&mut self, bytes: usize) -> Result<(), Shed> {
        let more = (self.read + bytes as u64).saturating_sub(FREE) - self.counted();
        let held = self.intake.held.fetch_add(more, Relaxed) + more;
        if more > 0 && held > self.most {
            // Nor is it held against the others.
            self.intake.held.fetch_sub(more, Relaxed);
            return Err(Shed::Crowded { megabytes: self.most / 1_000_000 });
        }
        self.read += bytes as u64;
        Ok(())
    }

    fn counted(&self) -> u64 {
        self.read.saturating_sub(FREE)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.intake.held.fetch_sub(self.counted(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_are_bounded_together_and_small_ones_always_get_in() {
        let intake = Intake::default();
        let limit = 10 << 20;
        let mut large: Vec<_> = (0..26).map(|_| intake.begin(limit)).collect();
        for reading in &mut large {
            assert_eq!(reading.add(10 << 20), Ok(()));
        }
        let mut one_more = intake.begin(limit);
        assert!(one_more.add(10 << 20).is_err());
        assert_eq!(intake.begin(limit).add(FREE as usize), Ok(()), "a small one");
        drop(one_more);
        large.truncate(20);
        assert_eq!(intake.begin(limit).add(10 << 20), Ok(()));
        drop(large);
        assert_eq!(intake.held.load(Relaxed), 0);
    }
}
