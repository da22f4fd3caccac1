//! A distribution of times in few numbers: counts in buckets that widen with the time.
//!
//! Sixteen buckets per doubling: exact below 32 ms, then at most 6.25 % wide, so that a percentile read from the middle
//! of a bucket is within 3.2 % of the true one. All in integers: the same time falls into the same bucket on every
//! machine, and two distributions are merged by adding counts.

/// Buckets per doubling, as a power of two.
const BITS: u32 = 4;
const PER_DOUBLING: u64 = 1 << BITS;

/// Times in milliseconds. Buckets that hold something, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency(Vec<(u16, u64)>);

impl Latency {
    pub fn record(&mut self, milliseconds: u64) {
        self.add(bucket(milliseconds), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            self.add(*bucket, *count);
        }
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The time that a share of all requests stayed at or below (`0.95` for p95), in milliseconds; `None` without any.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| middle(*bucket))
        })
    }

    /// Buckets and counts, for the store.
    pub fn buckets(&self) -> &[(u16, u64)] {
        &self.0
    }

    pub fn add(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.0[index].1 += count,
            Err(index) => self.0.insert(index, (bucket, count)),
        }
    }
}

fn bucket(value: u64) -> u16 {
    if value < PER_DOUBLING {
        return value as u16;
    }
    let doubling = u64::BITS - 1 - value.leading_zeros();
    let within = (value >> (doubling - BITS)) & (PER_DOUBLING - 1);
    (u64::from(doubling - BITS + 1) * PER_DOUBLING + within) as u16
}

fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let shift = bucket / PER_DOUBLING - 1;
    let low = (PER_DOUBLING + bucket % PER_DOUBLING) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_four_percent() {
        let mut latency = Latency::default();
        let values: Vec<u64> = (0..20_000u64).map(|i| 1 + i * i % 90_001).collect();
        values.iter().for_each(|value| latency.record(*value));
        let mut sorted = values;
        sorted.sort_unstable();
        for share in [0.01, 0.5, 0.95, 0.999, 1.0] {
            let exact = sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1] as f64;
            let read = latency.percentile(share).expect("a percentile") as f64;
            assert!((read - exact).abs() <= exact * 0.04, "{share}: {read} for {exact}");
        }
    }

    #[test]
    fn short_times_are_exact_and_any_time_fits() {
        for value in 0..32 {
            assert_eq!(middle(bucket(value)), value);
        }
        assert!(bucket(u64::MAX) < 1_000);
        assert_eq!(Latency::default().percentile(0.5), None);
    }

    #[test]
    fn merging_is_recording_everything_in_one() {
        let (mut left, mut right, mut both) = (Latency::default(), Latency::default(), Latency::default());
        for value in [3, 70, 70, 900, 12_345] {
            left.record(value);
            both.record(value);
        }
        for value in [70, 1, 800_000] {
            right.record(value);
            both.record(value);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }
}
