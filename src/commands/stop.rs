//! `order-router stop` and `order-router resume`: the kill switch, by its file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use order_router::settings::{self, Setting};

use super::failure::Failure;
use super::output::outln;
use super::settings::{existing, wrong};

/// Stop all sending at once, until `resume`; over restarts too
///
/// Makes the stop file, which every router with the same settings looks for before an order leaves. What has
/// left is followed, and doubts are decided; orders are taken, and wait as long as they are good.
/// Works while a router is at work, and while none is.
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// Why, for whoever finds that nothing is sent
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    #[command(flatten)]
    place: Place,
}

/// Let orders leave again, after `stop`
#[derive(Args, Clone, Debug)]
pub struct ResumeArgs {
    #[command(flatten)]
    place: Place,
}

/// Where the stop file is.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The data directory of the router: the file is DIR/STOP, unless a setting names another
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The file itself, as the router's setting `stop_file` names it
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    stop_file: Option<String>,
    /// The router's TOML file of settings [env: ORDER_ROUTER_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn file(&self) -> Result<PathBuf, Failure> {
        let flag = |name: &str, text: &Option<String>| {
            Setting::find(name).zip(text.clone()).map(|(setting, text)| (setting, vec![text]))
        };
        let flags = [flag("data", &self.data), flag("stop_file", &self.stop_file)];
        let environment = |variable: &str| -> Option<OsString> { std::env::var_os(variable) };
        let config = self.config.clone();
        let config = config.or_else(|| environment("ORDER_ROUTER_CONFIG").map(PathBuf::from));
        let flags = flags.into_iter().flatten().collect();
        let file = settings::load_stop_file(flags, &environment, config.as_deref());
        let file = file.map_err(|problems| {
            let (what, next) = wrong(&problems);
            Failure::unread(what, format!("name the file with --stop-file, or {next}"))
        })?;
        let none = || {
            let what = "orders are remembered in a database, and no stop file is named";
            Failure::unread(what, "name with --stop-file the one that the router's setting names")
        };
        let (file, data) = file.ok_or_else(none)?;
        // A mistyped directory stops nobody.
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        existing(dir)?;
        if let Some(data) = data.filter(|data| !data.join("format").exists()) {
            let what = format!("{} is no data directory: no router looks there", data.display());
            let next = "name the one that `submit` uses with --data, or the file with --stop-file";
            return Err(Failure::unread(what, next));
        }
        // Told whole: a router that was started elsewhere reads the same relative path as another file.
        let whole = dir.canonicalize().map_err(|error| failed(&file, "found", &error))?;
        Ok(whole.join(file.file_name().unwrap_or_default()))
    }
}

/// Makes the file, durable.
pub fn stop(args: &StopArgs) -> ExitCode {
    let stopped = args.place.file().and_then(|file| {
        make(&file, &args.why).map_err(|error| failed(&file, "made", &error))?;
        outln!(
            "{} is there: nothing is sent any more. `order-router resume` lets it go on",
            file.display()
        );
        Ok(ExitCode::SUCCESS)
    });
    stopped.unwrap_or_else(|failure| failure.report())
}

fn make(file: &Path, why: &str) -> io::Result<()> {
    let mut made = OpenOptions::new().write(true).create(true).truncate(true).open(file)?;
    writeln!(made, "{}", why.replace(['\n', '\r'], " "))?;
    made.sync_all()?;
    sync_directory_of(file)
}

/// Takes it away, durable.
pub fn resume(args: &ResumeArgs) -> ExitCode {
    let resumed = args.place.file().and_then(|file| {
        match fs::remove_file(&file) {
            Ok(()) => outln!("{} is gone: orders are sent again", file.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                outln!("{} was not there: nothing was stopped by it", file.display());
            }
            Err(error) => return Err(failed(&file, "taken away", &error)),
        }
        sync_directory_of(&file).map_err(|error| failed(&file, "taken away for good", &error))?;
        Ok(ExitCode::SUCCESS)
    });
    resumed.unwrap_or_else(|failure| failure.report())
}

fn sync_directory_of(file: &Path) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(file: &Path, what: &str, error: &io::Error) -> Failure {
    let what = format!("{} could not be {what}: {error}", file.display());
    Failure::unread(what, "see that this user may write there, and that the disk has room")
}
