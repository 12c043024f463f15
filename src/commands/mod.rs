//! The command line.

mod admins;
mod agents;
mod authorities;
mod authz;
mod config;
mod confirm;
mod db;
mod demo;
mod exit;
mod issuer;
mod kept_files;
mod log;
mod login;
mod on_change;
mod output;
mod records;
mod restore;
mod revocations;
mod run;
mod serve;
mod services;
mod show;
mod sidecar;
mod stop;
mod tokens;
mod verifiers;
mod views;
mod watch;
mod workload;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use chancery_api::RootPin;

pub use self::exit::{Exit, Failure};
pub use self::output::Form;
use self::output::Output;
use crate::config::parse_duration;

/// A private certificate authority for AI agents and the services they call.
#[derive(Debug, Parser)]
#[command(
    name = "chancery",
    version,
    propagate_version = true,
    infer_subcommands = false,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  chancery agents create invoice-bot --owner team-finance --scope tools/call:crm/get_customer --join
  chancery suspend agent:invoice-bot --comment INC-2291")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Reads the arguments, and remembers which of them were given how.
    fn read<I: IntoIterator<Item: Into<OsString> + Clone>>(arguments: I) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let given = |name| Some((name, matches.value_source(name)?));
        let names = ["config", "issuer", "pin", "token_file", "output", "timeout"];
        cli.global.origins = names.into_iter().filter_map(given).collect();
        Ok(cli)
    }
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// How to print results.
    #[arg(short = 'o', long, global = true, value_enum, default_value_t, env = "CHANCERY_OUTPUT", value_name = "FORM")]
    output: Form,
    /// The same as `-o json`: the HTTP body.
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// Say nothing but results and refusals.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more: each request, and its id.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// The issuer: https://host:port, or unix:PATH of its admin socket.
    #[arg(long, global = true, env = "CHANCERY_ISSUER", value_name = "URL")]
    issuer: Option<String>,
    /// File with an API token; CHANCERY_TOKEN may hold the token itself.
    #[arg(long, global = true, env = "CHANCERY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// SHA-256 of the issuer's root, to know it by when there is no login.
    #[arg(long, global = true, env = "CHANCERY_PIN", value_name = "PIN")]
    pin: Option<RootPin>,
    /// The issuer's configuration file.
    #[arg(long, global = true, env = "CHANCERY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to wait for an answer.
    #[arg(long, global = true, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    timeout: Duration,
    /// Do not ask before what cannot be undone.
    #[arg(short, long, global = true)]
    yes: bool,
    /// Change nothing; say what would be done.
    #[arg(long, global = true)]
    dry_run: bool,
    /// No colours; NO_COLOR does the same.
    #[arg(long, global = true)]
    no_color: bool,
    /// What was given by flag or environment, by the names of the fields above.
    #[arg(skip)]
    origins: HashMap<&'static str, ValueSource>,
}

impl Global {
    fn form(&self) -> Form {
        if self.json { Form::Json } else { self.output }
    }

