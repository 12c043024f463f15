use chancery_identity::{Ancestor, GrantId, Lineage, Reason, RevocationId};
use proptest::prelude::*;

use super::*;
use crate::decision::{Facts, Issued, LastHead, Renewed};
use crate::naive::SHA256;
use crate::record::tests::{certificate, record};

/// A log under construction: each method appends an entry.
#[derive(Clone, Default)]
struct Log {
    entries: Vec<Logged>,
    epoch: Option<u64>,
}

impl Log {
    fn push(mut self, decision: Decision) -> Self {
        let epoch = self.epoch.unwrap_or(1);
        let salt = [self.entries.len() as u8; 16];
        self.entries.push(Logged::Entry(Entry::new(salt, &Record { epoch, ..record(decision) })));
        self
    }

    fn noise(self) -> Self {
        self.push(Decision::Registry(Facts::default()))
    }

    /// Issues certificate `id` to an agent, planned at this very position.
    fn issue(self, agent: &str, id: u8) -> Self {
        let planned_at = self.entries.len() as u64;
        self.issue_planned(agent, id, planned_at)
    }

    fn issue_planned(self, agent: &str, id: u8, planned_at: u64) -> Self {
        let certificate = certificate(agent, id, planned_at);
        self.push(Decision::Issue(Issued { certificate: certificate.into(), sha256: Hash([id; 32]) }))
    }

    /// Renews certificate `previous` as certificate `id`.
    fn renew(self, agent: &str, previous: u8, id: u8) -> Self {
        let mut next = certificate(agent, previous, self.entries.len() as u64);
        next.serial = serial(id);
        let renewed = Renewed { certificate: next.into(), previous: serial(previous), sha256: Hash([id; 32]) };
        self.push(Decision::Renew(renewed))
    }

    fn revoke(self, n: u64, effect: Effect, target: &str) -> Self {
        let fence = self.entries.len() as u64;
        self.revoke_with(n, effect, target, |revoked| revoked.fence = fence)
    }

    fn revoke_with(self, n: u64, effect: Effect, target: &str, change: impl FnOnce(&mut Revoked)) -> Self {
        let mut revoked = Revoked {
            cascade: true,
            comment: None,
            effect,
            fence: self.entries.len() as u64,
            id: RevocationId::from_bytes([n as u8; 16]),
            n,
            reason: Reason::Unspecified,
            target: target.parse().unwrap(),
        };
        change(&mut revoked);
        self.push(Decision::Revoke(revoked))
    }

    fn resume(self, n: u64, resumes: u64) -> Self {
        let id = RevocationId::from_bytes([resumes as u8; 16]);
        self.push(Decision::Resume(Resumed { comment: None, id, n, resumes }))
    }

    fn crl(self, authority: u8, number: u64, n: u64) -> Self {
        let authority = KeyId::from_bytes([authority; 20]);
        self.push(Decision::Crl(CrlPublished { authority, entries: 0, n, number, sha256: Hash([0; 32]) }))
    }

    fn restart(mut self, epoch: u64, n: u64) -> Self {
        self.epoch = Some(epoch);
        let head = LastHead { epoch: epoch - 1, n, root: Hash([0; 32]), size: 9 };
        self.push(Decision::LogRestart(LogRestarted { kept: head, restored: LastHead { n: 0, ..head } }))
    }

    fn hide(mut self, index: usize) -> Self {
        if let Logged::Entry(entry) = &self.entries[index] {
            self.entries[index] = Logged::Hidden(entry.commitment(SHA256));
        }
        self
    }

    fn tree(&self, size: usize) -> Tree {
        let mut frontier = Frontier::empty();
        for logged in &self.entries[..size] {
            let commitment = match logged {
                Logged::Entry(entry) => entry.commitment(SHA256),
                Logged::Hidden(commitment) => *commitment,
            };
            frontier.append(SHA256, commitment.leaf_hash(SHA256));
        }
        frontier.tree(SHA256)
    }

