use chancery_ca::{Authority, Planned};

async fn skip(authority: &Authority, planned: Planned) {
    let _ = authority.sign(planned).await;
}

fn main() {}
