//! All orders in which a few threads can pass the points that the code under test names.
//!
//! One thread runs at a time. At each point it stops, and which thread goes on is a choice; every sequence of choices is
//! run once.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex};

thread_local! {
    static TURN: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

struct Turns {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    Chooser,
    Thread(usize),
}

/// Lets another thread go first, in a test that asks for it; nothing otherwise.
pub(crate) fn point() {
    TURN.with_borrow(|turn| {
        if let Some((turns, me)) = turn {
            turns.pass(Now::Chooser);
            turns.wait(Now::Thread(*me));
        }
    });
}

impl Turns {
    fn pass(&self, to: Now) {
        *self.now.lock().unwrap() = to;
        self.changed.notify_all();
    }

    fn wait(&self, wanted: Now) {
        let mut now = self.now.lock().unwrap();
        while *now != wanted {
            now = self.changed.wait(now).unwrap();
        }
    }
}

/// Runs the threads in every order of their points, and `check` after each; says how many orders there are. `threads`
/// makes them anew for each run, over a world of their own.
pub(crate) fn every_order<W: Send + Sync + 'static>(
    world: impl Fn() -> W,
    threads: &[fn(&W)],
    check: impl Fn(&W, &[usize]),
) -> usize {
    let mut runs = 0;
    // What to choose first; the rest of a run takes the first thread that can go on.
    let mut prefix: Vec<usize> = Vec::new();
    loop {
        let (world, choices) = run(Arc::new(world()), threads, &prefix);
        let order: Vec<usize> = choices.iter().map(|(_, chosen)| *chosen).collect();
        check(&world, &order);
        runs += 1;
        // The last choice that had an alternative takes its next one.
        let next = choices.iter().enumerate().rev().find_map(|(at, (alternatives, chosen))| {
            let following = alternatives.iter().copied().find(|thread| thread > chosen)?;
            Some(order[..at].iter().copied().chain([following]).collect())
        });
        match next {
            Some(next) => prefix = next,
            None => return runs,
        }
    }
}

type Choices = Vec<(Vec<usize>, usize)>;

fn run<W: Send + Sync + 'static>(world: Arc<W>, threads: &[fn(&W)], prefix: &[usize]) -> (Arc<W>, Choices) {
    let turns = Arc::new(Turns { now: Mutex::new(Now::Chooser), changed: Condvar::new() });
    let done: Arc<Mutex<Vec<bool>>> = Arc::new(Mutex::new(vec![false; threads.len()]));
    let handles: Vec<_> = threads
        .iter()
        .copied()
        .enumerate()
        .map(|(me, thread)| {
            let (world, turns, done) = (Arc::clone(&world), Arc::clone(&turns), Arc::clone(&done));
            std::thread::spawn(move || {
                turns.wait(Now::Thread(me));
                TURN.set(Some((Arc::clone(&turns), me)));
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread(&world)));
                TURN.set(None);
                done.lock().unwrap()[me] = true;
                turns.pass(Now::Chooser);
                outcome.unwrap();
            })
        })
        .collect();
    let mut choices = Choices::new();
    loop {
        let alternatives: Vec<usize> =
            done.lock().unwrap().iter().enumerate().filter(|(_, done)| !**done).map(|(me, _)| me).collect();
        let Some(first) = alternatives.first() else { break };
        let chosen = prefix.get(choices.len()).copied().unwrap_or(*first);
        choices.push((alternatives, chosen));
        turns.pass(Now::Thread(chosen));
        turns.wait(Now::Chooser);
    }
    handles.into_iter().for_each(|handle| handle.join().unwrap());
    (world, choices)
}

#[test]
fn tries_every_order() {
    // Two threads that pass two points each: 20 ways to mix three steps with three.
    let orders = Mutex::new(std::collections::BTreeSet::new());
    let twice: fn(&()) = |()| {
        point();
        point();
    };
    let runs = every_order(
        || (),
        &[twice, twice],
        |(), order| {
            orders.lock().unwrap().insert(order.to_vec());
        },
    );
    assert_eq!((runs, orders.into_inner().unwrap().len()), (20, 20));
}