    fn verify(&self) -> Result<Report, Vec<Finding>> {
        verify_log(SHA256, self.entries.clone(), [self.tree(self.entries.len())])
    }

    #[track_caller]
    fn finds(&self, finding: Finding) {
        assert_eq!(self.verify().unwrap_err(), [finding]);
    }

    #[track_caller]
    fn is_lawful(&self) -> Report {
        self.verify().unwrap()
    }
}

fn log() -> Log {
    Log::default()
}

fn serial(id: u8) -> Serial {
    Serial::from_bytes(&[0x5c, id]).unwrap()
}

/// A bit of everything, all lawful.
fn lawful() -> Log {
    log()
        .noise()
        .issue("invoice-bot", 1)
        .issue("report-bot", 2)
        .crl(0x3f, 100, 0)
        .renew("invoice-bot", 1, 3)
        .revoke(1, Effect::Revoke, "serial:5c02")
        .revoke(2, Effect::Suspend, "agent:invoice-bot")
        .crl(0x3f, 101, 2)
        .issue("report-bot", 4)
        .resume(3, 2)
        .crl(0x40, 5, 3)
        .renew("invoice-bot", 3, 5)
        .revoke(4, Effect::Forbid, "scope:tools/call:crm/*")
        .issue("report-bot", 6)
}

#[test]
fn a_lawful_log() {
    let log = lawful();
    let report = log.is_lawful();
    assert_eq!((report.entries(), report.hidden(), report.certificates()), (14, 0, 6));
    assert_eq!((report.newest_revocation(), report.crls()), (4, 3));

    assert_eq!(report.certificate(serial(3), Hash([3; 32])), Ok(4));
    assert_eq!(report.certificate(serial(9), Hash([9; 32])), Err(Finding::NotLogged { serial: serial(9) }));
    assert_eq!(report.certificate(serial(3), Hash([9; 32])), Err(Finding::OtherBytes { serial: serial(3), index: 4 }));

    let revoked = certificate("report-bot", 2, 2);
    let held = certificate("invoice-bot", 1, 1);
    let hit_by = |certificate, n| report.revocation(certificate, n).map(|revocation| revocation.n);
    assert_eq!(hit_by(&revoked, 0), Err(Finding::NotRevoked { serial: serial(2), n: 0 }));
    assert_eq!(hit_by(&revoked, 4), Ok(1));
    assert_eq!(hit_by(&held, 2), Ok(2));
    assert_eq!(hit_by(&held, 3), Err(Finding::NotRevoked { serial: serial(1), n: 3 }));
}

#[test]
fn the_empty_log() {
    assert_eq!(log().is_lawful().entries(), 0);
    let wrong = Tree { size: 0, root: Hash([1; 32]) };
    assert_eq!(verify_log(SHA256, [], [wrong]).unwrap_err(), [Finding::Root { size: 0 }]);
    assert_eq!(verify_log(SHA256, [], []).unwrap_err(), [Finding::Size { entries: 0, signed: None }]);
}

#[test]
fn every_checkpoint_is_of_this_log() {
    let log = lawful();
    let all = log.entries.len();
    let checkpoints = || (0..=all).map(|size| log.tree(size));
    assert!(verify_log(SHA256, log.entries.clone(), checkpoints()).is_ok());

    let forked = Tree { size: 5, root: Hash([1; 32]) };
    let findings = verify_log(SHA256, log.entries.clone(), checkpoints().chain([forked])).unwrap_err();
    assert_eq!(findings, [Finding::Root { size: 5 }]);

    let size = Finding::Size { entries: all as u64, signed: Some(all as u64 - 1) };
    assert_eq!(verify_log(SHA256, log.entries.clone(), [log.tree(all - 1)]).unwrap_err(), [size]);
    let size = Finding::Size { entries: all as u64 - 1, signed: Some(all as u64) };
    assert_eq!(verify_log(SHA256, log.entries[..all - 1].to_vec(), [log.tree(all)]).unwrap_err(), [size]);
}

