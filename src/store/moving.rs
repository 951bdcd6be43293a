//! Orders that move from one store to another: what is carried, how a store is read through, and the
//! mark that keeps routers out meanwhile and afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Stored;
use crate::protocol::{Serial, Shape};

/// An intent as another store kept it: everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The intent.
    pub stored: Stored,
    /// Its shape, which outlives its items.
    pub shape: Shape,
    /// The highest serial that had been handed out when it ended; zero while it has not.
    pub ended_at: Serial,
}

/// What a migration or a restore has made of a store. A router does not start on a store with a mark.
///
/// Places are URLs without user and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Its orders are being moved to another store. Nothing of it has changed since that began.
    MovingTo(String),
    /// Its orders are in another store, which goes on with them. This one is as it was then.
    MovedTo(String),
    /// It is being filled with the orders of another store, and does not have all of them yet.
    FilledFrom(String),
    /// It was restored from this backup: what was bought since, it does not know.
    Restored(String),
}

impl Mark {
    /// Its name and its place, as stores keep it.
    pub(crate) fn parts(&self) -> (u8, &str) {
        match self {
            Self::MovingTo(place) => (1, place),
            Self::MovedTo(place) => (2, place),
            Self::FilledFrom(place) => (3, place),
            Self::Restored(place) => (4, place),
        }
    }

    /// What [`parts`](Self::parts) said.
    pub(crate) fn of_parts(kind: u8, place: &str) -> Option<Self> {
        let place = place.to_owned();
        match kind {
            1 => Some(Self::MovingTo(place)),
            2 => Some(Self::MovedTo(place)),
            3 => Some(Self::FilledFrom(place)),
            4 => Some(Self::Restored(place)),
            _ => None,
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MovingTo(place) => write!(f, "its orders are being moved to {place}"),
            Self::MovedTo(place) => write!(f, "its orders were moved to {place}"),
            Self::FilledFrom(place) => {
                write!(f, "it is being filled with the orders of {place} and lacks some")
            }
            Self::Restored(place) => {
                write!(f, "it was restored from {place} and does not know what was bought since")
            }
        }
    }
}

/// Whether two stores keep the same of an intent. The items of one that has ended may have been dropped, here or there.
pub(crate) fn is_same(a: &Stored, b: &Stored) -> bool {
    let ended = a.state.is_end() && !a.unsettled;
    if ended && (a.items.is_empty() || b.items.is_empty()) {
        let bare = |stored: &Stored| Stored { items: [].into(), ..stored.clone() };
        return bare(a) == bare(b);
    }
    a == b
}

/// Where reading a store through goes on. The default is its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bookmark(Vec<u8>);

impl Bookmark {
    /// A part of the store, and where in it.
    pub(crate) fn new(part: u8, at: &[u8]) -> Self {
        Self([&[part], at].concat())
    }

    /// What [`new`](Self::new) was given; the beginning is part 0.
    pub(crate) fn parts(&self) -> (u8, &[u8]) {
        self.0.split_first().map_or((0, &[]), |(part, at)| (*part, at))
    }

    /// The same, where the place is text.
    #[cfg_attr(
        not(any(feature = "dynamodb", feature = "postgres", feature = "redb", feature = "redis")),
        allow(dead_code, reason = "stores whose places are names")
    )]
    pub(crate) fn text(&self) -> (u8, String) {
        let (part, at) = self.parts();
        (part, String::from_utf8_lossy(at).into_owned())
    }
}

/// Some intents of a store that is read through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The intents.
    pub intents: Vec<Adopted>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Bookmark>,
}