    /// Where a value comes from.
    fn origin(&self, name: &str) -> &'static str {
        match self.origins.get(name) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "environment",
            _ => "default",
        }
    }

    fn output(&self) -> Output {
        Output::new(self.form(), self.quiet, self.verbose > 0, self.no_color)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Run(run::Run),
    Sidecar(sidecar::Sidecar),
    /// Decisions for services that are not in Rust.
    #[command(subcommand, after_help = "Examples:\n  chancery authz serve --rules rules.toml --listen 127.0.0.1:9191")]
    Authz(authz::Authz),
    /// Enrol as an administrator, with the join string that `chancery admins create` printed.
    Login(login::Login),
    /// Show who you are to the issuer, and what you may do.
    #[command(after_help = "Examples:\n  chancery whoami\n  chancery whoami --json")]
    Whoami,
    /// Show anything that was pasted: serial, SPIFFE ID, instance, typed id, name.
    Show(show::Show),
    /// Hold what exists and what would be issued, until resumed.
    Suspend(stop::Suspend),
    /// End what exists and what would be issued, for good.
    Retire(stop::Retire),
    /// End what exists now, for good.
    Revoke(stop::Revoke),
    /// Refuse every request that a scope covers, whoever makes it, until resumed. No certificate ends.
    Forbid(stop::Forbid),
    /// End a suspension or a forbidding.
    Resume(stop::ResumeId),
    /// Agents: what may be attested as what.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery agents list\n  chancery agents create invoice-bot --owner team-finance --scope tools/call:crm/get_customer --join"
    )]
    Agents(agents::Agents),
    /// Services, and the systems they answer for.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery services list\n  chancery services create crm --owner team-crm --system crm --dns crm.internal --join"
    )]
    Services(services::Services),
    /// Systems: the audiences of scopes.
    #[command(subcommand, after_help = "Examples:\n  chancery systems list")]
    Systems(records::Systems),
    /// Administrators and what they may do.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery admins list\n  chancery admins create ana --access operator,revoker"
    )]
    Admins(admins::Admins),
    /// Attested running copies of agents.
    #[command(subcommand, after_help = "Examples:\n  chancery instances list --agent invoice-bot")]
    Instances(records::Instances),
    /// Certificates that were issued.
    #[command(subcommand, after_help = "Examples:\n  chancery certificates list --scope tools/call:crm/refund")]
    Certificates(records::Certificates),
    /// Join tokens: the first evidence of what has nothing else to show.
    #[command(subcommand, after_help = "Examples:\n  chancery join-tokens create --agent invoice-bot")]
    JoinTokens(tokens::JoinTokens),
    /// API tokens: bearer secrets for administration by programs.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery api-tokens create --access viewer --description dashboard"
    )]
    ApiTokens(tokens::ApiTokens),
    /// Revocations: what was stopped, by whom, and what resumed.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery revocations list\n  chancery revocations watch --out ./crl"
    )]
    Revocations(records::Revocations),
    /// Verifiers: who checks certificates, and what each knows.
    #[command(subcommand, after_help = "Examples:\n  chancery verifiers list")]
    Verifiers(verifiers::Verifiers),
    /// Authorities: the keys that sign.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery authorities list\n  chancery authorities rotate --dry-run"
    )]
    Authorities(authorities::Authorities),
    /// The log of every decision.
    #[command(subcommand, after_help = "Examples:\n  chancery log tail --follow\n  chancery log verify")]
    Log(log::LogCommand),
    /// The database.
    #[command(
        subcommand,
        after_help = "Examples:\n  chancery db backup /backup/chancery.db --config /etc/chancery/chancery.toml"
    )]
    Db(db::Db),
    /// The configuration file.
    #[command(subcommand, after_help = "Examples:\n  chancery config check chancery.toml\n  chancery config show")]
    Config(config::ConfigCommand),
    /// Print the OpenAPI document of this version.
    #[command(after_help = "Examples:\n  chancery openapi > openapi.json")]
    Openapi,
    /// Print the completion script of a shell.
    #[command(after_help = "Examples:\n  chancery completion bash > /etc/bash_completion.d/chancery")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Reads the arguments, does what they say, and reports how it went.
pub fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let output = cli.global.output();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.complain(&Failure::here(format!("no threads to run on: {error}")));
            return Exit::Failed.into();
        }
    };
    match runtime.block_on(Box::pin(run(cli.command, &cli.global, output))) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.complain(&failure);
            failure.exit().into()
        }
    }
}

