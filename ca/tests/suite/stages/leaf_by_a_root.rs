use chancery_ca::{Linted, RootAuthority};

async fn leaf(root: &RootAuthority, linted: Linted) {
    let _ = root.sign(linted).await;
}

fn main() {}
