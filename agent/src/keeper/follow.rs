//! Following the feed: connections, what is handed on, kept and acknowledged.

use std::pin::pin;
use std::sync::Arc;

use chancery_api::client::with_query;
use chancery_verifier::feed::{Feed, FeedRefused};
use chancery_verifier::{Known, Material};
use tokio::time::{sleep, timeout};

use super::{ANSWER_MAX, Keeper};
use crate::feed::{ACKNOWLEDGED_EACH, FeedLost, SILENCE_MAX};
use crate::obtain::on_disk;
use crate::schedule::feed_retry_in;
use crate::{Error, Event};

impl Keeper {
    /// Follows the feed as long as somebody wants it.
    pub(super) async fn follow_feed(&self) {
        loop {
            self.verifiers.wanted().await;
            tokio::select! {
                () = self.verifiers.unwanted() => {}
                () = self.learn() => {}
                () = self.acknowledge() => {}
            }
            self.verifiers.lost(None);
        }
    }

    /// One connection to the feed after the other.
    async fn learn(&self) {
        let mut feed = self.feed.lock().await;
        let (mut failures, mut said) = (0, None);
        loop {
            let outcome = self.hear_feed(&mut feed, &mut said).await;
            let Err(lost) = outcome else {
                // The certificate is another: at once, with what is known.
                continue;
            };
            failures = if said == Some(true) { 1 } else { failures + 1 };
            self.verifiers.lost(Some(&lost));
            if let (FeedLost::Refused(FeedRefused::Old { .. }), Some(head)) = (&lost, feed.head()) {
                self.verifiers.show(head.to_owned());
            }
            if said != Some(false) {
                self.tell(&Event::FeedLost { reason: lost.to_string() });
            }
            said = Some(false);
            sleep(feed_retry_in(failures, self.random())).await;
        }
    }

    /// Hears the feed over one connection, until this identity has another certificate. `said` is what was told last:
    /// that it is heard, or that it is not.
    async fn hear_feed(&self, feed: &mut Feed, said: &mut Option<bool>) -> Result<(), FeedLost> {
        let mut held = self.held.subscribe();
        feed.trust(&held.borrow_and_update().roots);
        feed.connected();
        let path = match feed.after() {
            Some((epoch, n)) => {
                let (epoch, n) = (epoch.to_string(), n.to_string());
                with_query("/v1/feed", [("after", n.as_str()), ("epoch", epoch.as_str())])
            }
            None => "/v1/feed".to_owned(),
        };
        // On a connection of its own, made with the certificate of now.
        let client = self.issuer().map_err(|error| FeedLost::Here(error.explain()))?.with_timeout(ANSWER_MAX);
        let mut stream = client.stream(&path).await?;
        let mut saved_at = self.clock.now();
        // Goes on from chunk to chunk: a heartbeat is no answer to it.
        let mut behind = pin!(self.verifiers.behind(|| self.known_number()));
        loop {
            let chunk = tokio::select! {
                chunk = timeout(SILENCE_MAX, stream.chunk()) => chunk.map_err(|_| FeedLost::Silent)??,
                changed = held.changed() => return changed.map_err(|_| FeedLost::Ended),
                () = behind.as_mut() => return Err(FeedLost::Behind),
            };
            let bytes = chunk.ok_or(FeedLost::Ended)?;
            let now = self.clock.now();
            let Some(known) = feed.push(&bytes, now)?.pop() else { continue };
            let here = |error: Error| FeedLost::Here(error.explain());
            let news = self.known_number() != Some((known.epoch(), known.n()));
            if news {
                self.verifiers.pace(feed.acknowledge_in(self.random()));
            }
            self.publish_known(&known).await.map_err(here)?;
            self.verifiers.connected();
            if news && self.crls_are_read() {
                self.news.notify_one();
            }
            if *said != Some(true) {
                let (lag, freshness) = (known.seen().wall.since(known.head_at()), self.material.borrow().freshness);
                self.tell(&Event::FeedHeard { n: known.n(), lag, freshness });
                *said = Some(true);
                self.forget_crls().await.map_err(here)?;
            }
            if feed.has_unsaved_entries() || now.since(saved_at) >= ACKNOWLEDGED_EACH {
                saved_at = now;
                self.save_feed(feed).await.map_err(|error| FeedLost::Unsaved(error.explain()))?;
            }
            self.verifiers.saved((known.epoch(), known.n()));
            if let Some(tidying) = feed.tidying() {
                let tidied = tokio::task::spawn_blocking(|| tidying.run()).await;
                let tidied = tidied.map_err(|_| here(Error::Ended))?;
                if let Some(known) = feed.tidied(tidied) {
                    self.publish_known(&known).await.map_err(here)?;
                }
            }
        }
    }

    async fn save_feed(&self, feed: &mut Feed) -> Result<(), Error> {
        let Some(unsaved) = feed.unsaved() else { return Ok(()) };
        let saved = on_disk(&self.folder, move |folder| folder.save_feed(&unsaved)).await;
        if saved.is_err() {
            // Nobody knows how much of it is there.
            feed.not_saved();
        }
        saved
    }

    async fn publish_known(&self, known: &Arc<Known>) -> Result<(), Error> {
        self.publish(|before| Material {
            feed: Some(Arc::clone(known)),
            roots: known.roots().unwrap_or(&before.roots).clone(),
            ..before.clone()
        })
        .await
    }

    pub(super) fn known_number(&self) -> Option<(u64, u64)> {
        self.material.borrow().feed.as_ref().map(|known| (known.epoch(), known.n()))
    }

    /// Holds no CRL in memory that the feed makes superfluous; they are on disk.
    async fn forget_crls(&self) -> Result<(), Error> {
        if self.asks_each().is_some() {
            return Ok(());
        }
        let mut poll = self.poll.lock().await;
        poll.forget();
        self.publish(|before| Material { crls: Arc::clone(poll.crls()), answered: None, ..before.clone() }).await
    }

    /// Tells the issuer what all verifiers have applied: at once when it is news, and every now and then.
    async fn acknowledge(&self) {
        let (mut told, mut failures) = (None, 0);
        loop {
            let reported = timeout(ACKNOWLEDGED_EACH, self.verifiers.reported());
            // Without a report it is time all the same.
            let _ = reported.await;
            if let Some(pace) = self.verifiers.paced() {
                sleep(pace).await;
            }
            let Some(acknowledgement) = self.verifiers.acknowledgement() else { continue };
            let (number, now) = (acknowledgement.number(), self.clock.now());
            let is_known = |(last, at)| last == number && now.since(at) < ACKNOWLEDGED_EACH;
            if told.is_some_and(is_known) && !acknowledgement.has_news() {
                continue;
            }
            match self.client.tell("/v1/feed/acks", &acknowledgement.ack).await {
                Ok(()) => (told, failures) = (Some((number, now)), 0),
                Err(error) => {
                    self.verifiers.not_heard(acknowledgement, &error);
                    (told, failures) = (None, failures + 1);
                    sleep(feed_retry_in(failures, self.random())).await;
                }
            }
        }
    }
}
