//! No message is lost when a lane goes to sleep, and two actors of a lane never live at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Quiet};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread::{self, JoinHandle};

use super::explore;

#[path = "../../src/actors/registry/passivation.rs"]
mod real;

use real::{LockedEntry, Slot, deliver, handled, remove_idle};

type Entry<'a> = MutexGuard<'a, Option<Slot<Arc<Mailbox>>>>;

impl LockedEntry<Arc<Mailbox>> for Entry<'_> {
    fn slot(&mut self) -> Option<&mut Slot<Arc<Mailbox>>> {
        self.as_mut()
    }

    fn fill(mut self, slot: Slot<Arc<Mailbox>>) {
        assert!(self.replace(slot).is_none(), "an actor over another");
    }

    fn remove(mut self) {
        self.take();
    }
}

/// An actor's mailbox: without a bound, and never closed by its actor.
#[derive(Default)]
struct Mailbox {
    messages: Mutex<VecDeque<u32>>,
    wake: Condvar,
}

impl Mailbox {
    fn put(&self, message: u32) {
        self.messages.lock().expect("whole").push_back(message);
        self.wake.notify_one();
    }

    fn next(&self) -> u32 {
        let mut messages = self.messages.lock().expect("whole");
        loop {
            match messages.pop_front() {
                Some(message) => return message,
                None => messages = self.wake.wait(messages).expect("whole"),
            }
        }
    }
}

/// When a lane is idle again.
#[derive(Clone, Copy, PartialEq)]
enum Idle {
    /// As soon as it has handled a message.
    AtOnce,
    /// Later, by itself: a write of its own came back.
    Later,
}

/// One lane of the registry.
struct World {
    entry: Mutex<Option<Slot<Arc<Mailbox>>>>,
    handled: AtomicUsize,
    /// What only the lane's one actor may touch: loom fails on two that do.
    lane: UnsafeCell<()>,
    actors: Quiet<Vec<JoinHandle<()>>>,
    idle: Idle,
    /// Removes an idle lane whatever is counted: the mistake.
    regardless: bool,
}

impl World {
    #[allow(clippy::arc_with_non_send_sync, reason = "its cell is one that loom watches")]
    fn new(idle: Idle, regardless: bool) -> Arc<Self> {
        Arc::new(Self {
            entry: Mutex::new(None),
            handled: AtomicUsize::new(0),
            lane: UnsafeCell::new(()),
            actors: Quiet::new(Vec::new()),
            idle,
            regardless,
        })
    }

    fn locked(&self) -> Entry<'_> {
        self.entry.lock().expect("whole")
    }

    fn start(self: &Arc<Self>) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        let (world, own) = (self.clone(), mailbox.clone());
        let actor = thread::spawn(move || world.act(&own));
        self.actors.lock().expect("whole").push(actor);
        mailbox
    }

    fn deliver(self: &Arc<Self>, message: u32) {
        deliver(self.locked(), || self.start(), |mailbox| mailbox.put(message));
    }

    /// The mistake: the message is sent after the entry was let go, and counted by nobody.
    fn deliver_uncounted(self: &Arc<Self>, message: u32) {
        let living = self.locked().slot().map(|slot| slot.actor.clone());
        match living {
            Some(mailbox) => {
                mailbox.put(message);
                // So that what the actor takes off again was there.
                if let Some(slot) = self.locked().slot() {
                    slot.pending += 1;
                }
            }
            None => self.deliver(message),
        }
    }

    fn act(&self, mailbox: &Mailbox) {
        loop {
            mailbox.next();
            self.lane.with_mut(|_| ());
            self.handled.fetch_add(1, Ordering::SeqCst);
            if self.goes() {
                return;
            }
        }
    }

    fn goes(&self) -> bool {
        if self.regardless {
            self.locked().take();
            return true;
        }
        match self.idle {
            Idle::AtOnce => handled(self.locked(), true),
            Idle::Later => {
                assert!(!handled(self.locked(), false), "a lane that is busy has gone");
                self.lane.with_mut(|_| ());
                remove_idle(self.locked())
            }
        }
    }

    /// Everything was sent: everything must be handled, and no actor may be left.
    fn rest(&self, messages: usize) {
        loop {
            let Some(actor) = self.actors.lock().expect("whole").pop() else { break };
            actor.join().expect("an actor ends");
        }
        assert_eq!(self.handled.load(Ordering::SeqCst), messages, "a message was lost");
        assert!(self.locked().is_none(), "an idle lane lives on");
    }
}

fn two_senders(idle: Idle, regardless: bool, deliver: fn(&Arc<World>, u32)) -> impl Fn() {
    move || {
        let world = World::new(idle, regardless);
        let sender = {
            let world = world.clone();
            thread::spawn(move || deliver(&world, 1))
        };
        deliver(&world, 2);
        sender.join().expect("sends");
        world.rest(2);
    }
}

#[test]
fn no_message_is_lost_when_a_lane_goes_as_soon_as_it_is_idle() {
    let model = two_senders(Idle::AtOnce, false, World::deliver);
    explore("passivation, at once", Some(3), model);
}

#[test]
fn no_message_is_lost_when_a_lane_goes_later() {
    let model = two_senders(Idle::Later, false, World::deliver);
    explore("passivation, later", Some(3), model);
}

#[test]
fn a_burst_of_one_sender_and_a_message_of_another_all_arrive() {
    explore("passivation, a burst", Some(2), || {
        let world = World::new(Idle::AtOnce, false);
        let sender = {
            let world = world.clone();
            thread::spawn(move || world.deliver(1))
        };
        world.deliver(2);
        world.deliver(3);
        sender.join().expect("sends");
        world.rest(3);
    });
}

#[test]
#[should_panic(expected = "a message was lost")]
fn a_message_that_is_sent_before_it_is_counted_is_lost() {
    let model = two_senders(Idle::AtOnce, false, World::deliver_uncounted);
    explore("passivation, uncounted", Some(3), model);
}

#[test]
#[should_panic(expected = "a message was lost")]
fn a_lane_that_goes_although_messages_are_counted_loses_them() {
    explore("passivation, regardless", Some(3), two_senders(Idle::AtOnce, true, World::deliver));
}
