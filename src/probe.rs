//! What a supplier's list shows and does, found out by reading it, and by one order where money is named.
//!
//! Nothing is guessed. What an account cannot show (an empty list has no order) is said to be not found out,
//! with what would show it. What was found is proposed as settings.
//!
//! Reading asks for about a dozen pages. The one order goes through a router with a store, like any other:
//! it is recorded first, is sent once, and a lost answer leads to looking, not to a second order.

use std::fmt;

use serde::Serialize;

mod buy;
mod look;
mod page;
mod proposal;
#[cfg(test)]
mod tests;

pub use buy::{Bought, Watched, after_buying};
pub use look::look;

/// The key under which a probe's order carries its tag, unless another is set.
pub const TAG_KEY: &str = "order_ref";

/// One thing that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What.
    pub name: &'static str,
    /// What was found, in words; `None`: it could not be found out.
    pub found: Option<String>,
    /// Why it could not be found out, or what to know about it; else empty.
    pub note: String,
    /// The settings that follow from it.
    pub settings: Vec<Proposed>,
}

impl Fact {
    fn found(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, found: Some(what.into()), note: String::new(), settings: Vec::new() }
    }

    fn unknown(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, found: None, note: why.into(), settings: Vec::new() }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn set(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.settings.push(Proposed { name, value: value.into() });
        self
    }
}

/// A setting that follows from a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// Its name in the file.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Text.
    Text(String),
    /// A switch.
    Switch(bool),
    /// A number.
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Switch(yes)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// As TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Escapes of JSON are escapes of TOML.
            Self::Text(text) => write!(f, "{}", serde_json::Value::String(text.clone())),
            Self::Switch(yes) => write!(f, "{yes}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Everything that a probe found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The supplier's base URL.
    pub supplier: String,
    /// What was looked for, in the order in which it is told.
    pub facts: Vec<Fact>,
}

impl Report {
    /// The fact of this name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.name == name)
    }

    /// Whether something that the router must know could not be found out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        const NEEDED: [&str; 5] = ["envelope", "fields", "order", "paging", "timestamps"];
        NEEDED.iter().any(|name| self.fact(name).is_none_or(|fact| fact.found.is_none()))
    }

    /// Puts a fact in, in the place of what was known before.
    pub(crate) fn put(&mut self, fact: Fact) {
        match self.facts.iter_mut().find(|known| known.name == fact.name) {
            Some(known) => *known = fact,
            None => self.facts.push(fact),
        }
    }
}
