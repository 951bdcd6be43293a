//! Flag over environment over file over default, and what contradicts what.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::draft::StorePlace;
use super::file::{self, Entry};
use super::{Draft, Kind, Places, Problem, Setting, TABLE, Unset};
use crate::shared_gate::{GateTerms, NodeName};
use crate::simulator::parse_duration;
use crate::store::LeaseTerms;
use crate::supplier::foxreload::Settings;
use crate::supplier::{ApiKey, KeyError};
use crate::{Config, ConfigError};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// Its environment variable.
    Environment,
    /// Its flag.
    Flag,
}

/// A setting that somebody set.
#[derive(Debug, Clone)]
pub struct Given {
    setting: &'static Setting,
    texts: Vec<String>,
    origin: Origin,
}

impl Given {
    /// Where it stands, for people.
    fn place(&self) -> (String, usize) {
        match &self.origin {
            Origin::Default => (self.setting.name.to_owned(), 0),
            Origin::File(path, line) => (path.display().to_string(), *line),
            Origin::Environment => (self.setting.variable(), 0),
            Origin::Flag => (format!("--{}", self.setting.flag()), 0),
        }
    }

    fn problem(&self, text: impl fmt::Display) -> Problem {
        let (place, line) = self.place();
        let text = match self.origin {
            Origin::File(..) => format!("{}: {text}", self.setting.name),
            _ => text.to_string(),
        };
        Problem { line, place, text }
    }
}

/// All settings, read and checked.
#[derive(Debug)]
pub struct Loaded {
    pub(super) draft: Draft,
    pub(super) given: HashMap<&'static str, Given>,
    has_key: bool,
}

