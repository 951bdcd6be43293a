//! Standard output and standard error, whose readers may go at any moment.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

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
    // There is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
