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
        let head = match (&self.head, &self.database.database, &context.global.config) {
            (Some(file), ..) => file.clone(),
            (None, Some(_), _) => {
                return Err(Failure::usage("with --database the data folder is not known").fix("--head FILE"));
            }
            (None, None, Some(config)) => Config::load(config).map_err(Failure::usage)?.data_dir.join("head"),
            (None, None, None) => Path::new(DEV_FOLDER).join("head"),
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
        let folder = head.parent().unwrap_or(Path::new("."));
        if let Some(told) = &told {
            let kept = KeptHead::of_epoch(folder, told.head.epoch);
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
        let (floor, standing) = (floor.read()?, standing.read()?);
        if epoch != head.epoch.to_string() {
            return Err(format!("feed-entries is of epoch {epoch}, feed-head of epoch {}", head.epoch));
        }
        let mut lines: Vec<String> = rest.lines().map(str::to_owned).collect();
        let stand = usize::try_from(standing.n).unwrap_or(usize::MAX);
        let above = usize::try_from(head.revocation.n.saturating_sub(floor.n)).unwrap_or(usize::MAX);
        lines.truncate(stand.saturating_add(above));
        let chain = |from, lines: &[String]| {
            lines.iter().fold(from, |chain: Chained, line| chain.then(SHA256, line.as_bytes()))
        };
        let (below, above) = lines.split_at_checked(stand).ok_or("feed-entries ends too early")?;
        // What stands below the floor: as the file began, and where the floor has not moved since, as the head says.
        if chain(Chained::start(0), below) != standing || (floor.n == head.floor.n && standing != head.standing) {
            return Err("the entries that stand below the floor are not those of the head".into());
        }
        if chain(floor, above) != head.revocation {
            return Err("an entry is missing or changed: the lines do not lead to the head".into());
        }
        Ok(Self { in_force: in_force(&lines, head.revocation.n)?, told })
    }

    /// Reads server-sent events from a `snapshot` on. What no head reaches does not count.
    fn events(text: &str, trust_domain: &TrustDomain, root: &[u8]) -> Result<Self, String> {
        let (mut keys, mut certificates, mut begun) = (Vec::new(), String::new(), None);
        let (mut lines, mut counted) = (Vec::new(), None);
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
                    counted = None;
                }
                Some("entry") => lines.push(data()),
                Some("head") => {
                    let snapshot = begun.as_ref().ok_or("it does not begin with a snapshot")?;
                    let note = format!("{}\n", data());
                    let head = open_head(&note, &keys, trust_domain, root).map_err(|e| e.to_string())?;
                    let chain = match counted.take() {
                        Some((_, _, chain)) => chain,
                        None => begin(snapshot, &lines, &head)?,
                    };
                    let chain = go_on(chain, &lines, snapshot.standing)?;
                    if chain != head.revocation {
                        return Err("an entry is missing or changed: the lines do not lead to the head".into());
                    }
                    counted = Some((head, note, chain));
                }
                _ => {}
            }
        }
        let (head, note, _) = counted.ok_or("it has no signed head")?;
        Ok(Self { in_force: in_force(&lines, head.revocation.n)?, told: Kept { head, note, certificates } })
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

/// The chain at the floor, where a snapshot's own entries begin; those that stand below it are held against the head.
fn begin(snapshot: &FeedSnapshot, lines: &[String], head: &Head) -> Result<Chained, String> {
    let standing = usize::try_from(snapshot.standing).unwrap_or(usize::MAX);
    let stand = lines.iter().take(standing).fold(Chained::start(0), |chain, line| chain.then(SHA256, line.as_bytes()));
    if snapshot.floor != head.floor.n || stand != head.standing {
        return Err("the entries that stand below the floor are not those of the head".into());
    }
    Ok(head.floor)
}

fn go_on(chain: Chained, lines: &[String], standing: u64) -> Result<Chained, String> {
    let above = lines.iter().skip(usize::try_from(standing).unwrap_or(usize::MAX));
    let mut chain = chain;
    for line in above {
        let entry: FeedEntry = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if entry.n() > chain.n {
            chain = chain.then(SHA256, line.as_bytes());
        }
    }
    Ok(chain)
}

fn in_force(lines: &[String], up_to: u64) -> Result<Vec<Revocation>, String> {
    let mut held = BTreeMap::new();
    for line in lines {
        match serde_json::from_str(line).map_err(|error| error.to_string())? {
            FeedEntry::Revocation(entry) if entry.n <= up_to && entry.effect != Effect::Revoke => {
                held.insert(entry.n, Revocation::from(entry));
            }
            FeedEntry::Resume(resume) if resume.n <= up_to => drop(held.remove(&resume.resumes)),
            _ => {}
        }
    }
    Ok(held.into_values().collect())
}
