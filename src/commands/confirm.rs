//! Asking before what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use chancery_api::Radius;

use super::{Context, Failure};

/// A radius above this many certificates is confirmed by its number.
const LARGE: u64 = 100;
/// So is one above this part of all that live,
const PART: u64 = 10;
/// once it is more than one agent commonly has: where few live, any agent is a large part of them.
const FEW: u64 = 10;

/// Asks on the terminal; without one, wants `--yes`.
pub(crate) fn confirm(context: &Context<'_>, what: &str) -> Result<(), Failure> {
    if context.global.yes || context.global.dry_run {
        return Ok(());
    }
    let answer = ask(what, "Go? [y/N]")?;
    if matches!(answer.as_str(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::here("nothing done")) }
}

/// Asks before something is stopped. What reaches far is confirmed by how far it reaches: typed at the terminal, or given
/// as `--confirm`.
pub(crate) fn confirm_radius(
    context: &Context<'_>,
    what: &str,
    radius: Option<&Radius>,
    confirmed: Option<u64>,
) -> Result<(), Failure> {
    let Some((number, why)) = far(radius) else { return confirm(context, what) };
    if confirmed.is_some_and(|confirmed| confirmed >= number) {
        return confirm(context, what);
    }
    let refused = || {
        let came =
            confirmed.map_or_else(String::new, |confirmed| format!(", which is more than --confirm {confirmed}"));
        Failure::usage(format!("{what}\n  {why}{came}")).fix(format!("if that is meant: --confirm {number}"))
    };
    if context.global.yes || confirmed.is_some() {
        return Err(refused());
    }
    let answer = ask(&format!("{what}\n  {why}"), &format!("Type {number} to go on:")).map_err(|_| refused())?;
    if answer == number.to_string() { Ok(()) } else { Err(Failure::here("nothing done")) }
}

/// The number that confirms a radius, and why it has to be confirmed; `None`: it need not be.
fn far(radius: Option<&Radius>) -> Option<(u64, String)> {
    let Some(radius) = radius else {
        return Some((0, "the issuer could not read what this reaches".into()));
    };
    let Radius { certificates, services, live_certificates, includes_caller, includes_issuer, .. } = *radius;
    let why = if includes_issuer {
        "this stops the issuer's own certificate".into()
    } else if includes_caller {
        "this stops you".into()
    } else if services > 0 {
        format!("this stops {}", counted(services, "service"))
    } else if certificates > LARGE {
        format!("this stops {certificates} certificates, more than {LARGE}")
    } else if certificates >= FEW && certificates.saturating_mul(PART) > live_certificates {
        format!("this stops {certificates} of {live_certificates} certificates, more than one in {PART}")
    } else {
        return None;
    };
    Some((certificates, why))
}

fn ask(what: &str, question: &str) -> Result<String, Failure> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Failure::usage(format!("{what}\n  nobody to ask, as there is no terminal"))
            .fix("say --yes, or look first with --dry-run"));
    }
    let mut answer = String::new();
    write!(stderr, "  {what}\n  {question} ").and_then(|()| stderr.flush()).map_err(Failure::here)?;
    stdin.lock().read_line(&mut answer).map_err(Failure::here)?;
    Ok(answer.trim().to_owned())
}

/// `1 certificate`, `2 certificates`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn radius(certificates: u64, live_certificates: u64) -> Radius {
        Radius {
            instances: certificates,
            certificates,
            descendants: 0,
            services: 0,
            systems: Vec::new(),
            holders: Vec::new(),
            open_connections: None,
            open_at: Vec::new(),
            includes_caller: false,
            includes_issuer: false,
            at_least: false,
            live_certificates,
            as_of: "2026-11-21T03:07:41.203Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_reaches_far_is_confirmed_by_its_number() {
        let number = |radius: &Radius| far(Some(radius)).map(|(number, _)| number);
        assert_eq!(number(&radius(0, 0)), None);
        // All there is, and still few.
        assert_eq!(number(&radius(1, 3)), None);
        assert_eq!(number(&radius(9, 9)), None);
        assert_eq!(number(&radius(10, 10)), Some(10));
        assert_eq!(number(&radius(10, 99)), Some(10));
        assert_eq!(number(&radius(10, 100)), None);
        assert_eq!(number(&radius(11, 100)), Some(11));
        assert_eq!(number(&radius(100, 1_001)), None);
        assert_eq!(number(&radius(101, 1_001)), Some(101));
        assert_eq!(number(&Radius { services: 1, ..radius(1, 1_000) }), Some(1));
        assert_eq!(number(&Radius { includes_caller: true, ..radius(1, 1_000) }), Some(1));
        assert_eq!(number(&Radius { includes_issuer: true, ..radius(1, 1_000) }), Some(1));
        assert!(far(None).is_some());
    }
}
