//! Standard output and standard error, whose readers may go at any moment.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// The progress bar that is on the terminal.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints a line, as `println!` does. A reader that has seen enough is no reason to panic, and
/// still less to leave orders alone.
macro_rules! outln {
    ($($text:tt)*) => { $crate::commands::output::out(format_args!($($text)*)) };
}

/// Prints a line to standard error, as `eprintln!` does, or leaves it.
macro_rules! errln {
    ($($text:tt)*) => { $crate::commands::output::err(format_args!($($text)*)) };
}

pub(super) use {errln, outln};

pub fn out(text: Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => errln!("error: standard output cannot be written: {error}"),
    }
}

pub fn err(text: Arguments<'_>) {
    // Where it fails there is nobody left to tell.
    let _ = clear_of_bar(|| writeln!(io::stderr().lock(), "{text}"));
}

/// From now on what is written to standard error keeps clear of this bar.
pub fn keep_clear_of(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

fn clear_of_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Standard error, for the log.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        clear_of_bar(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
