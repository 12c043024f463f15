use chancery_ca::{Authority, Linted};

async fn twice(authority: &Authority, linted: Linted) {
    let _ = authority.sign(linted).await;
    let _ = authority.sign(linted).await;
}

fn main() {}
