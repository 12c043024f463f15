//! The command line against a running issuer: transcripts, forms, exit codes, logins and tokens.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::program::{Issuer, Scratch, chancery, text};

/// What a command said and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    Said { code: status.code().unwrap(), out: text(&stdout), err: text(&stderr) }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Surface §1: create, in the folder that `serve --dev` runs in, without a flag.
#[test]
fn the_first_transcript() {
    let issuer = Issuer::start();
    let scope = "tools/call:crm/get_customer";
    let out = issuer.done(&["agents", "create", "invoice-bot", "--owner", "team-finance", "--scope", scope, "--join"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("agent invoice-bot  active  revision 1  log "), "{out}");
    assert_eq!(lines[1], "  holds    tools/call:crm/get_customer");
    assert_eq!(lines[2], "  ceiling  follows what it holds");
    assert_eq!(lines[3], "  start it (one use, only invoice-bot, expires in 15m, shown once):");
    let join = lines[4].trim().strip_prefix("CHANCERY_JOIN='").unwrap();
    assert!(join.starts_with(&format!("{}#chj_", issuer.url)), "{join}");
    assert!(join.ends_with("' chancery run -- python bot.py"), "{join}");

    let out =
        issuer.done(&["services", "create", "crm", "--owner", "team-crm", "--system", "crm", "--dns", "crm.internal"]);
    assert!(out.starts_with("service crm  active  revision 1  log "), "{out}");
    assert_eq!(issuer.done(&["systems", "list", "-o", "id"]), "crm\n");
}

#[test]
fn one_record_in_every_form() {
    let issuer = Issuer::start();
    issuer.join("invoice-bot");
    let get = |form: &str| issuer.done(&["agents", "get", "invoice-bot", "-o", form]);
    assert_eq!(json(&get("json"))["name"], "invoice-bot");
    assert_eq!(json(&get("jsonl"))["owner"], "team-finance");
    assert_eq!(get("id"), "invoice-bot\n");
    let table = issuer.done(&["agents", "list"]);
    assert!(
        table.starts_with("NAME         OWNER         STATE   SCOPES\ninvoice-bot  team-finance  active  "),
        "{table}"
    );
    assert!(issuer.done(&["agents", "list", "-o", "wide"]).contains("REVISION"));
    // The environment chooses too, and the flag wins.
    let mut by_environment = issuer.command(&["agents", "list"]);
    assert_eq!(said(by_environment.env("CHANCERY_OUTPUT", "id")).out, "invoice-bot\n");
    let mut by_flag = issuer.command(&["agents", "list", "-o", "jsonl"]);
    assert_eq!(json(&said(by_flag.env("CHANCERY_OUTPUT", "id")).out)["name"], "invoice-bot");
}

#[test]
fn every_end_has_its_exit_code() {
    let issuer = Issuer::start();
    issuer.join("invoice-bot");
    let code = |words: &[&str]| said(&mut issuer.command(words)).code;
    assert_eq!(code(&["agents", "list"]), 0);
    assert_eq!(code(&["agents", "list", "--lmit", "5"]), 2);
    assert_eq!(code(&["suspend", "invoice-bot"]), 2, "a bare word is no target");
    assert_eq!(code(&["agents", "create", "invoice-bot", "--owner", "somebody-else"]), 3);
    assert_eq!(code(&["agents", "get", "nobody"]), 4);
    assert_eq!(code(&["show", "nobody"]), 4);
    assert_eq!(code(&["agents", "list", "--issuer", "unix:/nowhere/admin.sock"]), 5);

    let refused = said(&mut issuer.command(&["agents", "get", "nobody", "--json"]));
    assert_eq!(json(&refused.out)["code"], "not-found", "the problem is the body");
    assert!(refused.err.contains("nobody"), "{}", refused.err);
}

/// Without a terminal nothing is stopped by accident; a dry run stops nothing at all.
#[test]
fn stopping_asks_first_and_can_be_undone() {
    let issuer = Issuer::start();
    issuer.join("invoice-bot");
    let state = || json(&issuer.done(&["agents", "get", "invoice-bot", "--json"]))["state"].clone();

    let unasked = said(&mut issuer.command(&["suspend", "agent:invoice-bot"]));
    assert_eq!(unasked.code, 2);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    issuer.done(&["suspend", "agent:invoice-bot", "--dry-run"]);
    issuer.done(&["agents", "retire", "invoice-bot", "--dry-run"]);
    assert_eq!(state(), "active");

    let out = issuer.done(&["suspend", "agent:invoice-bot", "--comment", "INC-1", "--yes"]);
    assert!(out.starts_with("suspended  rv_"), "{out}");
    assert_eq!(state(), "suspended");
    let id = issuer.done(&["revocations", "list", "--state", "in_force", "-o", "id"]).trim().to_owned();
    assert!(issuer.done(&["show", &id]).contains("INC-1"));
    issuer.done(&["resume", &id, "--comment", "false alarm"]);
    assert_eq!(state(), "active");
    assert_eq!(issuer.done(&["revocations", "list", "--state", "in_force", "-o", "id"]), "");
}

/// No certificate ends: what is asked for is refused, until it is allowed again.
#[test]
fn a_scope_is_forbidden_and_allowed_again() {
    let issuer = Issuer::start();
    issuer.join("invoice-bot");
    let out = issuer.done(&["forbid", "tools/call:crm/refund", "--comment", "wrong since 02:00", "--yes"]);
    assert!(out.starts_with("forbidden  rv_") && out.contains("scope:tools/call:crm/refund"), "{out}");
    let entry = json(&issuer.done(&["revocations", "list", "--json"]))["data"][0].clone();
    assert_eq!((&entry["effect"], &entry["state"]), (&"forbid".into(), &"in_force".into()));
    issuer.done(&["resume", entry["id"].as_str().unwrap()]);
    assert_eq!(issuer.done(&["revocations", "list", "--state", "in_force", "-o", "id"]), "");
    assert_eq!(said(&mut issuer.command(&["forbid", "agent:invoice-bot", "--yes"])).code, 2);
}

#[test]
fn authorities_are_shown_and_rotated() {
    let issuer = Issuer::start();
    let table = issuer.done(&["authorities", "list"]);
    assert!(table.starts_with("KEY ID") && table.contains("issuing  signing"), "{table}");
    assert!(issuer.done(&["authorities", "rotate", "--dry-run"]).starts_with("would make a successor to "));
    let out = issuer.done(&["authorities", "rotate"]);
    assert!(out.starts_with("authority ") && out.contains("signs from"), "{out}");
    let listed = issuer.list(&["authorities", "list"]);
    let states: Vec<_> = listed.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["signing", "signing", "announced"]);
    assert_eq!(json(&issuer.done(&["log", "verify", "--json"]))["ok"], true);
}

