//! Services that are not in Rust: decisions for proxies, and CRLs in files.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;

use crate::program::{Issuer, Running, Scratch, chancery, finish, run};

const RULES: &str = "system = \"crm\"
[[rule]]
method = \"GET\"
path = \"/customers/{id}\"
scope = \"tools/call:crm/get_customer\"
";

/// A join string for the service `crm`, which answers for the system of that name.
fn join_service(issuer: &Issuer) -> String {
    issuer.done(&["services", "create", "crm", "--owner", "team-crm", "--system", "crm"]);
    let token = issuer.done(&["join-tokens", "create", "--service", "crm", "--uses", "2", "--json"]);
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    token["join"].as_str().unwrap().to_owned()
}

/// The agent's leaf, as Caddy forwards it.
fn leaf(issuer: &Issuer, agent: &str) -> String {
    let (state, join) = (Scratch::new(), issuer.join(agent));
    let (code, pem, err) = finish(run(state.path(), "cat $CHANCERY_CERT").env("CHANCERY_JOIN", join));
    assert_eq!(code, Some(0), "{err}");
    let body = pem.split("-----").nth(2).unwrap();
    let leaf: String = body.split_whitespace().collect();
    assert!(BASE64_STANDARD.decode(&leaf).is_ok());
    leaf
}

/// One question over a connection of its own; the whole answer.
fn ask(address: &str, certificate: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "GET /forward-auth HTTP/1.1\r\nhost: authz\r\nconnection: close\r\nx-forwarded-method: GET\r\n\
                x-forwarded-uri: /customers/42\r\n";
    write!(stream, "{head}x-forwarded-tls-client-cert: {certificate}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_proxy_is_told_who_may_pass_until_that_ends() {
    let issuer = Issuer::start();
    let (join, state, folder) = (join_service(&issuer), Scratch::new(), Scratch::new());
    let (bot, other) = (leaf(&issuer, "invoice-bot"), leaf(&issuer, "other-bot"));
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, RULES).unwrap();
    let (tls, crl) = (folder.path().join("tls"), folder.path().join("crl"));

    let mut serve = chancery();
    serve.args(["authz", "serve", "--listen", "127.0.0.1:0", "--rules"]).arg(&rules).arg("--dir").arg(&tls);
    serve.env("CHANCERY_STATE_DIR", state.path().join("authz")).env("CHANCERY_JOIN", &join);
    let mut serving = Running::start(&mut serve);
    serving.say_until(|line| line == "chancery: rules 1, public 0, everything else refused");
    let address = serving.say_until(|line| line.starts_with("chancery: answers on "));
    let address = address.trim_start_matches("chancery: answers on ");

    let mut watch = chancery();
    watch.args(["revocations", "watch", "--reload", "echo reloaded >&2", "--out"]).arg(&crl);
    watch.env("CHANCERY_STATE_DIR", state.path().join("watch")).env("CHANCERY_JOIN", &join);
    let mut watching = Running::start(&mut watch);
    watching.say_until(|line| line == "reloaded");
    assert_eq!(crl_files(&crl).len(), 3, "one for each authority, and the bundle");
    let before = std::fs::read_to_string(crl.join("crl.pem")).unwrap();

    let answer = ask(address, &bot);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("/agent/invoice-bot/"), "{answer}");
    assert!(ask(address, "").starts_with("HTTP/1.1 401"));
    for name in ["key.pem", "cert.pem", "bundle.pem", "crl.pem"] {
        assert!(tls.join(name).exists(), "{name}");
    }

    issuer.done(&["suspend", "agent:invoice-bot", "--comment", "INC-1", "--yes", "--confirm", "1"]);
    watching.say_until(|line| line == "reloaded");
    assert_ne!(std::fs::read_to_string(crl.join("crl.pem")).unwrap(), before);
    let deadline = Instant::now() + Duration::from_secs(30);
    let answer = loop {
        let answer = ask(address, &bot);
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        assert!(Instant::now() < deadline, "it is let in for ever");
    };
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("certificate-revoked"), "{answer}");
    assert!(ask(address, &other).starts_with("HTTP/1.1 200"));

    for running in [serving, watching] {
        running.send(Signal::TERM);
        assert_eq!(running.ended().0, Some(0));
    }
}

#[test]
fn what_cannot_be_served_is_said_before_anything_is_joined() {
    let folder = Scratch::new();
    let rules = folder.path().join("rules.toml");
    let serve = |text: &str, listen: &str| {
        std::fs::write(&rules, text).unwrap();
        let mut command = chancery();
        command.args(["authz", "serve", "--listen", listen, "--rules"]).arg(&rules);
        let (code, _, err) = finish(command.env("CHANCERY_STATE_DIR", folder.path().join("state")));
        assert_eq!(code, Some(2), "{err}");
        err
    };
    let err = serve(&RULES.replace("path", "pth"), "127.0.0.1:0");
    assert!(err.contains("rules.toml: [[rule]] 1: there is no key \"pth\"; did you mean \"path\"?"), "{err}");
    let err = serve(RULES, "0.0.0.0:0");
    assert!(err.contains("--trust-network"), "{err}");
}

/// Written once, for a program that is started by something else; nothing is reloaded when nothing changed.
#[test]
fn crls_are_written_once_when_asked_so() {
    let issuer = Issuer::start();
    let (join, folder) = (join_service(&issuer), Scratch::new());
    let out = folder.path().join("crl");
    let once = || {
        let mut command = chancery();
        command.args(["revocations", "watch", "--once", "--reload", "echo reloaded; exit 7", "--out"]).arg(&out);
        finish(command.env("CHANCERY_STATE_DIR", folder.path().join("state")).env("CHANCERY_JOIN", &join))
    };
    let (code, out, err) = once();
    assert_eq!((code, &*out), (Some(1), "reloaded\n"), "{err}");
    let (code, out, err) = once();
    assert_eq!((code, &*out), (Some(0), ""), "{err}");
}

fn crl_files(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
