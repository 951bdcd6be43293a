//! The flags that several commands share, made from the table of settings.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use order_router::settings::{self, Kind, Loaded, Places, Problem, Setting, StorePlace, TABLE};
use order_router::supplier::ApiKey;

use super::failure::{Failure, chain};

/// The variable that names the file of settings.
const FILE_VARIABLE: &str = "ORDER_ROUTER_CONFIG";

/// Where the journal and its index are.
#[derive(Clone)]
pub struct DataArgs {
    flags: Vec<(&'static Setting, Vec<String>)>,
    file: Option<PathBuf>,
}

/// The settings of where orders are remembered.
const PLACES: std::ops::Range<usize> = 0..2;

/// Everything that a router is started with.
#[derive(Clone)]
pub struct RouterArgs {
    flags: Vec<(&'static Setting, Vec<String>)>,
    file: Option<PathBuf>,
}

impl fmt::Debug for DataArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store's URL can hold a password.
        f.debug_list().entries(self.flags.iter().map(|(setting, _)| setting.name)).finish()
    }
}

impl fmt::Debug for RouterArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL can hold a password.
        let names = self.flags.iter().map(|(setting, _)| setting.name);
        f.debug_list().entries(names).finish()
    }
}

fn is_flag(setting: &&Setting) -> bool {
    setting.places != Places::Environment
}

fn file_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(
            "A TOML file of settings: a line `landing_bound = \"15m\"` is what the variable \
             ORDER_ROUTER_LANDING_BOUND and the flag --landing-bound are, and so for every flag \
             of a setting. Flags go before variables, variables before the file [env: \
             ORDER_ROUTER_CONFIG]",
        )
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.value_name())
        .help(setting.help_text());
    // The first group stands among a command's own flags.
    let argument = match setting.group == TABLE[0].group {
        true => argument,
        false => argument.help_heading(setting.group),
    };
    match setting.kind {
        Kind::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::List(_) => argument.action(ArgAction::Append),
        _ => argument,
    }
}

/// The texts of a flag, if it was given.
fn given(matches: &ArgMatches, name: &str) -> Option<Vec<String>> {
    let is_given = matches.value_source(name) == Some(ValueSource::CommandLine);
    let texts = matches.get_many::<String>(name).filter(|_| is_given)?;
    Some(texts.cloned().collect())
}

