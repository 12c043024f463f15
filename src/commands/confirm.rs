//! Asking before what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use super::{Context, Failure};

/// Asks on the terminal; without one, wants `--yes`.
pub(crate) fn confirm(context: &Context<'_>, what: &str) -> Result<(), Failure> {
    if context.global.yes || context.global.dry_run {
        return Ok(());
    }
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Failure::usage(format!("{what}: nobody to ask, as there is no terminal"))
            .fix("say --yes, or look first with --dry-run"));
    }
    let mut answer = String::new();
    write!(stderr, "  {what}\n  Go? [y/N] ").and_then(|()| stderr.flush()).map_err(Failure::here)?;
    stdin.lock().read_line(&mut answer).map_err(Failure::here)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::here("nothing done")) }
}
