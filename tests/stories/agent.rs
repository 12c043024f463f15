//! An agent's life with the real issuer: first contact, run, resume, crash, change.

use std::path::Path;

use rustix::process::Signal;

use crate::program::{Issuer, Running, Scratch, chancery, finish, run, run_with};

/// A second issuer stands in for whoever sits between: it answers, and has another root.
#[test]
fn a_man_in_the_middle_gets_no_token_and_gives_no_certificate() {
    let (issuer, middle) = (Issuer::start(), Issuer::start());
    let (state, join) = (Scratch::new(), issuer.join("invoice-bot"));
    let redirected = join.replace(&issuer.url, &middle.url);
    assert_ne!(redirected, join);

    let mut command = run(state.path(), "echo the child ran");
    let (code, out, err) = finish(command.env("CHANCERY_JOIN", redirected));
    assert_eq!((code, out.as_str()), (Some(125), ""), "{err}");
    assert!(err.contains("is not the issuer your token names") && err.contains("the token was not sent"), "{err}");
    assert!(!state.path().join("identity.json").exists());
    assert!(middle.list(&["instances", "list"]).is_empty());

    // The token is unspent: the true issuer takes it.
    let (code, _, err) = finish(run(state.path(), "true").env("CHANCERY_JOIN", join));
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("chancery: issuer is the one your token names (root pin sha256:"), "{err}");
}

#[test]
fn a_child_finds_its_identity_and_never_the_token() {
    let issuer = Issuer::start();
    let (state, join) = (Scratch::new(), issuer.join("invoice-bot"));
    let script = r#"
        test -z "$CHANCERY_JOIN$CHANCERY_JOIN_FILE" || exit 90
        for file in "$CHANCERY_CERT" "$CHANCERY_KEY" "$CHANCERY_BUNDLE" "$CHANCERY_CRL"; do
            grep -q -- '-----BEGIN' "$file" || exit 91
        done
        echo "$CHANCERY_SPIFFE_ID""#;
    let (code, out, err) = finish(run(state.path(), script).env("CHANCERY_JOIN", join));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("spiffe://dev.invalid/agent/invoice-bot/"), "{out}");
    let line = format!("chancery: {}  1 scope, ", out.trim());
    assert!(err.lines().any(|said| said.starts_with(&line) && said.contains("left, renews about")), "{err}");
}

