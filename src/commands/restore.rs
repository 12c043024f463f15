//! `chancery db restore`: on from a backup that lost what was told of since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use chancery_api::{AuthorityKind, FeedEntry, FeedSnapshot};
use chancery_ca::AuthorityCertificate;
use chancery_identity::{Effect, Revocation, TrustDomain};
use chancery_tlog::{Chained, Head, LastHead};

use super::confirm::confirm;
use super::log::Database;
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::revocation::{Kept, KeptHead, open_head};
use crate::store::{Cause, NewEpoch, SHA256, Store};

/// How long an issuer that stops is waited for.
const LEASE: Duration = Duration::from_secs(10);
/// Where `serve --dev` keeps its data.
const DEV_FOLDER: &str = "chancery-dev";

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    database: Database,
    /// Begin a new epoch: all certificates are void, everything attests or rejoins again.
    #[arg(long, required = true)]
    new_epoch: bool,
    /// The head that was kept outside the database; without it the one in the data folder.
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Where entries that the database lacks may be found: a verifier's state folder (chancery run, sidecar, authz serve, or a
    /// service), or a file with what was read from a feed, from its beginning. May be said more than once; the newest counts.
    #[arg(long, value_name = "PATH")]
    import: Vec<PathBuf>,
}

impl Restore {
    pub(crate) async fn run(self, context: &Context<'_>) -> Result<Exit, Failure> {
        // Another database than the configuration's is another issuer's, or a copy.
        let data_dir = match (&self.database.database, &context.global.config) {
            (Some(_), _) => None,
            (None, Some(config)) => Some(Config::load(config).map_err(Failure::usage)?.data_dir),
            (None, None) => Some(PathBuf::from(DEV_FOLDER)),
        };
        let head = match (&self.head, &data_dir) {
            (Some(file), _) => file.clone(),
            (None, Some(data_dir)) => data_dir.join("head"),
            (None, None) => {
                return Err(Failure::usage("with --database the data folder is not known").fix("--head FILE"));
            }
        };
        let url = self.database.url(context)?;
        let random = Arc::new(ring::rand::SystemRandom::new());
        let store = Store::open(&url, Arc::new(SystemClock), random).await.map_err(Failure::here)?;
        let root = store.state().authorities().into_iter().find(|authority| authority.kind == AuthorityKind::Root);
        let root = root.ok_or_else(|| Failure::here("the database has no root: it was never served"))?;
        let root = AuthorityCertificate::read(root.certificate.clone()).map_err(Failure::here)?;

        let mut told = KeptHead::at(head.clone()).read(root.trust_domain(), root.der()).map_err(Failure::here)?;
        let mut import: Option<Capture> = None;
        for path in &self.import {
            let capture = Capture::read(path, root.trust_domain(), root.der())
                .map_err(|why| Failure::here(format!("{}: {why}", path.display())))?;
            if told.as_ref().is_none_or(|told| told.head.is_behind(&capture.told.head)) {
                told = Some(capture.told.clone());
            }
            // All tell of one sequence: whoever heard of it later knows what was resumed since.
            if import.as_ref().is_none_or(|best| best.told.head.is_behind(&capture.told.head)) {
                import = Some(capture);
            }
        }
        let import = import.map(|capture| capture.in_force).unwrap_or_default();
        let why = match &told {
            Some(told) => match store.lost(&told.head).await.map_err(Failure::here)? {
                Some(why) => why.to_string(),
                None => {
                    return Err(Failure::here("the database has all that the kept head tells of")
                        .fix("nothing is to be restored: start the issuer"));
                }
            },
            None => format!("no head is kept in {}: what was lost is not known", head.display()),
        };
        let position = store.state().position();
        let tree = store.tree().await.map_err(Failure::here)?;
        let kept = told.as_ref().map_or(
            LastHead { epoch: position.epoch, n: position.n, root: tree.root, size: tree.size },
            |told| {
                let told = &told.head;
                LastHead { epoch: told.epoch, n: told.revocation.n, root: told.tree.root, size: told.tree.size }
            },
        );
        let plan = format!(
            "{why}\n  a new epoch begins: a new log, new issuing authorities; every certificate, join token and API token is \
             void\n  {} entries of the files given are entered again where the database lacks them",
            import.len(),
        );
        if context.global.dry_run {
            let body = json!({ "dry_run": true, "why": why, "imported": import.len() });
            context.output.result(&body, &format!("would restore: {plan}"));
            return Ok(Exit::Done);
        }
        confirm(context, &plan)?;
        let writing = tokio::time::timeout(LEASE, store.write("db restore")).await;
        let writing = writing
            .map_err(|_| Failure::here("an issuer runs on this database").fix("stop it first"))?
            .map_err(Failure::here)?;
        let decision = NewEpoch { cause: Cause::ISSUER, kept, import };
        // Before the new epoch's heads take its place.
        if let Some(told) = &told {
            let beside = head.parent().unwrap_or(Path::new(""));
            let kept = KeptHead::of_epoch(data_dir.as_deref().unwrap_or(beside), told.head.epoch);
            kept.write(&told.note, std::iter::once(told.certificates.as_str())).map_err(Failure::here)?;
        }
        let restarted = store.commit(decision).await.map_err(Failure::here)?.into_reply();
        writing.stop().await;
        let words = format!(
            "epoch {} begins above revocation {}\n  {} entries hold on, {} issuing authorities are retired\n  start the \
             issuer: it makes a new one; everything attests or rejoins again",
            restarted.epoch,
            kept.n,
            restarted.entered.len(),
            restarted.authorities.len(),
        );
        let body = json!({
            "epoch": restarted.epoch,
            "n": restarted.n,
            "entered": restarted.entered,
            "retired_authorities": restarted.authorities.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        context.output.result(&body, &words);
        Ok(Exit::Done)
    }
}

/// What somebody heard of a feed, verified up to its last head.
#[derive(Debug)]
struct Capture {
    told: Kept,
    /// Those that hold something up.
    in_force: Vec<Revocation>,
}

impl Capture {
    fn read(path: &Path, trust_domain: &TrustDomain, root: &[u8]) -> Result<Self, String> {
        if path.is_dir() {
            return Self::saved(path, trust_domain, root);
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::events(&text, trust_domain, root)
    }

    /// Reads what a verifier saved in its state folder. Lines beyond its head do not count.
    fn saved(folder: &Path, trust_domain: &TrustDomain, root: &[u8]) -> Result<Self, String> {
        let kept =
            KeptHead::at(folder.join("feed-head")).read(trust_domain, root).map_err(|error| error.to_string())?;
        let told = kept.ok_or("it has no feed-head: no verifier's state folder, or one that heard no feed")?;
        let head = &told.head;
        let text =
            std::fs::read_to_string(folder.join("feed-entries")).map_err(|error| format!("feed-entries: {error}"))?;
        let (first, rest) = text.split_once('\n').ok_or("feed-entries does not say where it begins")?;
        let Begin { epoch, floor, standing } =
            serde_json::from_str(first).map_err(|error| format!("feed-entries: {error}"))?;
        let (floor, standing) = (floor.read()?, standing.read()?.n);
        if epoch != head.epoch.to_string() {
            return Err(format!("feed-entries is of epoch {epoch}, feed-head of epoch {}", head.epoch));
        }
        let above = head.revocation.n.saturating_sub(floor.n);
        let counted = usize::try_from(standing.saturating_add(above)).unwrap_or(usize::MAX);
        let lines: Vec<&str> = rest.lines().take(counted).collect();
        Ok(Self { in_force: in_force(floor, standing, &lines, head)?, told })
    }

    /// Reads server-sent events from a `snapshot` on. What no head reaches does not count.
    fn events(text: &str, trust_domain: &TrustDomain, root: &[u8]) -> Result<Self, String> {
        let (mut keys, mut certificates, mut begun) = (Vec::new(), String::new(), None);
        let (mut lines, mut base, mut heard) = (Vec::new(), None, None);
        for event in text.split("\n\n") {
            let field = |name: &'static str| event.lines().filter_map(move |line| line.strip_prefix(name));
            let data =
                || field("data:").map(|data| data.strip_prefix(' ').unwrap_or(data)).collect::<Vec<_>>().join("\n");
            match field("event:").next().map(str::trim) {
                Some("head-key") => {
                    keys.push(CertificateDer::from_pem_slice(data().as_bytes()).map_err(|error| error.to_string())?);
                    certificates.push_str(&format!("{}\n", data()));
                }
                Some("snapshot") => {
                    let snapshot: FeedSnapshot = serde_json::from_str(&data()).map_err(|error| error.to_string())?;
                    begun = Some(snapshot);
                    lines.clear();
                    (base, heard) = (None, None);
                }
                Some("entry") => lines.push(data()),
                Some("head") => {
                    let snapshot = begun.as_ref().ok_or("it does not begin with a snapshot")?;
                    let note = format!("{}\n", data());
                    let head = open_head(&note, &keys, trust_domain, root).map_err(|e| e.to_string())?;
                    // The first head after a snapshot says what the chain is at its floor.
                    let floor = *base.get_or_insert(head.floor);
                    if floor.n != snapshot.floor {
                        return Err("the snapshot's floor is not that of the first head".into());
                    }
                    heard = Some((floor, snapshot.standing, lines.len(), head, note));
                }
                _ => {}
            }
        }
        let (floor, standing, counted, head, note) = heard.ok_or("it has no signed head")?;
        let lines: Vec<&str> = lines.iter().take(counted).map(String::as_str).collect();
        Ok(Self { in_force: in_force(floor, standing, &lines, &head)?, told: Kept { head, note, certificates } })
    }
}

/// The first line of `feed-entries`.
#[derive(serde::Deserialize)]
struct Begin {
    epoch: String,
    floor: Point,
    standing: Point,
}

#[derive(serde::Deserialize)]
struct Point {
    n: String,
    hash: String,
}

impl Point {
    fn read(&self) -> Result<Chained, String> {
        let n = self.n.parse().map_err(|_| format!("feed-entries: {:?} is no number", self.n))?;
        let hash = self.hash.parse().map_err(|_| format!("feed-entries: {:?} is no hash", self.hash))?;
        Ok(Chained { n, hash })
    }
}

/// What holds something up, of lines that say themselves where they begin: first so many that stand below a floor, then all
/// above it. What is above leads to the head by the chain of all. What is below hashes to nothing that the head signs, once
/// its floor is another: so what of all these stands at the head's own floor has to be what the head says.
fn in_force(floor: Chained, standing: u64, lines: &[&str], head: &Head) -> Result<Vec<Revocation>, String> {
    let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let forgotten = head.floor.n.checked_sub(floor.n).ok_or_else(|| {
        format!(
            "the entries begin above the head's floor ({} above {}): take files of one moment",
            floor.n, head.floor.n
        )
    })?;
    let (below, above) = lines.split_at_checked(index(standing)).ok_or("the entries end too early")?;
    if chain(floor, above) != head.revocation {
        return Err("an entry is missing or changed: the lines do not lead to the head".into());
    }
    let (forgotten, rest) = above.split_at_checked(index(forgotten)).ok_or("the head's floor is above its entries")?;
    let unlike = || "the entries that stand below the floor are not those of the head".to_owned();
    let mut held = Held::default();
    for line in below {
        match held.take(line)? {
            FeedEntry::Revocation(entry) if entry.effect == Effect::Forbid && entry.n <= floor.n => {}
            _ => return Err(unlike()),
        }
    }
    for line in forgotten {
        held.take(line)?;
    }
    if chain(Chained::start(0), &held.forbidding()) != head.standing {
        return Err(unlike());
    }
    for line in rest {
        held.take(line)?;
    }
    Ok(held.0.into_values().map(|(_, entry)| entry).filter(|entry| entry.effect != Effect::Revoke).collect())
}

fn chain(from: Chained, lines: &[&str]) -> Chained {
    lines.iter().fold(from, |chain, line| chain.then(SHA256, line.as_bytes()))
}

/// What was not resumed so far, by its number, with its line.
#[derive(Default)]
struct Held<'a>(BTreeMap<u64, (&'a str, Revocation)>);

impl<'a> Held<'a> {
    fn take(&mut self, line: &'a str) -> Result<FeedEntry, String> {
        let entry = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match &entry {
            FeedEntry::Revocation(entry) => drop(self.0.insert(entry.n, (line, Revocation::from(entry.clone())))),
            FeedEntry::Resume(resume) => drop(self.0.remove(&resume.resumes)),
        }
        Ok(entry)
    }

