//! Where there is no administrator, the token in the issuer's file makes one: once, in its time, and nobody else's does.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use chancery_api::{Admin, JoinSecret, JoinString, JoinTokenCreated, List};
use serde_json::{Value, json};

use crate::fixture::{Issuer, Key, problem};
use crate::program::{self, Scratch, chancery, text};

const PATH: &str = "/v1/first-administrator";

fn file(issuer: &Issuer) -> PathBuf {
    issuer.server.issuer().first_token().unwrap().path().to_path_buf()
}

fn token(issuer: &Issuer) -> JoinString {
    std::fs::read_to_string(file(issuer)).unwrap().parse().unwrap()
}

async fn refused(issuer: &Issuer, secret: &JoinSecret, name: &str) -> String {
    let request = json!({"token": secret, "name": name});
    problem(issuer.client(None).post::<Value>(PATH, &request).await.err().unwrap()).code
}

#[tokio::test]
async fn the_token_of_the_file_makes_one_administrator() {
    let issuer = Issuer::start().await;
    assert_eq!(std::fs::metadata(file(&issuer)).unwrap().permissions().mode() & 0o777, 0o600);
    let first = token(&issuer);
    assert_eq!(refused(&issuer, &JoinSecret::from_bytes([7; 32]), "ana").await, "unknown-token");
    assert_eq!(refused(&issuer, first.secret(), "Not A Name").await, "bad-request");
    // It is no join token, no API token and no evidence.
    assert_eq!(issuer.attest(&first.secret().to_string(), Key::draw()).await.err().unwrap().code, "unknown-token");

    let request = json!({"token": first.secret(), "name": "ana"});
    let created: JoinTokenCreated = issuer.client(None).post(PATH, &request).await.unwrap().body;
    let admins: List<Admin> = issuer.admin.get("/v1/admin/admins").await.unwrap().body;
    assert_eq!((admins.data.len(), admins.data[0].name.as_str(), admins.data[0].access.len()), (1, "ana", 6));
    assert!(!file(&issuer).exists());
    assert_eq!(refused(&issuer, first.secret(), "eve").await, "token-used");
    let held = issuer.attest(&created.token.to_string(), Key::draw()).await.unwrap();
    let new = json!({"name": "ben", "access": ["viewer"]});
    issuer.client(Some(&held)).post::<Value>("/v1/admin/admins", &new).await.unwrap();
}

#[tokio::test]
async fn two_at_once_make_one_administrator() {
    let issuer = Issuer::start().await;
    let first = token(&issuer);
    let client = issuer.client(None);
    let by = |name: &str| {
        let request = json!({"token": first.secret(), "name": name});
        let client = &client;
        async move { client.post::<Value>(PATH, &request).await.is_ok() }
    };
    let (ana, eve) = tokio::join!(by("ana"), by("eve"));
    assert!(ana ^ eve);
}

#[tokio::test]
async fn the_token_is_void_after_an_hour() {
    let issuer = Issuer::start().await;
    let (first, file) = (token(&issuer), file(&issuer));
    issuer.forward(3601).await;
    assert_eq!(refused(&issuer, first.secret(), "ana").await, "token-expired");
    while file.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_token_is_void_once_there_is_an_administrator() {
    let issuer = Issuer::start().await;
    let (first, file) = (token(&issuer), file(&issuer));
    issuer.admin.post::<Value>("/v1/admin/admins", &json!({"name": "ben", "access": ["viewer"]})).await.unwrap();
    assert_eq!(refused(&issuer, first.secret(), "ana").await, "token-used");
    while file.exists() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_command_creates_it_and_logs_it_in() {
    let issuer = program::Issuer::start();
    let elsewhere = Scratch::new();
    let ana = |words: &[&str]| {
        let mut command = chancery();
        command.args(words).current_dir(elsewhere.path()).env("XDG_STATE_HOME", elsewhere.path().join("state"));
        command.output().unwrap()
    };
    let file = issuer.path().join("chancery-dev/first-administrator.token");
    let file = file.to_str().unwrap();
    let secret = std::fs::read_to_string(file).unwrap();
    let made = ana(&["admins", "create", "ana", "--first-token-file", file]);
    let (out, err) = (text(&made.stdout), text(&made.stderr));
    assert!(made.status.success() && out.contains("/admin/ana"), "{out}{err}");
    assert!(!out.contains("chj_") && !err.contains("chj_"), "{out}{err}");
    let who = text(&ana(&["whoami"]).stdout);
    assert!(who.starts_with("admin:ana\n") && who.contains("administrator"), "{who}");

    let copy = elsewhere.path().join("copy");
    std::fs::write(&copy, secret).unwrap();
    let again = ana(&["admins", "create", "eve", "--first-token-file", copy.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(3));
    assert!(text(&again.stderr).contains("token-used"), "{}", text(&again.stderr));
}
