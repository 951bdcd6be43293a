//! Settings of the command: one table, from which the reader of the file, the flags, `--help`,
//! `config show` and `config reference` all come.
//!
//! A setting has one name in three spellings: `landing_bound` in the file, the variable
//! `ORDER_ROUTER_LANDING_BOUND`, the flag `--landing-bound`. A flag goes before the environment, the
//! environment before the file, the file before the default. A program that embeds the router needs
//! none of this: it sets [`Config`](crate::Config) and
//! [`foxreload::Settings`](crate::supplier::foxreload::Settings).

mod draft;
mod file;
mod layers;
mod reference;
mod table;
#[cfg(test)]
mod tests;
mod traps;
mod values;

use std::fmt;

pub use draft::{Draft, StorePlace};
pub use file::{Entry, FILE_BYTES_MAX, parse, read};
pub use layers::{Given, Loaded, Origin, load, load_place, load_stop_file};
pub use reference::reference;
pub use table::{TABLE, place};
pub use traps::traps;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `300ms`, `1.5s`, `15m`, `1h`.
    Duration,
    /// A duration, or `never`.
    Bound,
    /// A whole number.
    Count,
    /// A number of bytes: `65536`, `64KiB`, `16MiB`.
    Bytes,
    /// A number a minute: `60`, `60/min`.
    Rate,
    /// An amount of money: `250`, `99.90`.
    Amount,
    /// Any text.
    Text,
    /// A path of this machine.
    File,
    /// A URL.
    Url,
    /// `true` or `false`; the flag alone is `true`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Several texts; a variable holds them with this between them.
    List(char),
}

/// Where a setting may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// In the file, in the environment, as a flag.
    All,
    /// As a flag alone: an answer to one start. Kept in a file it would answer every start.
    Flag,
    /// In the environment alone: it is a secret.
    Environment,
}

/// What holds where nothing is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// This value, as one would write it.
    Is(&'static str),
    /// None, or one that depends on others: said in words.
    Says(&'static str),
}

/// One setting: a row of the [`TABLE`].
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file.
    pub name: &'static str,
    /// The heading that it stands under.
    pub group: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Where it may stand.
    pub places: Places,
    /// What holds where it is not set.
    pub default: Unset,
    /// What it is, and what it costs to get it wrong.
    pub help: &'static str,
    /// It may hold a secret: its value is never shown.
    pub secret: bool,
    set: fn(&mut Draft, &str) -> Result<(), String>,
}

impl Setting {
    /// The setting of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("ORDER_ROUTER_{}", self.name.to_ascii_uppercase())
    }

    /// Its flag, without the two dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// What stands for its value in `--help`.
    #[must_use]
    pub fn value_name(&self) -> &'static str {
        match (self.kind, self.name) {
            (Kind::Duration | Kind::Bound, _) => "D",
            (Kind::Count, _) => "N",
            (Kind::Bytes, _) => "BYTES",
            (Kind::Rate, _) => "N/min",
            (Kind::Amount, _) => "AMOUNT",
            (Kind::File, "data") => "DIR",
            (Kind::File, _) => "FILE",
            (Kind::Url, _) => "URL",
            (Kind::Switch, _) => "true|false",
            (Kind::List('&'), _) => "NAME=VALUE",
            (Kind::Text | Kind::Word(_) | Kind::List(_), _) => "TEXT",
        }
    }

    /// Its unit, for the reference.
    #[must_use]
    pub fn unit(&self) -> String {
        match self.kind {
            Kind::Duration => "duration".to_owned(),
            Kind::Bound => "duration or `never`".to_owned(),
            Kind::Count => "number".to_owned(),
            Kind::Bytes => "bytes".to_owned(),
            Kind::Rate => "number a minute".to_owned(),
            Kind::Amount => "amount of money".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::File => "path of this machine".to_owned(),
            Kind::Url => "URL".to_owned(),
            Kind::Switch => "`true` or `false`".to_owned(),
            Kind::Word(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            Kind::List(_) => "list of texts".to_owned(),
        }
    }

    /// Its help with its default, in one text.
    #[must_use]
    pub fn help_text(&self) -> String {
        match self.default {
            Unset::Is("") => self.help.to_owned(),
            Unset::Is("false") if self.kind == Kind::Switch => self.help.to_owned(),
            Unset::Is(text) | Unset::Says(text) => {
                format!("{} [default: {text}]", self.help)
            }
        }
    }

    /// Takes a value, and says what is wrong with it by itself.
    fn apply(&self, draft: &mut Draft, text: &str) -> Result<(), String> {
        (self.set)(draft, text)
    }
}

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file, counted from 1; 0 where it is no line.
    pub line: usize,
    /// Where else: a flag, a variable, the file.
    pub place: String,
    /// What is wrong. Never the value of a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.place, self.line) {
            ("", 0) => write!(f, "{}", self.text),
            ("", line) => write!(f, "line {line}: {}", self.text),
            (place, 0) => write!(f, "{place}: {}", self.text),
            (place, line) => write!(f, "{place}:{line}: {}", self.text),
        }
    }
}