/// An administrator elsewhere: enrols once, then every command is theirs, also several at a time.
#[test]
fn a_login_serves_the_commands_that_follow() {
    let issuer = Issuer::start();
    issuer.done(&["admins", "create", "ana", "--access", "operator"]);
    let token = json(&issuer.done(&["join-tokens", "create", "--admin", "ana", "--json"]));
    let elsewhere = Scratch::new();
    let ana = |words: &[&str]| {
        let mut command = chancery();
        command.args(words).current_dir(elsewhere.path()).env("XDG_STATE_HOME", elsewhere.path().join("state"));
        command
    };
    let before = said(&mut ana(&["whoami"]));
    assert_eq!(before.code, 2, "{}", before.err);
    let login = said(ana(&["login"]).env("CHANCERY_JOIN", token["join"].as_str().unwrap()));
    assert_eq!(login.code, 0, "{}", login.err);
    assert!(said(&mut ana(&["whoami"])).out.starts_with("admin:ana\n"));

    let many: Vec<_> = (0..3)
        .map(|_| ana(&["agents", "list", "-o", "id"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in many {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let created = said(&mut ana(&["agents", "create", "bot", "--owner", "team"]));
    assert_eq!(created.code, 0, "{}", created.err);
    let above = said(&mut ana(&["admins", "create", "eve", "--access", "administrator"]));
    assert_eq!(above.code, 3, "an operator makes no administrators");
    assert!(above.err.contains("administrator"), "{}", above.err);
}

/// A program with an API token: it knows the issuer by the pin, or sends nothing.
#[test]
fn an_api_token_is_shown_to_the_pinned_issuer_alone() {
    let issuer = Issuer::start();
    let token = json(&issuer.done(&["api-tokens", "create", "--access", "viewer", "--json"]));
    let join = issuer.join("invoice-bot");
    let pin = join.rsplit_once('_').unwrap().1.to_owned();
    let elsewhere = Scratch::new();
    let file = elsewhere.path().join("token");
    std::fs::write(&file, token["token"].as_str().unwrap()).unwrap();
    let program = |words: &[&str], pin: &str| {
        let mut command = chancery();
        command.args(words).args(["--issuer", &issuer.url, "--token-file"]).arg(&file).current_dir(elsewhere.path());
        if !pin.is_empty() {
            command.env("CHANCERY_PIN", pin);
        }
        said(&mut command)
    };
    assert_eq!(program(&["agents", "list", "-o", "id"], &pin).out, "invoice-bot\n");
    assert_eq!(program(&["agents", "create", "b", "--owner", "t"], &pin).code, 3);
    assert_eq!(program(&["agents", "list"], "").code, 2, "no pin, no token sent");
    let other = program(&["agents", "list"], &"0".repeat(64));
    assert_ne!(other.code, 0);
    assert!(other.err.contains("the token was not sent"), "{}", other.err);
}

/// What was done is in the log, and the log holds without the issuer's help.
#[test]
fn the_log_says_what_was_done_and_verifies() {
    let issuer = Issuer::start();
    issuer.join("invoice-bot");
    issuer.done(&["suspend", "agent:invoice-bot", "--yes"]);
    let tail = issuer.done(&["log", "tail"]);
    assert!(tail.lines().any(|line| line.contains("revoke") && line.contains("agent:invoice-bot")), "{tail}");
    let positions: Vec<u64> = issuer.done(&["log", "tail", "-o", "id"]).lines().map(|id| id.parse().unwrap()).collect();
    assert!(positions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{positions:?}");
    let report = json(&issuer.done(&["log", "verify", "--json"]));
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["newest_revocation"], 1, "{report}");
    assert_eq!(issuer.done(&["db", "migrate"]), "nothing to do\n");
}

/// A configuration is judged before it is served, and shown with where each value came from, passwords left out.
#[test]
fn a_configuration_is_checked_and_shown() {
    let folder = Scratch::new();
    let path = folder.path().join("chancery.toml");
    let good = "trust_domain = \"example.org\"\ndata_dir = \"/var/lib/chancery\"\npublic_url = \"https://ca.internal:8443\"\n\
                status_url = \"http://status.internal\"\n[store]\nurl = \"postgres://u:s3cret@db/chancery\"\n\
                [keys]\nseal = \"file:/etc/chancery/seal.key\"\n[ttl]\nleaf = \"30m\"\n";
    std::fs::write(&path, good).unwrap();
    let run = |verb: &str| said(chancery().args(["config", verb]).arg(&path));
    assert_eq!(run("check").code, 0);
    let shown = run("show").out;
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("ttl.leaf").contains("30m") && line("ttl.leaf").ends_with("file"), "{shown}");
    assert!(line("ttl.authority").ends_with("default"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(line("issuer").ends_with("default"), "{shown}");

    // Flag, environment, file, default: the first that says something.
    let mut given = chancery();
    given.args(["config", "show", "--issuer", "https://flag:1"]).env("CHANCERY_ISSUER", "https://environment:1");
    given.env("CHANCERY_CONFIG", &path).env("CHANCERY_PIN", "0".repeat(64)).env("CHANCERY_OUTPUT", "wide");
    given.env("CHANCERY_TOKEN", "cht_secret").env("CHANCERY_AGENT", "invoice-bot");
    let shown = said(&mut given).out;
    let words = |key: &str| {
        let line = shown.lines().find(|line| line.split(' ').next() == Some(key)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words("issuer"), ["issuer", "https://flag:1", "flag"]);
    assert_eq!(words("output"), ["output", "wide", "environment"]);
    assert_eq!(words("agent"), ["agent", "invoice-bot", "environment"]);
    assert_eq!(words("pin").last().unwrap(), "environment");
    assert_eq!(words("config").last().unwrap(), "environment");
    assert_eq!(words("ttl.leaf"), ["ttl.leaf", "30m", "file"]);
    assert!(words("token").ends_with(&["environment".into()]) && !shown.contains("cht_secret"), "{shown}");

    std::fs::write(&path, good.replace("30m", "1m")).unwrap();
    let refused = run("check");
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("ttl.leaf"), "{}", refused.err);
    std::fs::write(&path, good.replace("[ttl]", "[tll]")).unwrap();
    assert!(run("check").err.contains("unknown key tll.leaf; the nearest is ttl.leaf"));
}