impl Args for DataArgs {
    fn augment_args(command: Command) -> Command {
        let command = TABLE[PLACES].iter().fold(command, |command, s| command.arg(argument(s)));
        command.arg(file_argument())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DataArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = TABLE[PLACES].iter();
        let flags = flags.filter_map(|setting| Some((setting, given(matches, setting.name)?)));
        Ok(Self { flags: flags.collect(), file: matches.get_one("config").cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for RouterArgs {
    fn augment_args(command: Command) -> Command {
        let command = command.arg(file_argument());
        TABLE.iter().filter(is_flag).fold(command, |command, s| command.arg(argument(s)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RouterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = TABLE.iter().filter(is_flag);
        let flags = flags.filter_map(|setting| Some((setting, given(matches, setting.name)?)));
        Ok(Self { flags: flags.collect(), file: matches.get_one("config").cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn environment(variable: &str) -> Option<OsString> {
    std::env::var_os(variable)
}

fn file(flag: Option<&PathBuf>) -> Option<PathBuf> {
    let variable = || environment(FILE_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    flag.cloned().or_else(variable)
}

/// What is wrong with the settings, all at once.
pub fn wrong(problems: &[Problem]) -> (String, &'static str) {
    let what = match problems {
        [one] => one.to_string(),
        many => {
            let lines: String = many.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} things are wrong with the settings:{lines}", many.len())
        }
    };
    let next = "correct what is named; `order-router config reference` lists every setting with \
        its unit and default, and `order-router config check` says what is still wrong";
    (what, next)
}

impl DataArgs {
    /// For commands about orders that there are already: a mistyped directory is not made, and no
    /// account is read for it.
    pub fn existing(&self) -> Result<PathBuf, Failure> {
        match self.place()? {
            StorePlace::Directory(data) => existing(&data).map(|()| data),
            StorePlace::Database(_) => {
                let what = "orders are remembered in another store than a directory, and it has no \
                    journal and no index";
                Err(Failure::unread(what, "name a directory with --data, without --store"))
            }
        }
    }

    /// Where orders are remembered; a directory may be missing.
    pub fn place(&self) -> Result<StorePlace, Failure> {
        let file = file(self.file.as_ref());
        let place = settings::load_place(self.flags.clone(), &environment, file.as_deref());
        place.map_err(|problems| {
            let (what, next) = wrong(&problems);
            Failure::unread(what, next)
        })
    }
}

/// Refuses a data directory that is not there.
pub fn existing(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    let what = format!("there is no data directory {}", data.display());
    Err(Failure::unread(what, "name the one that `submit` uses with --data"))
}

impl RouterArgs {
    /// The settings from flags, environment and file.
    pub fn read(&self) -> Result<Loaded, Vec<Problem>> {
        settings::load(self.flags.clone(), &environment, file(self.file.as_ref()).as_deref())
    }

    /// The same, for a command that would send.
    pub fn load(&self) -> Result<Loaded, Failure> {
        self.read().map_err(|problems| {
            let (what, next) = wrong(&problems);
            Failure::nothing_sent(what, next)
        })
    }
}

/// The key, from the file or the environment; never from a flag, which everybody can see.
pub fn key(loaded: &Loaded) -> Result<ApiKey, Failure> {
    loaded.key().map_err(|error| {
        let next = match loaded.api_key_file() {
            Some(_) => {
                "write the supplier's key, and nothing else, to a file that only you can read"
            }
            None => {
                "set ORDER_ROUTER_API_KEY to the supplier's key (any text will do for a simulated \
                 supplier), or use --api-key-file"
            }
        };
        Failure::nothing_sent(format!("there is no API key: {}", chain(&error)), next)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use order_router::Config;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        router: RouterArgs,
    }

    fn parse(flags: &str) -> Result<Loaded, Vec<Problem>> {
        let words = std::iter::once("x").chain(flags.split_whitespace());
        let alone = Alone::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        settings::load(alone.router.flags, &|_| None, alone.router.file.as_deref())
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for url in ["http://127.0.0.1:80", "http://[::1]:8080/x", "http://localhost"] {
            assert!(parse(&format!("--supplier {url}")).unwrap().is_loopback(), "{url}");
        }
        for url in ["https://public-api.foxreload.com", "https://localhost.org"] {
            assert!(!parse(&format!("--supplier {url}")).unwrap().is_loopback(), "{url}");
        }
    }

    #[test]
    fn this_machine_is_told_from_the_url_as_those_read_it_who_connect_to_it() {
        for url in [r"https:\\shop.example/x://localhost/", "https:shop.example/://127.0.0.1"] {
            let loaded = parse(&format!("--supplier {url}")).unwrap();
            assert!(!loaded.is_loopback(), "{url}");
            let asks = Config::default();
            assert_eq!(loaded.config(64), asks, "{url} is taken for a new account");
        }
        for url in ["http://127.1", "http:/LOCALHOST:80", r"http:\\127.0.0.1\x"] {
            assert!(parse(&format!("--supplier {url}")).unwrap().is_loopback(), "{url}");
        }
    }

    #[test]
    fn without_flags_the_router_is_the_librarys() {
        let loaded = parse("--supplier https://example.org").unwrap();
        assert_eq!(loaded.config(64), Config::default());
    }

    #[test]
    fn pauses_between_looks_are_two_flags_that_agree() {
        let longest = |flags: &str| {
            let loaded = parse(&format!("--supplier https://example.org {flags}"));
            loaded.map(|loaded| {
                let shown = loaded.show();
                shown.into_iter().find(|(name, ..)| *name == "look_again_max").unwrap().1
            })
        };
        assert_eq!(longest("--look-again 300ms --list-margin 1s").as_deref(), Ok("1m"));
        assert_eq!(longest("--look-again 90s").as_deref(), Ok("90s"));
        assert_eq!(longest("--look-again-max 5s").as_deref(), Ok("5s"));
        assert!(longest("--look-again-max 1s").is_err());
    }

    #[test]
    fn sockets_keep_within_a_short_request_timeout() {
        let flags = "--supplier http://127.0.0.1:1 --request-timeout 1s --landing-bound 4s";
        let loaded = parse(flags).unwrap();
        let client = loaded.client().unwrap();
        assert_eq!(client.connect_timeout, Duration::from_millis(500));
        assert_eq!(client.wire_bound, Duration::from_secs(1));
        loaded.config(64).check().unwrap();
    }

    #[test]
    fn a_switch_can_be_taken_back() {
        let mock = |flags: &str| {
            let loaded = parse(&format!("--supplier https://example.org {flags}")).unwrap();
            loaded.client().unwrap().mock
        };
        assert!(mock("--mock") && mock("--mock=true"));
        assert!(!mock("--mock=false") && !mock(""));
    }
}
