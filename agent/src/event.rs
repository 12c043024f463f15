//! What happens to an identity, as data and in words.

use std::fmt;
use std::time::Duration;

use chancery_api::RootPin;
use chancery_identity::{Principal, ScopeSet, SpiffeId, System, Timestamp};
use chancery_verifier::Freshness;

/// Something happened that a person may want to read. `Display` is one line for a terminal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The issuer's root is the pinned one, and the issuer proved that it holds a certificate below it.
    PinMatched {
        /// The pin.
        pin: RootPin,
    },
    /// There is a certificate: from disk, or just issued.
    Held {
        /// What it says.
        certificate: Holding,
        /// How it came.
        how: How,
    },
    /// Asking for a new certificate failed; the old one serves as long as it is valid.
    NotRenewed {
        /// Why.
        reason: String,
        /// What can be done, when the issuer said so.
        fix: Vec<String>,
        /// How long the certificate in hand is valid.
        left: Duration,
        /// When the next attempt follows.
        again_in: Duration,
    },
    /// This machine's clock and the issuer's differ by more than 30 seconds.
    ClockOff {
        /// What to add to this machine's clock to have the issuer's.
        seconds: i64,
    },
    /// The issuer answers no more about revocations; said once, and again when it does.
    RevocationsUnanswered {
        /// Why.
        reason: String,
    },
    /// The issuer answers about revocations again.
    RevocationsAnswered,
    /// The feed of revocations is heard: for the first time, or again.
    FeedHeard {
        /// The number of the newest entry.
        n: u64,
        /// From the signing of the head to its coming, by both clocks.
        lag: Duration,
        /// How old knowledge may get.
        freshness: Freshness,
    },
    /// The feed of revocations is not heard any more; said once, and again when it is. CRLs are asked for meanwhile.
    FeedLost {
        /// Why.
        reason: String,
    },
    /// What the feed had taught an earlier process cannot be used.
    FeedNotResumed {
        /// Why.
        reason: String,
    },
}

/// How a certificate came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// By attestation.
    Attested,
    /// It was in the state folder.
    Resumed,
    /// In place of one that was still valid.
    Renewed,
    /// In place of one that was over.
    Rejoined,
}

/// What a certificate says, as far as people ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "what a line shows")]
pub struct Holding {
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// What it allows.
    pub scopes: ScopeSet,
    /// For a service: what it answers for.
    pub systems: Vec<System>,
    /// For a service: its names.
    pub dns_names: Vec<String>,
    /// How long it is valid from now on.
    pub left: Duration,
    /// When it will be renewed.
    pub renew_after: Timestamp,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinMatched { pin } => {
                write!(f, "issuer is the one your token names (root pin {} matches)", short(*pin))
            }
            Self::Held { certificate, how: How::Renewed | How::Rejoined } => {
                write!(f, "renewed: {}", Scopes(certificate.scopes.len()))?;
                certificate.write_times(f)
            }
            Self::Held { certificate, .. } => certificate.fmt(f),
            Self::NotRenewed { reason, fix, left, again_in } => {
                let again = Rough(*again_in);
                if left.is_zero() {
                    write!(f, "no certificate: {reason}; asking again in {again}")?;
                } else {
                    write!(
                        f,
                        "not renewed: {reason}; the one in hand serves for {}, asking again in {again}",
                        Rough(*left)
                    )?;
                }
                fix.iter().try_for_each(|line| write!(f, "\n  fix  {line}"))
            }
            Self::ClockOff { seconds } => {
                let word = if *seconds > 0 { "behind" } else { "ahead of" };
                write!(
                    f,
                    "this machine's clock is {} {word} the issuer's: set it, ",
                    Rough(Duration::from_secs(seconds.unsigned_abs()))
                )?;
                f.write_str("or certificates will look expired or not yet valid")
            }
            Self::RevocationsUnanswered { reason } => {
                write!(f, "the issuer does not answer about revocations: {reason}")
            }
            Self::RevocationsAnswered => f.write_str("the issuer answers about revocations again"),
            Self::FeedHeard { n, lag, freshness: Freshness { stale_after, expired_after } } => {
                write!(f, "revocations fresh  n {n}  lag {} ms  |  ", lag.as_millis())?;
                write!(f, "stale after {}: served and flagged; ", Rough(*stale_after))?;
                write!(f, "expired after {}: refused", Rough(*expired_after))
            }
            Self::FeedLost { reason } => {
                write!(f, "the issuer's feed is not heard: {reason}; its CRLs are asked for each second")
            }
            Self::FeedNotResumed { reason } => {
                write!(f, "what the feed taught before is asked for anew: {reason}")
            }
        }
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = matches!(self.spiffe_id.principal(), Principal::Service(_));
        if service {
            f.write_str("service ")?;
        }
        write!(f, "{}", self.spiffe_id)?;
        if service {
            let word = if self.systems.len() == 1 { "system" } else { "systems" };
            write!(f, "  serves {word} {}", List(&self.systems))?;
            if !self.dns_names.is_empty() {
                write!(f, "  dns {}", List(&self.dns_names))?;
            }
        } else {
            write!(f, "  {}", Scopes(self.scopes.len()))?;
        }
        self.write_times(f)
    }
}

