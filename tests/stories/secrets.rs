//! What is secret is shown once to whom it is for, and nowhere else: not in logs, however talkative, nor on disk.

use std::path::Path;

use serde_json::Value;

use crate::program::{Issuer, chancery, finish, run};

#[test]
fn no_secret_is_logged_at_any_level_nor_rests_in_clear() {
    let issuer = Issuer::start_talkative();
    let join = issuer.join("invoice-bot");
    let token = issuer.done(&["api-tokens", "create", "--access", "viewer", "--json"]);
    let token = serde_json::from_str::<Value>(&token).unwrap()["token"].as_str().unwrap().to_owned();
    // Both are used, over the network.
    let state = issuer.path().join("state");
    let mut agent = run(&state, "cat \"$CHANCERY_KEY\"");
    let (code, key, said_by_agent) = finish(agent.env("CHANCERY_JOIN", &join).env("RUST_LOG", "trace"));
    assert_eq!(code, Some(0), "{said_by_agent}");
    let mut list = chancery();
    list.args(["agents", "list", "--issuer", &issuer.url]).env("RUST_LOG", "trace").env("CHANCERY_TOKEN", &token);
    list.env("CHANCERY_PIN", pin_of(&join)).current_dir(&state);
    let (code, listed, said_by_list) = finish(&mut list);
    assert!(code == Some(0) && listed.contains("invoice-bot"), "{said_by_list}");

    let (said, folder) = issuer.stop();
    assert!(said.lines().count() > 500 && said.contains("TRACE"), "{} lines", said.lines().count());
    let data = folder.path().join("chancery-dev");
    let seal = std::fs::read(data.join("seal.key")).unwrap();
    let hex: String = seal.iter().map(|byte| format!("{byte:02x}")).collect();
    // A PEM's second line is of the key itself.
    let secrets = [secret_of(&join), token.strip_prefix("cht_").unwrap(), key.lines().nth(1).unwrap(), &hex];
    for secret in secrets {
        assert!(secret.len() >= 32, "{secret}");
        for (who, said) in [("the issuer", &said), ("the agent", &said_by_agent), ("the command", &said_by_list)] {
            assert!(!said.contains(secret), "{who} said {secret}");
        }
        for (file, contents) in files(&data) {
            let found = contents.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} rests in {file}");
        }
    }
    for (file, contents) in files(&data) {
        let found = file != "seal.key" && contents.windows(seal.len()).any(|window| window == seal);
        assert!(!found, "the seal rests in {file}");
    }
}

/// `https://…#chj_SECRET_PIN`.
fn secret_of(join: &str) -> &str {
    let (_, secret) = join.split_once("#chj_").unwrap();
    secret.split('_').next().unwrap()
}

fn pin_of(join: &str) -> String {
    let join: chancery_api::JoinString = join.parse().unwrap();
    join.pin().to_string()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().unwrap().is_file());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}
