//! Randomness, as an argument.

use chancery_identity::{GrantId, Serial, Timestamp};
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

    /// A UUIDv7, which sorts by the time it was drawn at.
    fn uuid(&self, now: Timestamp) -> Result<Uuid, Refusal> {
        Ok(uuid_of(now, self.bytes()?))
    }

    /// A certificate's serial.
    fn serial(&self, now: Timestamp) -> Result<Serial, Refusal> {
        Ok(Serial::compose(now, self.bytes()?))
    }

    /// The id of a grant and the serial of its certificate, in one draw: each is a call into the system.
    fn grant_and_serial(&self, now: Timestamp) -> Result<(GrantId, Serial), Refusal> {
        let mut drawn = [[0; 10]; 2];
        self.draw(drawn.as_flattened_mut())?;
        let [grant, serial] = drawn;
        Ok((GrantId::new(uuid_of(now, grant)), Serial::compose(now, serial)))
    }
}

impl<R: SecureRandom + ?Sized> Random for R {
    fn draw(&self, into: &mut [u8]) -> Result<(), Refusal> {
        self.fill(into).map_err(|_| Refusal::new(Code::Internal, "the system gives no randomness"))
    }
}

fn uuid_of(at: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(at.unix_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