#[test]
fn it_resumes_from_disk_without_the_token() {
    let issuer = Issuer::start();
    let (state, join) = (Scratch::new(), issuer.join("invoice-bot"));
    let who = |join: Option<&str>| {
        let mut command = run(state.path(), "echo $CHANCERY_SPIFFE_ID");
        let (code, out, err) = finish(join.into_iter().fold(&mut command, |c, join| c.env("CHANCERY_JOIN", join)));
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let first = who(Some(&join));
    assert_eq!(who(None), first);
    assert_eq!(who(Some(&join)), first, "a spent token that is still in the environment is no reason to join again");
    assert_eq!(issuer.list(&["instances", "list"]).len(), 1);
}

/// A service and an agent of one user, each joined without a name: later starts name one.
#[test]
fn one_of_several_identities_is_found_by_name() {
    let issuer = Issuer::start();
    let state = Scratch::new();
    let start = |variable: Option<(&str, &str)>| {
        let mut command = chancery();
        command.args(["run", "--", "sh", "-c", "echo $CHANCERY_SPIFFE_ID"]).env("XDG_STATE_HOME", state.path());
        finish(variable.into_iter().fold(&mut command, |command, (name, value)| command.env(name, value)))
    };
    let [first, second] = ["invoice-bot", "report-bot"].map(|name| {
        let (code, out, err) = start(Some(("CHANCERY_JOIN", &issuer.join(name))));
        assert_eq!(code, Some(0), "{err}");
        out
    });
    let (code, _, err) = start(None);
    assert_eq!(code, Some(125));
    assert!(err.contains("name one with CHANCERY_AGENT"), "{err}");
    assert_eq!(start(Some(("CHANCERY_AGENT", "invoice-bot"))).1, first);
    assert_eq!(start(Some(("CHANCERY_AGENT", "report-bot"))).1, second);
    assert_eq!(start(Some(("CHANCERY_AGENT", "nobody"))).0, Some(125));
}

/// The key is on disk before the token is shown, so whenever the process dies, the one use of the token is not lost.
#[test]
fn a_crash_while_joining_is_no_fork_and_loses_no_token() {
    let issuer = Issuer::start();
    for round in 0..5 {
        let (state, join) = (Scratch::new(), issuer.join(&format!("bot-{round}")));
        let mut running = Running::start(run(state.path(), "true").env("CHANCERY_JOIN", &join));
        running.say_until(|line| line.contains("issuer is the one your token names"));
        running.send(Signal::KILL);
        drop(running);

        let (code, _, err) = finish(run(state.path(), "true").env("CHANCERY_JOIN", &join));
        assert_eq!(code, Some(0), "{err}");
        assert!(!state.path().join("next-key.json").exists());
    }
    assert_eq!(issuer.list(&["instances", "list"]).len(), 5);
    assert_eq!(issuer.list(&["revocations", "list"]).len(), 0, "no lineage was suspended");
}

#[test]
fn the_childs_end_is_its_own() {
    let issuer = Issuer::start();
    let (state, join) = (Scratch::new(), issuer.join("invoice-bot"));
    let code = |script: &str| finish(run(state.path(), script).env("CHANCERY_JOIN", &join)).0;
    assert_eq!(code("exit 0"), Some(0));
    assert_eq!(code("exit 3"), Some(3));
    assert_eq!(code("kill -KILL $$"), Some(137));
    let mut missing = chancery();
    missing.args(["run", "--", "/no/such/program"]).env("CHANCERY_STATE_DIR", state.path());
    assert_eq!(finish(&mut missing).0, Some(127));
    let nowhere = Scratch::new();
    assert_eq!(finish(&mut run(nowhere.path(), "exit 0")).0, Some(125), "there is no identity to run with");
}

#[test]
fn signals_reach_the_child() {
    let issuer = Issuer::start();
    let (state, join) = (Scratch::new(), issuer.join("invoice-bot"));
    let code = |script: &str, signal| {
        let mut running = Running::start(run(state.path(), script).env("CHANCERY_JOIN", &join));
        running.say_until(|line| line == "the child runs");
        running.send(signal);
        running.ended().0
    };
    let waits = "echo the child runs >&2; wait";
    assert_eq!(code("echo the child runs >&2; exec sleep 1000", Signal::TERM), Some(143));
    assert_eq!(code(&format!("trap 'kill $!; exit 42' USR1; sleep 1000 & {waits}"), Signal::USR1), Some(42));
    assert_eq!(code(&format!("trap 'kill $!; exit 43' INT; sleep 1000 & {waits}"), Signal::INT), Some(43));
}

/// What an operator adds is in the child's certificate at once, and the child is told.
#[test]
fn a_changed_record_reaches_the_child_without_a_restart() {
    let issuer = Issuer::start();
    let (state, join) = (Scratch::new(), issuer.join("invoice-bot"));
    let script = r#"
        before=$(cksum < "$CHANCERY_CERT")
        trap 'test "$before" = "$(cksum < "$CHANCERY_CERT")" || { kill $!; exit 42; }' HUP
        sleep 1000 & echo the child runs >&2; while kill -0 $!; do wait $!; done"#;
    let mut command = run_with(state.path(), &["--on-change", "HUP"], script);
    let mut running = Running::start(command.env("CHANCERY_JOIN", &join));
    running.say_until(|line| line == "the child runs");
    issuer.done(&["agents", "update", "invoice-bot", "--add-scope", "tools/call:crm/refund"]);
    running.say_until(|line| line.starts_with("chancery: renewed: 2 scopes, "));
    assert_eq!(running.ended().0, Some(42));
}

#[test]
fn a_sidecar_keeps_files_and_runs_a_command_when_they_change() {
    let issuer = Issuer::start();
    let (state, files, join) = (Scratch::new(), Scratch::new(), issuer.join("invoice-bot"));
    let mut command = chancery();
    command.args(["sidecar", "--dir"]).arg(files.path()).args(["--on-change", "echo files were replaced >&2"]);
    command.env("CHANCERY_STATE_DIR", state.path()).env("CHANCERY_JOIN", join);
    let mut running = Running::start(&mut command);
    running.say_until(|line| line == "files were replaced");
    let before = read(files.path(), "cert.pem");
    issuer.done(&["agents", "update", "invoice-bot", "--add-scope", "tools/call:crm/refund"]);
    running.say_until(|line| line.starts_with("chancery: renewed: 2 scopes, "));
    running.say_until(|line| line == "files were replaced");
    assert_ne!(read(files.path(), "cert.pem"), before);
    running.send(Signal::TERM);
    assert_eq!(running.ended().0, Some(0));
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}