#[test]
fn bytes_that_are_no_record() {
    let mut log = lawful();
    log.entries.push(Logged::Entry(Entry { salt: [0; 16], record: b"{ }".to_vec() }));
    // What it may have said is nobody's fault: a renewal of it, a number it took.
    let findings = log.renew("a", 9, 10).revoke(6, Effect::Forbid, "scope:a:b/c").verify().unwrap_err();
    assert!(matches!(findings[..], [Finding::Record { index: 14, .. }]), "{findings:?}");
}

#[test]
fn times_never_fall() {
    let at = |millis| {
        let record = Record { at: Timestamp::from_unix_millis(millis), ..record(Decision::Deny(Facts::default())) };
        Logged::Entry(Entry::new([0; 16], &record))
    };
    let times = |millis: &[i64]| Log { entries: millis.iter().map(|millis| at(*millis)).collect(), epoch: None };
    times(&[5, 5, 6]).is_lawful();
    let [four, five] = [4, 5].map(Timestamp::from_unix_millis);
    times(&[5, 4, 5]).finds(Finding::Time { index: 1, at: four, before: five });
}

#[test]
fn a_serial_once() {
    log().issue("a", 1).issue("b", 1).finds(Finding::SerialTwice { serial: serial(1), first: 0, second: 1 });
}

#[test]
fn planned_before_it_was_committed() {
    let plan = |index, id| Finding::Plan { index, serial: serial(id) };
    log().noise().issue_planned("a", 1, 2).finds(plan(1, 1));

    let mut early = certificate("a", 1, 0);
    early.grant.as_mut().unwrap().seen = 1;
    let early = Decision::Issue(Issued { certificate: early.into(), sha256: Hash([1; 32]) });
    log().push(early.clone()).revoke(1, Effect::Revoke, "agent:b").finds(plan(0, 1));
    log().revoke(1, Effect::Revoke, "agent:b").push(early).is_lawful();

    let mut elsewhere = certificate("a", 1, 0);
    elsewhere.grant.as_mut().unwrap().epoch = 2;
    log().push(Decision::Issue(Issued { certificate: elsewhere.into(), sha256: Hash([1; 32]) })).finds(plan(0, 1));
}

#[test]
fn nothing_for_what_is_suspended_or_retired() {
    for effect in [Effect::Suspend, Effect::Retire] {
        for target in
            ["agent:a", "owner:team-finance", "scope:tools/call:crm/*", &format!("authority:{}", "3f".repeat(20))]
        {
            let stopped = Finding::Stopped { index: 1, serial: serial(1), n: 1 };
            log().revoke(1, effect, target).issue("a", 1).finds(stopped);
        }
    }
    let suspended = log().revoke(1, Effect::Suspend, "agent:a");
    suspended.clone().issue("b", 1).is_lawful();
    suspended.clone().resume(2, 1).issue("a", 1).is_lawful();
    let again = suspended.resume(2, 1).revoke(3, Effect::Suspend, "agent:a").issue("a", 1);
    again.finds(Finding::Stopped { index: 3, serial: serial(1), n: 3 });
}

#[test]
fn nothing_for_the_children_of_what_is_suspended() {
    let child = |cascade| {
        let mut child = certificate("child", 2, 1);
        child.grant.as_mut().unwrap().chain.push(Ancestor {
            spiffe_id: certificate("parent", 1, 0).spiffe_id,
            lineage: Lineage::from_bytes([1; 16]),
            authority: KeyId::from_bytes([0x3f; 20]),
            serial: serial(1),
            grant: GrantId::from_bytes([1; 16]),
            planned_at: 0,
        });
        let child = Decision::Issue(Issued { certificate: child.into(), sha256: Hash([2; 32]) });
        log().revoke_with(1, Effect::Suspend, "agent:parent", |revoked| revoked.cascade = cascade).push(child)
    };
    child(true).finds(Finding::Stopped { index: 1, serial: serial(2), n: 1 });
    child(false).is_lawful();
}

