//! Randomness, as an argument.

use chancery_identity::{Serial, Timestamp};
use ring::rand::SecureRandom;
use uuid::Builder;

use crate::refusal::{Code, Refusal};

/// What the service draws.
pub(crate) trait Random {
    /// Some random bytes.
    ///
    /// # Errors
    /// The system gives no randomness.
    fn bytes<const N: usize>(&self) -> Result<[u8; N], Refusal>;

    /// A UUIDv7, which sorts by the time it was drawn at.
    ///
    /// # Errors
    /// The system gives no randomness.
    fn uuid(&self, now: Timestamp) -> Result<uuid::Uuid, Refusal> {
        let millis = u64::try_from(now.unix_millis()).unwrap_or(0);
        Ok(Builder::from_unix_timestamp_millis(millis, &self.bytes()?).into_uuid())
    }

    /// A certificate's serial.
    ///
    /// # Errors
    /// The system gives no randomness.
    fn serial(&self, now: Timestamp) -> Result<Serial, Refusal> {
        Ok(Serial::compose(now, self.bytes()?))
    }
}

impl<R: SecureRandom + ?Sized> Random for R {
    fn bytes<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        let filled = self.fill(&mut bytes);
        filled.map(|()| bytes).map_err(|_| Refusal::new(Code::Internal, "the system gives no randomness"))
    }
}
