//! The results file: one line of JSON for everything that is known of an input line.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use order_router::Item;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Where an input line stands. All but the first is how a run leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Durable: it is driven to an end, over any crash.
    Accepted,
    /// Bought: `order_id` is this reference's alone.
    Placed,
    /// The supplier refused it: nothing was bought.
    Refused,
    /// Given up: nothing was bought.
    NotPlaced,
    /// Created as `order_id`, never paid, and it will not be: nothing was debited.
    Unpaid,
    /// It may have been bought; a person is asked.
    Held,
    /// It may have been bought, or is still to be; run again.
    InDoubt,
    /// The reference belongs to another order: nothing was bought for this line.
    Conflict,
    /// The line is no order, or is over a limit by itself: nothing was recorded or bought for it.
    Invalid,
    /// Another node has it, the shared gate says: nothing was bought here.
    Elsewhere,
}

/// One line of the file.
#[derive(Debug, Clone, Serialize)]
pub struct ResultLine {
    /// The reference; absent where the line had none that could be read.
    pub client_ref: Option<Arc<str>>,
    /// What was ordered, without notes.
    #[serde(serialize_with = "without_notes")]
    pub items: Arc<[Item]>,
    /// Where it stands.
    pub outcome: Outcome,
    /// The supplier's order, if it has one.
    pub order_id: Option<String>,
    /// The number of the input line; absent for orders of earlier runs.
    pub line: Option<u64>,
    /// Why, where there is something to say.
    pub reason: Option<Cow<'static, str>>,
    /// When this was written.
    pub at: Timestamp,
}

/// One item as it is written; what is delivered with it is nobody else's business.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenItem<'a> {
    item_id: &'a str,
    quantity: u32,
}

fn without_notes<S: serde::Serializer>(items: &[Item], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(items.iter().map(|i| WrittenItem { item_id: i.id(), quantity: i.quantity() }))
}

/// How long a line may wait in memory.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// Lines that may wait for the disk before those who write them do.
const LINES_WAITING: usize = 4096;

/// Writes lines from any number of tasks, in the order in which they come.
#[derive(Clone)]
pub struct Results {
    lines: mpsc::Sender<ResultLine>,
}

/// The thread that writes.
pub struct Writing(thread::JoinHandle<io::Result<()>>);

impl Results {
    /// Appends to a file, or writes to standard output for `-`.
    ///
    /// A last line without an end, torn by a kill or a full disk, is ended first.
    pub fn open(path: &str) -> io::Result<(Self, Writing)> {
        let target: Target = match path {
            "-" => Target::Stdout(io::stdout()),
            path => Target::File(append_to(Path::new(path))?),
        };
        let (lines, waiting) = mpsc::channel(LINES_WAITING);
        let builder = thread::Builder::new().name("results".to_owned());
        Ok((Self { lines }, Writing(builder.spawn(move || write_all(target, waiting))?)))
    }

    /// Hands one line over; `false` if nothing can be written any more.
    pub async fn write(&self, line: ResultLine) -> bool {
        self.lines.send(line).await.is_ok()
    }

    /// Waits until nothing can be written any more.
    pub async fn failed(&self) {
        self.lines.closed().await;
    }
}

impl Writing {
    /// Waits for the last line, once every [`Results`] is dropped.
    pub fn finish(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
    }
}

enum Target {
    Stdout(io::Stdout),
    File(File),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    // A pipe or a terminal has no last line.
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

fn write_all(target: Target, mut waiting: mpsc::Receiver<ResultLine>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, target);
    let mut flushed = Instant::now();
    while let Some(line) = waiting.blocking_recv() {
        write_line(&mut out, &line)?;
        // As long as more lines are there the oldest waits for at most this long.
        while let Ok(line) = waiting.try_recv() {
            write_line(&mut out, &line)?;
            if flushed.elapsed() >= FLUSH_AFTER {
                out.flush()?;
                flushed = Instant::now();
            }
        }
        out.flush()?;
        flushed = Instant::now();
    }
    match out.into_inner().map_err(io::IntoInnerError::into_error)? {
        Target::Stdout(_) => Ok(()),
        Target::File(file) => match file.metadata()? {
            of if of.is_file() && of.nlink() == 0 => {
                Err(io::Error::other("the file was removed while it was written"))
            }
            of if of.is_file() => file.sync_all(),
            _ => Ok(()),
        },
    }
}

fn write_line(out: &mut impl Write, line: &ResultLine) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> ResultLine {
        ResultLine {
            client_ref: Some("a-1".into()),
            items: [Item::new("x", 2).unwrap()].into(),
            outcome: Outcome::Placed,
            order_id: Some("o-1".to_owned()),
            line: Some(number),
            reason: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_torn_last_line_is_ended_and_lines_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        std::fs::write(&path, "{\"client_ref\":\"ol").unwrap();
        for number in [1, 2] {
            let (results, writing) = Results::open(path.to_str().unwrap()).unwrap();
            assert!(results.write(line(number)).await);
            drop(results);
            tokio::task::spawn_blocking(|| writing.finish()).await.unwrap().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "{\"client_ref\":\"a-1\",\"items\":[{\"itemId\":\"x\",\"quantity\":2}],\
            \"outcome\":\"placed\",\"order_id\":\"o-1\",\"line\":1,\"reason\":null,\
            \"at\":\"1970-01-01T00:00:00Z\"}";
        let second = expected.replace("\"line\":1", "\"line\":2");
        assert_eq!(text, format!("{{\"client_ref\":\"ol\n{expected}\n{second}\n"));
    }

    #[tokio::test]
    async fn results_that_were_removed_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let (results, writing) = Results::open(path.to_str().unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(results.write(line(1)).await);
        drop(results);
        let told = tokio::task::spawn_blocking(|| writing.finish()).await.unwrap();
        assert!(told.unwrap_err().to_string().contains("was removed"));
    }

    #[tokio::test]
    async fn a_line_is_in_the_file_before_the_run_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let (results, _writing) = Results::open(path.to_str().unwrap()).unwrap();
        results.write(line(1)).await;
        while std::fs::read_to_string(&path).unwrap().lines().count() == 0 {
            tokio::task::yield_now().await;
        }
    }
}