/// The environment, as far as it is asked for.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads every setting from its flag, its variable, the file or the default.
///
/// `flags` are those that were given, with their texts.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    flags: Vec<(&'static Setting, Vec<String>)>,
    environment: Environment<'_>,
    file: Option<&Path>,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let given = gather(TABLE, flags, environment, file, &mut problems);
    let draft = add_up(&given, &mut problems);
    let has_key = given.contains_key("api_key") || given.contains_key("api_key_file");
    let loaded = Loaded { draft, given, has_key };
    if problems.is_empty() {
        loaded.contradictions(&mut problems);
    }
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Where orders are remembered alone, for commands that need no supplier. The file is read whole all
/// the same. `flags` are those of data and store that were given.
///
/// # Errors
/// What is wrong with the file or the place.
pub fn load_place(
    flags: Vec<(&'static Setting, Vec<String>)>,
    environment: Environment<'_>,
    file: Option<&Path>,
) -> Result<StorePlace, Vec<Problem>> {
    let mut problems = Vec::new();
    let given = gather(&TABLE[..2], flags, environment, file, &mut problems);
    let draft = add_up(&given, &mut problems);
    if problems.is_empty() { Ok(draft.place()) } else { Err(problems) }
}

/// The file of the kill switch, as a router with these settings looks for it, and the data directory that
/// it lies in, where nothing else names it; `None`: there is none.
///
/// # Errors
/// What is wrong with the file of settings, or with what names a directory.
pub fn load_stop_file(
    flags: Vec<(&'static Setting, Vec<String>)>,
    environment: Environment<'_>,
    file: Option<&Path>,
) -> Result<Option<(PathBuf, Option<PathBuf>)>, Vec<Problem>> {
    let mut problems = Vec::new();
    let given = gather(&TABLE[..3], flags, environment, file, &mut problems);
    let draft = add_up(&given, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let data = draft.directory().filter(|_| draft.config.stop_file.is_none());
    Ok(draft.stop_file().map(|file| (file, data.map(Path::to_owned))))
}

/// What is set, each by the layer that goes before the others.
fn gather(
    table: &'static [Setting],
    flags: Vec<(&'static Setting, Vec<String>)>,
    environment: Environment<'_>,
    file: Option<&Path>,
    problems: &mut Vec<Problem>,
) -> HashMap<&'static str, Given> {
    let mut given = HashMap::new();
    let mut put = |setting: &'static Setting, texts, origin| {
        given.insert(setting.name, Given { setting, texts, origin });
    };
    if let Some(path) = file {
        match file::read(path) {
            Ok(entries) => {
                for Entry { setting, texts, line } in entries {
                    put(setting, texts, Origin::File(path.to_owned(), line));
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    for setting in table {
        let variable = setting.variable();
        let Some(value) = environment(&variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        let problem = |text: &str| Problem { line: 0, place: variable.clone(), text: text.into() };
        match (setting.places, value.into_string()) {
            (Places::Flag, _) => problems.push(problem(
                "answers one start; in the environment it would answer every start, also the one \
                 after a volume was lost: give it as a flag, once",
            )),
            (_, Err(_)) => problems.push(problem("is not UTF-8")),
            (_, Ok(text)) => put(setting, split(setting, &text), Origin::Environment),
        }
    }
    for (setting, texts) in flags {
        put(setting, texts, Origin::Flag);
    }
    given
}

fn split(setting: &Setting, text: &str) -> Vec<String> {
    match setting.kind {
        Kind::List(separator) => text.split(separator).map(str::to_owned).collect(),
        _ => vec![text.to_owned()],
    }
}

fn add_up(given: &HashMap<&'static str, Given>, problems: &mut Vec<Problem>) -> Draft {
    let mut draft = Draft::default();
    // In the order of the table: nothing depends on the order of a map.
    for given in TABLE.iter().filter_map(|setting| given.get(setting.name)) {
        if given.setting.places == Places::Environment {
            continue;
        }
        let mut alone = Draft::default();
        let applied = given.texts.iter().try_for_each(|text| {
            given.setting.apply(&mut alone, text)?;
            given.setting.apply(&mut draft, text)
        });
        if let Err(text) = applied.and_then(|()| alone.check_alone()) {
            problems.push(given.problem(text));
        }
    }
    problems.sort_by(|a, b| (&a.place, a.line).cmp(&(&b.place, b.line)));
    draft
}

impl Loaded {
    /// The directory of the journal; `None`: orders are remembered in a
    /// [`database`](Self::database).
    #[must_use]
    pub fn data(&self) -> Option<&Path> {
        self.draft.directory()
    }

    /// The URL of the database in which orders are remembered, if it is one. A password can be in
    /// it.
    #[must_use]
    pub fn database(&self) -> Option<&SecretString> {
        match &self.draft.store {
            Some(StorePlace::Database(url)) => Some(url),
            Some(StorePlace::Directory(_)) | None => None,
        }
    }

    /// The terms of the lease, if the store is shared with other routers.
    #[must_use]
    pub fn shared(&self) -> Option<LeaseTerms> {
        self.draft.share.then(|| self.draft.lease())
    }

    /// The terms of the lease of a store on a server.
    #[must_use]
    pub fn lease(&self) -> LeaseTerms {
        self.draft.lease()
    }

    /// Whether a server that answers before it is on disk is taken.
    #[must_use]
    pub fn accept_unsynced(&self) -> bool {
        self.draft.accept_unsynced
    }

    /// The URL of the shared gate, if there is one. A password can be in it.
    #[must_use]
    pub fn gate(&self) -> Option<&SecretString> {
        self.draft.gate.as_ref()
    }

    /// The limits of the shared gate.
    #[must_use]
    pub fn gate_terms(&self) -> GateTerms {
        self.draft.gate_terms
    }

    /// This node's name at the shared gate.
    #[must_use]
    pub fn node(&self) -> String {
        self.draft.node.clone().unwrap_or_else(NodeName::of_this_machine)
    }

    /// The supplier's base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.draft.base_url.as_deref().unwrap_or_default()
    }

    /// Whether the supplier is on this machine: a simulated one.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.draft.is_loopback()
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn request_timeout(&self) -> std::time::Duration {
        self.draft.config.request_timeout
    }

    /// The router's configuration; `posts` can be under way at once at least.
    #[must_use]
    pub fn config(&self, posts: usize) -> Config {
        self.draft.config(posts)
    }

    /// The file of the kill switch, if there is to be one.
    #[must_use]
    pub fn stop_file(&self) -> Option<PathBuf> {
        self.draft.stop_file()
    }

    /// The file of the key, if one is named.
    #[must_use]
    pub fn api_key_file(&self) -> Option<&Path> {
        self.draft.api_key_file.as_deref()
    }

    /// The key, from its file or from the environment.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key(&self) -> Result<ApiKey, KeyError> {
        let variable = TABLE.iter().find(|setting| setting.name == "api_key");
        match (self.api_key_file(), variable) {
            (Some(path), _) => ApiKey::from_file(path),
            (None, Some(setting)) => ApiKey::from_env(&setting.variable()),
            (None, None) => Err(KeyError::Malformed),
        }
    }

    /// The client's settings.
    ///
    /// # Errors
    /// The file of certificates cannot be read.
    pub fn client(&self) -> Result<Settings, Problem> {
        let mut client = self.draft.client();
        if let Some(path) = &self.draft.root_certificates {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let text = format!("{}: {error}", path.display());
                self.problem("root_certificates", text)
            })?;
            client.root_certificates = Some(text);
        }
        Ok(client)
    }

    /// A problem, at the place where a setting is set.
    pub fn problem(&self, name: &str, text: impl fmt::Display) -> Problem {
        match self.given.get(name) {
            Some(given) => given.problem(text),
            None => Problem { line: 0, place: name.to_owned(), text: text.to_string() },
        }
    }

    fn contradictions(&self, problems: &mut Vec<Problem>) {
        let config = self.config(64);
        let limits = Config::default()
            .request_timeout(config.request_timeout)
            .landing_bound(config.landing_bound);
        let looks = Config::default().look_again(config.look_again.0, config.look_again.1);
        let other = config.check();
        let names = match &other {
            Err(ConfigError::Guardless { limit }) => ["resend_without_guard", *limit],
            Err(ConfigError::BalanceWindow { .. }) => ["balance_window", "balance_lasts"],
            _ => ["landing_bound", "landing_bound"],
        };
        let pairs = [
            (limits.check(), ["landing_bound", "request_timeout"]),
            (looks.check(), ["look_again_max", "look_again"]),
            // Whatever else the router refuses.
            (other, names),
        ];
        for (checked, names) in pairs {
            let Err(error) = checked else { continue };
            let set = names.iter().find(|name| self.given.contains_key(**name));
            let text = told(&error);
            if problems.iter().all(|known| !known.text.ends_with(&text)) {
                problems.push(self.problem(set.unwrap_or(&names[0]), text));
            }
        }
        if self.draft.accept_new_account && self.draft.adopt_unknown_orders {
            let text = "cannot be used with --adopt-unknown-orders: a new account is either \
                history or somebody else's";
            problems.push(self.problem("accept_new_account", text));
        }
        if self.draft.share && self.database().is_none() {
            let text = "needs a store on a server: name one with --store";
            problems.push(self.problem("share", text));
        }
        if let Err(why) = self.draft.gate_terms.check() {
            let set = ["gate_ttl", "gate_timeout"].into_iter();
            let set = set.rev().find(|name| self.given.contains_key(name));
            problems.push(self.problem(set.unwrap_or("gate_ttl"), why));
        }
        if let Some(why) = self.draft.lease().wrong() {
            problems.push(self.problem("lease", why));
        }
        match &self.draft.base_url {
            None => {
                let text = "is not set: name the supplier's base URL in the file, with \
                    ORDER_ROUTER_SUPPLIER or with --supplier";
                problems.push(Problem { line: 0, place: "supplier".into(), text: text.into() });
            }
            Some(url) => {
                let allow = self.draft.client.allow_http;
                if let Err(error) = crate::supplier::foxreload::base(url, allow) {
                    problems.push(self.problem("supplier", error));
                }
            }
        }
    }

    /// Every setting with its effective value and where it comes from, one a line. Secrets are
    /// `set` or `unset`.
    #[must_use]
    pub fn show(&self) -> Vec<(&'static str, String, String)> {
        let rows = TABLE.iter().map(|setting| {
            let given = self.given.get(setting.name);
            let origin = match given.map(|given| &given.origin) {
                None | Some(Origin::Default) => "default".to_owned(),
                Some(Origin::File(path, line)) => format!("{}:{line}", path.display()),
                Some(Origin::Environment) => format!("environment {}", setting.variable()),
                Some(Origin::Flag) => format!("flag --{}", setting.flag()),
            };
            let value = match given {
                _ if setting.secret => if given.is_some() { "set" } else { "unset" }.to_owned(),
                _ => self.effective(setting, given),
            };
            let value = value.chars().flat_map(|c| match c.is_control() {
                true => c.escape_debug().collect::<Vec<_>>(),
                false => vec![c],
            });
            (setting.name, value.collect(), origin)
        });
        rows.collect()
    }

    /// What really holds: a value that depends on others as it came out.
    fn effective(&self, setting: &Setting, given: Option<&Given>) -> String {
        let config = self.config(64);
        let client = self.draft.client();
        match setting.name {
            "stop_file" if given.is_none() => self
                .stop_file()
                .map_or_else(|| "none".to_owned(), |file| file.display().to_string()),
            "connect_timeout" => written(client.connect_timeout),
            "node" => self.node(),
            "wire_bound" => written(client.wire_bound),
            "look_again_max" => written(config.look_again.1),
            "answer_within" => written(config.answer_within_or_default()),
            "lane_posts_max" if given.is_none() => config.lane_posts_max.to_string(),
            "accept_new_account" if self.is_loopback() => {
                "true, the supplier is on this machine".to_owned()
            }
            _ => match (given, setting.default) {
                (Some(given), _) => given.texts.join(", "),
                (None, Unset::Is("")) => "none".to_owned(),
                (None, Unset::Is(text) | Unset::Says(text)) => text.to_owned(),
            },
        }
    }

    /// Whether a key is named at all.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.has_key
    }
}

fn told(error: &ConfigError) -> String {
    match error {
        ConfigError::LandingBound { .. } => {
            format!("{error}; make the landing bound longer or the request timeout shorter")
        }
        _ => error.to_string(),
    }
}

/// A duration as one would write it.
fn written(span: std::time::Duration) -> String {
    let milliseconds = span.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole =
        units.iter().find(|(size, _)| milliseconds > 0 && milliseconds.is_multiple_of(*size));
    let text = match whole {
        Some((size, unit)) => format!("{}{unit}", milliseconds / size),
        None => format!("{milliseconds}ms"),
    };
    debug_assert!(parse_duration(&text).is_ok());
    text
}
