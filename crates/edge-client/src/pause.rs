//! Waiting between attempts: exponential back-off with full jitter, and what `Retry-After` says.

use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// Doubles from `first` to `limit`; each pause is drawn between half and all of the step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    step: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, limit: Duration) -> Backoff {
        Backoff { first, limit, step: first }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.limit);
        jitter(step)
    }

    pub(crate) fn reset(&mut self) {
        self.step = self.first;
    }
}

/// Between half of `step` and `step`.
pub(crate) fn jitter(step: Duration) -> Duration {
    let mut byte = [0u8; 2];
    if SystemRandom::new().fill(&mut byte).is_err() {
        return step;
    }
    let part = f64::from(u16::from_le_bytes(byte)) / f64::from(u16::MAX);
    step.mul_f64(0.5 + part / 2.0)
}

/// The pause that a server asks for, in seconds; dates are not used by the Kubernetes API.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit_and_resets() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for step in [100, 200, 350, 350] {
            let pause = backoff.next();
            assert!(pause <= Duration::from_millis(step), "{pause:?} > {step} ms");
            assert!(pause >= Duration::from_millis(step / 2), "{pause:?} < {step} ms / 2");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