#[test]
fn a_revocation_between_plan_and_commit() {
    // Planned before the revocation, committed after it: the commit should have dropped it.
    let stopped = Finding::Stopped { index: 2, serial: serial(1), n: 1 };
    log().noise().revoke(1, Effect::Revoke, "agent:a").issue_planned("a", 1, 1).finds(stopped);
    // Planned after it: a new certificate for an agent that can attest again.
    log().noise().revoke(1, Effect::Revoke, "agent:a").issue_planned("a", 1, 2).is_lawful();
}

#[test]
fn issued_before_is_ordered_by_its_fence() {
    let before = |fence| {
        log().noise().noise().revoke_with(1, Effect::Revoke, "issued-before:2026-11-21T02:00:00Z", |r| r.fence = fence)
    };
    before(1).issue_planned("a", 1, 2).is_lawful();
    before(2).issue_planned("a", 1, 2).finds(Finding::Stopped { index: 3, serial: serial(1), n: 1 });
    before(3).finds(Finding::Fence { index: 2, fence: 3 });
    log()
        .noise()
        .revoke_with(1, Effect::Revoke, "agent:a", |r| r.fence = 0)
        .finds(Finding::Fence { index: 1, fence: 0 });
}

#[test]
fn renewals_follow_one_by_one() {
    log().issue("a", 1).renew("a", 1, 2).renew("a", 2, 3).is_lawful();
    log().renew("a", 1, 2).finds(Finding::NoPrevious { index: 0, previous: serial(1) });
    log()
        .issue("a", 1)
        .renew("a", 1, 2)
        .renew("a", 1, 3)
        .finds(Finding::RenewedTwice { index: 2, previous: serial(1) });
}

#[test]
fn no_renewal_of_what_was_revoked() {
    let lineage = format!("lineage:{}", Lineage::from_bytes([1; 16]));
    let instance = lineage.replace("lineage", "instance");
    for target in ["serial:5c01", "agent:a", &lineage, &instance] {
        let after = Finding::RenewedAfter { index: 2, previous: serial(1), n: 1 };
        log().issue("a", 1).revoke(1, Effect::Revoke, target).renew("a", 1, 2).finds(after);
    }
    // Revoked before it was issued: meant others.
    log().revoke(1, Effect::Revoke, "agent:a").issue("a", 1).renew("a", 1, 2).is_lawful();
    log().issue("a", 1).revoke(1, Effect::Revoke, "agent:b").renew("a", 1, 2).is_lawful();
}

#[test]
fn revocation_numbers_have_no_gap() {
    let number = |index, wanted, got| Finding::Number { index, wanted, got };
    log().revoke(2, Effect::Forbid, "scope:a:b/c").finds(number(0, 1, 2));
    let first = log().revoke(1, Effect::Forbid, "scope:a:b/c");
    first.clone().revoke(1, Effect::Forbid, "scope:a:b/d").finds(number(1, 2, 1));
    first.clone().revoke(3, Effect::Forbid, "scope:a:b/d").finds(number(1, 2, 3));
    first.clone().resume(3, 1).finds(number(1, 2, 3));
    first.resume(2, 1).revoke(3, Effect::Forbid, "scope:a:b/c").is_lawful();
}

#[test]
fn only_what_is_held_can_be_resumed() {
    let resume = |index, resumes| Finding::Resume { index, resumes };
    log().revoke(1, Effect::Retire, "agent:a").resume(2, 1).finds(resume(1, 1));
    log().revoke(1, Effect::Revoke, "agent:a").resume(2, 1).finds(resume(1, 1));
    log().revoke(1, Effect::Suspend, "agent:a").resume(2, 7).finds(resume(1, 7));
    log().revoke(1, Effect::Suspend, "agent:a").resume(2, 1).resume(3, 1).finds(resume(2, 1));
    let other = |revoked: &mut Revoked| revoked.id = RevocationId::from_bytes([9; 16]);
    log().revoke_with(1, Effect::Suspend, "agent:a", other).resume(2, 1).finds(resume(1, 1));
}

