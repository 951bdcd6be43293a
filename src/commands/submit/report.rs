//! What a run tells people: progress while it runs, a summary at its end.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use order_router::RouterEvent;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::session::{Shared, Stop, Trouble};
use super::tally::{Snapshot, Tally};
use crate::commands::buyer::{Buyer, tell_roles};
use crate::commands::output::{errln, keep_clear_of, outln};

/// How often progress is told where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_EVERY: Duration = Duration::from_millis(200);

/// Tells progress on standard error.
pub(super) struct Reporter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    alarms: JoinHandle<()>,
}

impl Reporter {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
            ProgressBar::new_spinner().with_style(style.expect("the template is a fixed text"))
        });
        let (stop, stopped) = oneshot::channel();
        keep_clear_of(bar.clone());
        let alarms = match &shared.router {
            Buyer::Router(router) => tokio::spawn(tell_alarms(router.events())),
            Buyer::Node(node) => tokio::spawn(tell_roles(node.clone(), tell_alarms)),
        };
        let task = tokio::spawn(tell_progress(shared, bar.clone(), stopped));
        Self { stop, task, alarms }
    }

    pub(super) async fn stop(self) {
        self.alarms.abort();
        drop(self.stop);
        // It has only to take the bar away.
        let _ = self.task.await;
    }
}

async fn tell_progress(
    shared: Arc<Shared>,
    bar: Option<ProgressBar>,
    mut stopped: oneshot::Receiver<()>,
) {
    let every = if bar.is_some() { BAR_EVERY } else { LINE_EVERY };
    let begun = Instant::now();
    while tokio::time::timeout(every, &mut stopped).await.is_err() {
        let text = progress(&shared.tally, begun.elapsed());
        match &bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => errln!("{text}"),
        }
    }
    if let Some(bar) = bar {
        keep_clear_of(None);
        bar.finish_and_clear();
    }
}

fn progress(tally: &Tally, elapsed: Duration) -> String {
    let counts = tally.input.read();
    let lines = tally.lines.load(Ordering::Relaxed);
    let ended = counts.placed + counts.failed();
    let doubts = tally.in_doubt.load(Ordering::Relaxed);
    let held = tally.held.load(Ordering::Relaxed);
    let rate = ended as f64 / elapsed.as_secs_f64().max(0.001);
    let mut text = format!("{lines} lines, {} placed ({rate:.0}/s)", counts.placed);
    for (count, name) in [(counts.failed(), "not"), (doubts, "in doubt"), (held, "held")] {
        if count > 0 {
            text.push_str(&format!(", {count} {name}"));
        }
    }
    text
}

async fn tell_alarms(mut events: order_router::Events) {
    while let Some(event) = events.next().await {
        let text = match event {
            RouterEvent::Alarm { what } => format!("alarm: {what}"),
            RouterEvent::Sending { stopped: Some(why) } => format!("sending has stopped: {why}"),
            RouterEvent::Sending { stopped: None } => "sending goes on".to_owned(),
            RouterEvent::Held { client_ref, why } => {
                format!("order {client_ref} is held for a person to decide: {why}")
            }
            RouterEvent::Orphans { ids } => {
                format!("{} orders on the account are nobody's, one is {}", ids.len(), ids[0])
            }
            _ => continue,
        };
        errln!("{text}");
    }
}

/// How a run ended.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    lines: u64,
    #[serde(flatten)]
    input: Snapshot,
    earlier: Snapshot,
    not_taken: u64,
    #[serde(skip)]
    stop: Stop,
    #[serde(skip)]
    trouble: Option<Trouble>,
}

impl Summary {
    pub(super) fn new(tally: &Tally, stop: Stop, trouble: Option<Trouble>) -> Self {
        Self {
            lines: tally.lines.load(Ordering::Relaxed),
            input: tally.input.read(),
            earlier: tally.earlier.read(),
            not_taken: tally.not_taken.load(Ordering::Relaxed),
            stop,
            trouble,
        }
    }

    fn code(&self, written: bool) -> u8 {
        let complete = matches!(self.stop, Stop::EndOfInput) && written;
        if self.input.open() + self.earlier.open() + self.not_taken > 0 || !complete {
            3
        } else if self.input.failed() + self.earlier.failed() > 0 {
            1
        } else {
            0
        }
    }

    fn tell(&self) {
        errln!("{} lines: {}", self.lines, self.input.words());
        if self.earlier != Snapshot::default() {
            errln!("open before, not in this input: {}", self.earlier.words());
        }
        match &self.stop {
            Stop::EndOfInput => {}
            Stop::Unreadable(why) => errln!(
                "error: the input could not be read to its end ({why}); nothing was bought for \
                 the lines after line {}: correct it and run again",
                self.lines
            ),
            Stop::Signal => errln!(
                "interrupted: nothing was bought for lines that were not read; run the same \
                 command again"
            ),
            Stop::Results | Stop::Trouble { .. } => {}
        }
        match &self.trouble {
            None => {}
            Some(Trouble::Store { what, full: true }) => errln!(
                "error: {what}\n  bought: nothing for lines that were not accepted; orders under \
                 way were still decided\n  to do: make room on the disk, then run the same command \
                 again"
            ),
            Some(Trouble::Store { what, full: false }) => errln!(
                "error: {what}\n  bought: what the results call placed; what is in doubt may have \
                 been, and the next run finds out\n  to do: look at the disk, run `order-router \
                 store verify`, then the same command again"
            ),
            Some(Trouble::Stopped) => {
                errln!(
                    "error: the router has stopped\n  bought: what the results call placed; what is \
                     in doubt may have been, and the next run finds out\n  to do: run the same \
                     command again"
                );
            }
        }
        if self.not_taken > 0 {
            errln!(
                "{} lines were not taken: nothing was recorded or bought for them",
                self.not_taken
            );
        }
        if self.input.in_doubt + self.earlier.in_doubt > 0 {
            errln!(
                "in doubt means that it may have been bought: run the same command again, under \
                 the same references; another reference would buy again"
            );
        }
        if self.input.held + self.earlier.held > 0 {
            errln!(
                "held means that a person must look: `order-router orders list --state held`, \
                 then `order-router orders resolve REF …`"
            );
        }
    }
}

/// Tells the end and chooses the exit code.
pub(super) fn end(summary: &Summary, written: &io::Result<()>, json: bool) -> ExitCode {
    summary.tell();
    if let Err(error) = written {
        errln!(
            "error: the results could not be written: {error}\n  bought: nothing is lost, every \
             order is in the journal\n  to do: see that --results can be written, then run the \
             same command again: it writes how every line ended"
        );
    }
    if json {
        let text = serde_json::to_string(summary).expect("counts are numbers");
        outln!("{text}");
    }
    ExitCode::from(summary.code(written.is_ok()))
}