async fn run(command: Command, global: &Global, output: Output) -> Result<Exit, Failure> {
    let context = Context { global, output };
    match command {
        Command::Serve(serve) => serve.run(&context).await,
        Command::Demo(demo) => Box::pin(demo.run(&context)).await,
        Command::Run(run) => Ok(Box::pin(run.run(&context)).await),
        Command::Sidecar(sidecar) => Box::pin(sidecar.run()).await,
        Command::Authz(authz) => Box::pin(authz.run(&context)).await,
        Command::Login(login) => login.run(&context).await,
        Command::Whoami => records::whoami(&context).await,
        Command::Show(show) => show.run(&context).await,
        Command::Suspend(suspend) => suspend.run(&context).await,
        Command::Retire(retire) => retire.run(&context).await,
        Command::Revoke(revoke) => revoke.run(&context).await,
        Command::Forbid(forbid) => forbid.run(&context).await,
        Command::Resume(resume) => resume.run(&context).await,
        Command::Agents(agents) => agents.run(&context).await,
        Command::Services(services) => services.run(&context).await,
        Command::Systems(systems) => systems.run(&context).await,
        Command::Admins(admins) => Box::pin(admins.run(&context)).await,
        Command::Instances(instances) => instances.run(&context).await,
        Command::Certificates(certificates) => certificates.run(&context).await,
        Command::JoinTokens(tokens) => tokens.run(&context).await,
        Command::ApiTokens(tokens) => tokens.run(&context).await,
        Command::Revocations(revocations) => Box::pin(revocations.run(&context)).await,
        Command::Verifiers(verifiers) => verifiers.run(&context).await,
        Command::Authorities(authorities) => authorities.run(&context).await,
        Command::Log(log) => log.run(&context).await,
        Command::Db(db) => db.run(&context).await,
        Command::Config(config) => config.run(&context),
        Command::Openapi => {
            output::print(crate::http::document().trim_end());
            Ok(Exit::Done)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "chancery", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}

/// What a command works with.
pub(crate) struct Context<'a> {
    global: &'a Global,
    output: Output,
}

impl Context<'_> {
    async fn issuer(&self) -> Result<issuer::Issuer, Failure> {
        Box::pin(issuer::Issuer::find(self.global, self.output)).await
    }

    /// The issuer, whose answers may take so much longer.
    async fn patient_issuer(&self, wait: Duration) -> Result<issuer::Issuer, Failure> {
        let timeout = self.global.timeout + wait;
        Box::pin(issuer::Issuer::find(&Global { timeout, ..self.global.clone() }, self.output)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(command: &clap::Command, path: &str, visit: &mut impl FnMut(&clap::Command, &str)) {
        visit(command, path);
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            walk(inner, &format!("{path} {}", inner.get_name()), visit);
        }
    }

    /// The words of a line as a shell would split it, up to a redirection; what is quoted is one word.
    fn words(line: &str) -> Vec<String> {
        let command = line.split(" > ").next().unwrap();
        let parts = command.split('\'').enumerate();
        let split = |(at, part): (usize, &str)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        };
        parts.flat_map(split).collect()
    }

    #[test]
    fn the_tree_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command's help ends in examples, and every example is taken.
    #[test]
    fn every_example_is_taken() {
        let mut examples = Vec::new();
        walk(&Cli::command(), "chancery", &mut |command, path| {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:\n"), "{path} has no examples");
            let lines = text.lines().skip(1).map(|line| line.trim().to_owned()).collect::<Vec<_>>();
            assert!(lines.iter().any(|line| line.starts_with(path)), "{path}: {lines:?}");
            examples.extend(lines);
        });
        for example in examples {
            let words = words(&example);
            let start = words.iter().position(|word| word == "chancery").unwrap();
            if let Err(error) = Cli::try_parse_from(&words[start..]) {
                panic!("{example}: {error}");
            }
        }
    }

    #[test]
    fn a_mistyped_flag_is_answered_with_the_nearest() {
        let error = Cli::try_parse_from(["chancery", "agents", "create", "a", "--onwer", "b"]).unwrap_err().to_string();
        assert!(error.contains("--owner"), "{error}");
        let error = Cli::try_parse_from(["chancery", "agnets", "list"]).unwrap_err().to_string();
        assert!(error.contains("agents"), "{error}");
    }

    #[test]
    fn a_value_knows_where_it_comes_from() {
        for arguments in [["chancery", "--timeout", "5s", "whoami"], ["chancery", "whoami", "--timeout", "5s"]] {
            let global = Cli::read(arguments).unwrap().global;
            assert_eq!((global.origin("timeout"), global.origin("issuer")), ("flag", "default"), "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_use_is_2() {
        assert_eq!(Cli::try_parse_from(["chancery", "suspend", "invoice-bot"]).unwrap_err().exit_code(), 2);
    }
}