    /// The lines of what stays when the floor has passed it.
    fn forbidding(&self) -> Vec<&'a str> {
        self.0.values().filter(|(_, entry)| entry.effect == Effect::Forbid).map(|(line, _)| *line).collect()
    }
}

#[cfg(test)]
mod tests {
    use chancery_api::{FeedResume, FeedRevocation};
    use chancery_identity::{Reason, RevocationId, Timestamp};
    use chancery_tlog::{Hash, Tree};

    use super::*;

    fn entry(n: u64, effect: Effect, target: &str) -> String {
        let (target, created_at) = (target.parse().unwrap(), Timestamp::default());
        let (id, reason) = (RevocationId::from_bytes([7; 16]), Reason::Unspecified);
        crate::store::document(&FeedEntry::Revocation(FeedRevocation {
            n,
            id,
            epoch: 1,
            log_index: n,
            fence: n,
            created_at,
            target,
            effect,
            reason,
            cascade: true,
        }))
    }

    fn resume(n: u64, resumes: u64) -> String {
        let created_at = Timestamp::default();
        crate::store::document(&FeedEntry::Resume(FeedResume { n, epoch: 1, resumes, log_index: n, created_at }))
    }

    fn numbers(floor: Chained, below: &[&str], above: &[&str], head: &Head) -> Result<Vec<u64>, String> {
        let held = in_force(floor, below.len() as u64, &[below, above].concat(), head)?;
        Ok(held.iter().map(|entry| entry.n).collect())
    }

