//! Randomness, as an argument.

use std::sync::{Arc, Mutex, PoisonError};

use chancery_identity::{Serial, Timestamp};
use ring::rand::SecureRandom;
use uuid::{Builder, Uuid};

use crate::refusal::{Code, Refusal};

/// What the service draws.
pub(crate) trait Random {
    /// Fills with random bytes.
    ///
    /// # Errors
    /// The system gives no randomness; so for all that follow.
    fn draw(&self, into: &mut [u8]) -> Result<(), Refusal>;

    /// Some random bytes.
    fn bytes<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.draw(&mut bytes).map(|()| bytes)
    }
}

impl<R: SecureRandom + ?Sized> Random for R {
    fn draw(&self, into: &mut [u8]) -> Result<(), Refusal> {
        self.fill(into).map_err(|_| Refusal::new(Code::Internal, "the system gives no randomness"))
    }
}

/// What ids and serials are made of, drawn by the hundred, as each draw is a call into the system. Nobody can guess them, and
/// each is taken once; but they wait in memory, so nothing secret is made of them.
pub(crate) struct Stock {
    random: Arc<dyn SecureRandom + Send + Sync>,
    left: Mutex<Vec<[u8; 10]>>,
}

impl Stock {
    /// Draws when something is taken.
    pub(crate) fn new(random: Arc<dyn SecureRandom + Send + Sync>) -> Self {
        Self { random, left: Mutex::default() }
    }

    /// A UUIDv7, which sorts by the time it was taken at.
    ///
    /// # Errors
    /// The system gives no randomness; so for all that follow.
    pub(crate) fn uuid(&self, now: Timestamp) -> Result<Uuid, Refusal> {
        let millis = u64::try_from(now.unix_millis()).unwrap_or(0);
        Ok(Builder::from_unix_timestamp_millis(millis, &self.take()?).into_uuid())
    }

    /// A certificate's serial.
    pub(crate) fn serial(&self, now: Timestamp) -> Result<Serial, Refusal> {
        Ok(Serial::compose(now, self.take()?))
    }

    fn take(&self) -> Result<[u8; 10], Refusal> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = left.pop() {
            return Ok(taken);
        }
        let mut drawn = [[0; 10]; DRAWN_AT_ONCE];
        self.random.draw(drawn.as_flattened_mut())?;
        let [taken, rest @ ..] = drawn;
        left.extend(rest);
        Ok(taken)
    }
}

const DRAWN_AT_ONCE: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn each_is_taken_once_whoever_takes() {
        let stock = Stock::new(Arc::new(SystemRandom::new()));
        let take = || (0..1000).map(|_| stock.serial(Timestamp::default()).unwrap()).collect::<Vec<_>>();
        let taken = std::thread::scope(|scope| {
            let takers = [(); 4].map(|()| scope.spawn(take));
            takers.map(|taker| taker.join().unwrap()).concat()
        });
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 4000);
    }
}