impl Holding {
    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renews = self.renew_after.civil();
        write!(f, ", {} left, renews about {:02}:{:02}Z", Rough(self.left), renews.hour, renews.minute)
    }
}

/// The first and the last of a pin, as people compare it.
fn short(pin: RootPin) -> String {
    let text = pin.to_string();
    match (text.get(..11), text.get(text.len().saturating_sub(2)..)) {
        (Some(first), Some(last)) => format!("{first}…{last}"),
        _ => text,
    }
}

struct Scopes(usize);

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "scope" } else { "scopes" })
    }
}

struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A duration in its two largest units.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, _) => write!(f, "{minutes}m{:02}s", seconds % 60),
            (0, _, _) => write!(f, "{hours}h{minutes:02}m"),
            _ => write!(f, "{days}d{hours:02}h"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn holding(id: &str) -> Holding {
        Holding {
            spiffe_id: id.parse().unwrap(),
            scopes: ScopeSet::new(vec!["tools/call:crm/get_customer".parse().unwrap()]).unwrap(),
            systems: vec!["crm".parse().unwrap()],
            dns_names: vec!["crm.internal".to_owned()],
            left: Duration::from_secs(3599),
            renew_after: "2026-11-21T14:34:12Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_agent_reads_who_it_is_and_how_long() {
        let id = "spiffe://dev.invalid/agent/invoice-bot/01936f2a-0000-7000-8000-000000004b21";
        let line = Event::Held { certificate: holding(id), how: How::Attested }.to_string();
        assert_eq!(line, format!("{id}  1 scope, 59m59s left, renews about 14:34Z"));
    }

    #[test]
    fn a_service_reads_what_it_serves() {
        let line = Event::Held { certificate: holding("spiffe://a/service/crm"), how: How::Resumed }.to_string();
        assert!(line.starts_with("service spiffe://a/service/crm  serves system crm  dns crm.internal, "), "{line}");
    }

    #[test]
    fn a_pin_is_shown_by_both_ends() {
        let line = Event::PinMatched { pin: RootPin::from_bytes([0x3f; 32]) }.to_string();
        assert_eq!(line, "issuer is the one your token names (root pin sha256:3f3f…3f matches)");
    }

    #[test]
    fn a_failure_says_why_until_when_and_what_to_do() {
        let event = |left| Event::NotRenewed {
            reason: "no answer".to_owned(),
            fix: vec!["chancery resume rv_1".to_owned()],
            left: Duration::from_secs(left),
            again_in: Duration::from_secs(4),
        };
        let valid = event(7260).to_string();
        assert_eq!(
            valid,
            "not renewed: no answer; the one in hand serves for 2h01m, asking again in 4s\n  fix  chancery resume rv_1"
        );
        assert!(event(0).to_string().starts_with("no certificate: no answer; asking again in 4s"));
    }
}