#[test]
fn crls_rise() {
    let authority = KeyId::from_bytes([1; 20]);
    log().crl(1, 5, 0).crl(2, 3, 0).crl(1, 6, 0).is_lawful();
    log().crl(1, 5, 0).crl(1, 5, 0).finds(Finding::CrlNumber { index: 1, authority, previous: 5, got: 5 });
    log().crl(1, 5, 1).finds(Finding::CrlAhead { index: 0, authority, n: 1 });
    let revoked = log().revoke(1, Effect::Revoke, "agent:a");
    revoked.crl(1, 5, 1).crl(1, 6, 0).finds(Finding::CrlFallsBack { index: 2, authority, n: 0 });
}

#[test]
fn an_epoch_begins_with_its_restart() {
    let restart = |index, epoch| Finding::Restart { index, epoch };
    log().restart(2, 1841).revoke(1842, Effect::Forbid, "scope:a:b/c").is_lawful();
    let number = Finding::Number { index: 1, wanted: 1842, got: 1 };
    log().restart(2, 1841).revoke(1, Effect::Forbid, "scope:a:b/c").finds(number);
    Log { epoch: Some(2), ..log() }.noise().finds(restart(0, 2));
    log().restart(1 + 1, 0).restart(2, 0).finds(restart(1, 2));
    let mut mixed = log().noise();
    mixed.epoch = Some(2);
    mixed.noise().finds(Finding::Epoch { index: 1, wanted: 1, got: 2 });
}

#[test]
fn hidden_entries_count_and_no_more() {
    let log = lawful();
    for index in 0..log.entries.len() {
        assert_eq!(log.clone().hide(index).is_lawful().hidden(), 1, "entry {index}");
    }
    // A hidden entry may have resumed a suspension; nothing resumes a retirement.
    let held = |effect| self::log().revoke(1, effect, "agent:a").noise().hide(1).issue("a", 1);
    held(Effect::Suspend).is_lawful();
    held(Effect::Retire).finds(Finding::Stopped { index: 2, serial: serial(1), n: 1 });
    // As many revocations may hide as entries do.
    let gap = self::log().noise().hide(0).revoke(2, Effect::Forbid, "scope:a:b/c");
    gap.is_lawful();
    let gap = self::log().noise().hide(0).revoke(3, Effect::Forbid, "scope:a:b/c");
    gap.finds(Finding::Number { index: 1, wanted: 1, got: 3 });
}

#[test]
fn findings_are_bounded() {
    let mut audit = Audit::new(SHA256, []);
    let wrong = Logged::Entry(Entry { salt: [0; 16], record: vec![] });
    (0..2_000).for_each(|_| audit.append(&wrong));
    assert_eq!(audit.finish().unwrap_err().len(), 1_000);
}

proptest! {
    #[test]
    fn a_changed_entry_is_found(at: prop::sample::Index, byte: prop::sample::Index, bit in 0u8..8, salt: bool) {
        let log = lawful();
        let signed = log.tree(log.entries.len());
        let mut entries = log.entries;
        let at = at.index(entries.len());
        if let Logged::Entry(entry) = &mut entries[at] {
            let bytes = if salt { entry.salt.as_mut_slice() } else { entry.record.as_mut_slice() };
            bytes[byte.index(bytes.len())] ^= 1 << bit;
        }
        let findings = verify_log(SHA256, entries, [signed]).unwrap_err();
        let forked = Finding::Root { size: signed.size };
        prop_assert!(findings.contains(&forked));
    }

    #[test]
    fn a_moved_or_missing_entry_is_found(a: prop::sample::Index, b: prop::sample::Index) {
        let log = lawful();
        let signed = log.tree(log.entries.len());
        let (a, b) = (a.index(log.entries.len()), b.index(log.entries.len()));
        prop_assume!(a != b);
        let mut swapped = log.entries.clone();
        swapped.swap(a, b);
        prop_assert!(verify_log(SHA256, swapped, [signed]).is_err());
        let mut shorter = log.entries.clone();
        shorter.remove(a);
        prop_assert!(verify_log(SHA256, shorter, [signed]).is_err());
    }
}
