//! How a command ends: its exit code, and what it says when it could not do what was asked.

use std::fmt;
use std::process::ExitCode;

use chancery_api::Problem;

/// How a command ended. The codes are a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Done.
    Done,
    /// Failed here: a file, a socket, a bug.
    Failed,
    /// Used or configured wrongly.
    Usage,
    /// The issuer refused.
    Refused,
    /// The issuer knows no such thing.
    NotFound,
    /// The issuer could not be reached, or has no room.
    Unreachable,
    /// Waits for somebody's approval.
    Pending,
    /// Committed, and not confirmed by every verifier in time.
    Unconfirmed,
    /// What a child process returned.
    Child(u8),
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotFound => 4,
            Self::Unreachable => 5,
            Self::Pending => 6,
            Self::Unconfirmed => 7,
            Self::Child(code) => code,
        }
    }

    const fn of_status(status: u16) -> Self {
        match status {
            400 => Self::Usage,
            404 => Self::NotFound,
            401..500 if status != 429 => Self::Refused,
            429 | 500.. => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do what was asked: one sentence, what to do about it, and the exit code.
#[derive(Clone, Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    fix: Vec<String>,
    problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure of this machine or program.
    pub fn here(what: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, what: what.to_string(), fix: Vec::new(), problem: None }
    }

    /// Wrong use or configuration.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, ..Self::here(what) }
    }

    /// The issuer knows no such thing.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self { exit: Exit::NotFound, ..Self::here(what) }
    }

    /// The issuer could not be reached.
    pub fn unreachable(what: impl fmt::Display) -> Self {
        Self { exit: Exit::Unreachable, ..Self::here(what) }
    }

    /// The issuer refuses.
    pub fn refused(what: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, ..Self::here(what) }
    }

    /// Adds what to do about it.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        self
    }

    /// How the command ends.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// What the issuer said, if it was the issuer that refused.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_deref()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            exit: Exit::of_status(problem.status),
            what: problem.detail.clone(),
            fix: problem.fix.clone(),
            problem: Some(Box::new(problem)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(problem) => {
                write!(f, "{}: {}\n  {}", self.verb(), problem.code, self.what)?;
                for (label, lines) in [("needs", &problem.needs), ("holds", &problem.holds)] {
                    lines.iter().try_for_each(|line| write!(f, "\n  {label}  {line}"))?;
                }
            }
            None => f.write_str(&self.what)?,
        }
        self.fix.iter().try_for_each(|fix| write!(f, "\n  fix    {fix}"))?;
        match self.problem.as_ref().and_then(|problem| problem.request_id) {
            Some(request) => write!(f, "\n  {request}"),
            None => Ok(()),
        }
    }
}

impl Failure {
    const fn verb(&self) -> &'static str {
        match self.exit {
            Exit::NotFound => "not found",
            Exit::Unreachable => "not served",
            _ => "refused",
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_exit_code() {
        for (status, code) in
            [(400, 2), (401, 3), (403, 3), (404, 4), (409, 3), (412, 3), (422, 3), (429, 5), (500, 5), (503, 5)]
        {
            assert_eq!(Exit::of_status(status).code(), code, "{status}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_needed_and_what_to_do() {
        let problem = Problem {
            r#type: String::new(),
            code: "access-missing".into(),
            title: String::new(),
            status: 403,
            detail: "admin:ana asked for what needs operator".into(),
            instance: None,
            needs: vec!["operator".into()],
            holds: vec!["viewer".into()],
            fix: vec!["an administrator: chancery admins update ana --access operator".into()],
            retry: chancery_api::Retry::No,
            request_id: None,
            log_index: None,
        };
        assert_eq!(
            Failure::from(problem).to_string(),
            "refused: access-missing\n  admin:ana asked for what needs operator\n  needs  operator\n  holds  viewer\n  \
             fix    an administrator: chancery admins update ana --access operator"
        );
    }
}