    #[test]
    fn what_stands_below_a_floor_that_moved_since_is_held_against_the_head() {
        let forbid = |n| entry(n, Effect::Forbid, &format!("scope:tools/call:crm/{n}"));
        let suspend = |n| entry(n, Effect::Suspend, "agent:invoice-bot");
        let all = [forbid(1), forbid(2), suspend(3), forbid(4), suspend(5), resume(6, 1), suspend(7), resume(8, 4)];
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let at = |n| chain(Chained::start(0), &all[..n]);
        let head = Head {
            epoch: 1,
            tree: Tree { size: 9, root: Hash([0; 32]) },
            revocation: at(8),
            floor: at(6),
            standing: chain(Chained::start(0), &[all[1], all[3]]),
            bundle: Chained::start(1),
            at: Timestamp::default(),
        };
        // From the beginning, from a floor of before, and from the head's own.
        assert_eq!(numbers(at(0), &[], &all, &head), Ok(vec![2, 3, 5, 7]));
        assert_eq!(numbers(at(3), &all[..2], &all[3..], &head), Ok(vec![2, 5, 7]));
        assert_eq!(numbers(at(6), &[all[1], all[3]], &all[6..], &head), Ok(vec![2, 7]));

        let refused = |floor, below: &[&str], above: &[&str]| numbers(floor, below, above, &head).unwrap_err();
        let unlike = "the entries that stand below the floor are not those of the head";
        let (forged, other) = (entry(3, Effect::Forbid, "scope:tools/call:crm/x"), suspend(2));
        let resumed = resume(2, 1);
        let from_above = forbid(5);
        for below in [
            vec![],
            vec![all[0]],
            vec![all[0], all[1], &forged],
            vec![all[0], all[1], all[2]],
            vec![all[0], &other],
            vec![all[0], all[1], &resumed],
            vec![all[0], all[1], &from_above],
        ] {
            assert_eq!(refused(at(3), &below, &all[3..]), unlike, "{below:?}");
        }
        assert_eq!(refused(at(6), &[all[1]], &all[6..]), unlike);
        assert!(refused(at(8), &[&forged], &[]).contains("begin above the head's floor"));
        assert!(refused(at(3), &all[..2], &all[4..]).contains("missing or changed"));
        assert!(refused(at(2), &all[..2], &all[3..]).contains("missing or changed"));
    }
}
