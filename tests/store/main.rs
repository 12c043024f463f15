//! The store's conformance suite: one set of tests, on SQLite always, on PostgreSQL where `CHANCERY_TEST_POSTGRES` is
//! the URL of a database in which it may make schemas.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test that meets the unexpected shall panic"
)]

/// Each test, once a database.
macro_rules! conformance {
    ($(async fn $name:ident($world:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn test(mut $world: World) {
                let _ = &mut $world;
                $body
            }

            #[tokio::test]
            async fn sqlite() {
                test(World::new(Kind::Sqlite).await.unwrap()).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(world) = World::new(Kind::Postgres).await {
                    test(world).await;
                }
            }
        }
    )+};
}

mod agreement;
mod crash;
mod issuing;
mod kept;
mod killed;
mod log;
mod model;
mod opening;
mod published;
mod records;
mod sequence;
mod world;
