//! The only printer: data to stdout, everything else to stderr.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::OnceLock,
};

use clap::{
    ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use kista::{
    client::{Fields, JsonValue},
    secret::{SecretBytes, SecretString},
};
use serde::Serialize;

use crate::{
    arguments,
    failure::{Exit, Failure},
};

/// How a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    to_terminal: bool,
    reader: Reader,
}

/// What it means when the reader goes away before the end, as `head` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// It has seen enough.
    MayLeave,
    /// It has not got what is shown only once.
    MustStay,
}

/// One cell of a table.
#[derive(Debug)]
pub(crate) enum Cell {
    Plain(String),
    /// Shown as it is where the reader is a program or asked for it, else as dots.
    Secret(SecretString, Sight),
}

/// Whether the reader of stdout wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    GoesOn,
    Ended,
}

/// What a part of the text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
    /// What to do next.
    Next,
    Heading,
    Plain,
}

/// When parts of the text are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR or TERM=dumb says otherwise; everywhere with CLICOLOR_FORCE
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Whether a person sees a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    Shown,
    Masked,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let to_terminal = io::stdout().is_terminal();
        Self { json, to_terminal, reader: Reader::MayLeave }
    }

    /// For what is shown only once: a reader that goes away is a failure.
    pub(crate) fn once(self) -> Self {
        Self { reader: Reader::MustStay, ..self }
    }

    pub(crate) fn wants_json(self) -> bool {
        self.json
    }

    pub(crate) fn is_to_terminal(self) -> bool {
        self.to_terminal
    }

    /// Prints one line of data.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.print(|out| {
            write_printable(out, text)?;
            out.write_all(b"\n")
        })
    }

    /// Prints one line of data whose first part has a tone.
    pub(crate) fn line_in(self, tone: Tone, first: &str, rest: &str) -> Result<(), Failure> {
        self.print(|out| {
            write_in(out, self.is_coloured(), tone, first)?;
            write_printable(out, rest)?;
            out.write_all(b"\n")
        })
    }

    /// Prints lines as they are, each in the tone of the sign that it begins with: `+`, `-` or `~`.
    pub(crate) fn changes(self, lines: &[SecretString]) -> Result<(), Failure> {
        let is_coloured = self.is_coloured();
        self.print(|out| {
            for line in lines {
                line.expose(|line| {
                    let tone = line.chars().next().map_or(Tone::Plain, tone_of_sign);
                    write_in(out, is_coloured, tone, line)?;
                    out.write_all(b"\n")
                })?;
            }
            Ok(())
        })
    }

    fn is_coloured(self) -> bool {
        is_coloured(self.to_terminal)
    }

    /// Prints a value as it is, with a newline only where a person reads it.
    pub(crate) fn value(self, value: &SecretString) -> Result<(), Failure> {
        self.print(|out| {
            value.expose(|text| out.write_all(text.as_bytes()))?;
            if self.to_terminal { out.write_all(b"\n") } else { Ok(()) }
        })
    }

    /// Prints a text as it is.
    pub(crate) fn text(self, text: &SecretString) -> Result<(), Failure> {
        self.print(|out| text.expose(|text| out.write_all(text.as_bytes())))
    }

    /// Prints bytes as they are; a person gets them only if they are text.
    pub(crate) fn bytes(self, bytes: &SecretBytes) -> Result<(), Failure> {
        if self.to_terminal && bytes.expose(|bytes| std::str::from_utf8(bytes).is_err()) {
            return Err(Failure::new(
                "the value is not text, and a terminal would be confused by it",
            )
            .hint("pipe it, or write it to a file: -o FILE"));
        }
        self.print(|out| {
            bytes.expose(|bytes| out.write_all(bytes))?;
            if self.to_terminal { out.write_all(b"\n") } else { Ok(()) }
        })
    }

    /// Prints lines as they are.
    pub(crate) fn lines(self, lines: &[SecretString]) -> Result<(), Failure> {
        self.print(|out| {
            for line in lines {
                line.expose(|text| out.write_all(text.as_bytes()))?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// Prints a JSON object on one line.
    pub(crate) fn object(self, fields: &Fields) -> Result<(), Failure> {
        self.json(&JsonValue::from(fields))
    }

    /// Prints what is no secret as JSON on one line.
    pub(crate) fn serialized(self, value: &impl Serialize) -> Result<(), Failure> {
        self.json(&json(value)?)
    }

    /// Tells what was done with the one thing that a command names: as JSON what it is, under `key`,
    /// else `note`.
    pub(crate) fn done(self, key: &str, name: &str, note: &str) -> Result<Exit, Failure> {
        if self.wants_json() {
            let mut object = Fields::new();
            object.set(key, JsonValue::string(&SecretString::copy_of(name)));
            self.object(&object)?;
        } else {
            self::note(note);
        }
        Ok(Exit::Done)
    }

    /// Tells that what was said would be done was not; as JSON with what it is about.
    pub(crate) fn dry_run(self, what: &impl Serialize, done: &str) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Planned<'a, T> {
            #[serde(flatten)]
            what: &'a T,
            dry_run: bool,
        }
        if self.json {
            self.serialized(&Planned { what, dry_run: true })?;
        }
        note(&format!("dry run: nothing was {done}"));
        Ok(())
    }

    /// Prints JSON on one line.
    pub(crate) fn json(self, json: &JsonValue) -> Result<(), Failure> {
        self.print(|out| {
            json.expose_json(|text| out.write_all(text.as_bytes()))?;
            out.write_all(b"\n")
        })
    }

    /// Prints rows: in columns under a heading for a person, separated by tabs for a program.
    pub(crate) fn table<const N: usize>(
        self,
        heading: [&str; N],
        rows: &[[Cell; N]],
    ) -> Result<(), Failure> {
        self.print(|out| self.write_table(out, heading, rows))
    }

    /// Prints a part of something longer, as it is; tells whether anybody still reads.
    pub(crate) fn part(self, text: &str) -> Result<Reading, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(Reading::GoesOn),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reading::Ended),
            Err(error) => Err(Failure::io("write to stdout", &error)),
        }
    }

    /// Writes to stdout.
    fn print(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match write(&mut stdout).and_then(|()| stdout.flush()) {
            Err(error)
                if error.kind() != io::ErrorKind::BrokenPipe || self.reader == Reader::MustStay =>
            {
                Err(Failure::io("write to stdout", &error))
            }
            Err(_) | Ok(()) => Ok(()),
        }
    }

    fn write_table<const N: usize>(
        self,
        out: &mut dyn Write,
        heading: [&str; N],
        rows: &[[Cell; N]],
    ) -> io::Result<()> {
        if !self.to_terminal {
            for row in rows {
                write_row(out, row.iter().map(|cell| (cell, 0)), "\t")?;
            }
            return Ok(());
        }
        let heading = heading.map(|text| Cell::Plain(text.to_owned()));
        let mut widths = [0; N];
        for row in rows.iter().chain([&heading]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let is_coloured = self.is_coloured();
        write_toned(out, is_coloured, Tone::Heading, |out| {
            write_row(out, heading.iter().zip(widths), "  ")
        })?;
        for row in rows {
            write_row(out, row.iter().zip(widths), "  ")?;
        }
        Ok(())
    }
}

impl Cell {
    /// Columns that the cell takes on a terminal, near enough.
    fn width(&self) -> usize {
        match self {
            Self::Plain(text) => text.chars().map(printed_width).sum(),
            Self::Secret(_, Sight::Masked) => MASK.chars().count(),
            Self::Secret(text, Sight::Shown) => {
                text.expose(|text| text.chars().map(printed_width).sum())
            }
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Plain(text) => write_printable(out, text),
            Self::Secret(_, Sight::Masked) => out.write_all(MASK.as_bytes()),
            Self::Secret(text, Sight::Shown) => text.expose(|text| write_printable(out, text)),
        }
    }
}

/// The text with what would steer a terminal spelled out.
pub(crate) fn printable(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    // Writing into a Vec cannot fail.
    write_printable(&mut out, text).unwrap_or_default();
    String::from_utf8(out).unwrap_or_default()
}

/// What is no secret, as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<JsonValue, Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("cannot write the answer as JSON: {error}")))?;
    JsonValue::parse(SecretString::from_string(text))
        .map_err(|error| Failure::new(format!("cannot write the answer as JSON: {error}")))
}

/// Stdout itself, for what is streamed: nothing of it is held back or looked at.
pub(crate) fn stream() -> Result<File, Failure> {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    stdout.map(File::from).map_err(|error| Failure::io("write to stdout", &error))
}

/// Tells a person something on stderr.
pub(crate) fn note(text: &str) {
    say(text);
}

/// Warns a person on stderr.
pub(crate) fn warn(text: &str) {
    say_in(Tone::Doubtful, "warning: ", text);
}

/// Tells a person of one change; `sign` is `+`, `-` or `~`, and `=` where there is none.
pub(crate) fn change(sign: char, text: &str) {
    say_in(tone_of_sign(sign), &format!("  {sign} "), text);
}

/// Has parts of the text coloured or not, for the rest of the process.
pub(crate) fn set_colour(colour: Colour) {
    // It is set once, before anything is printed.
    COLOUR.set(colour).unwrap_or_default();
}

/// Tells a person why the command failed, and what to do next.
pub(crate) fn failure(failure: &Failure) {
    say_in(Tone::Bad, "error: ", &failure.message);
    if let Some(hint) = &failure.hint {
        say_in(Tone::Next, "next:  ", &hint.replace('\n', "\n       "));
    }
}

/// Asks for something on stderr; what is typed comes on the same line.
pub(crate) fn ask(text: &str) {
    let mut stderr = io::stderr().lock();
    write_printable(&mut stderr, text).and_then(|()| stderr.flush()).unwrap_or_default();
}

/// Ends the line of a question whose answer was not shown.
pub(crate) fn end_line() {
    io::stderr().write_all(b"\n").unwrap_or_default();
}

/// Tells of a panic: where, and nothing of what.
pub(crate) fn internal_error(place: &str) {
    say(&format!("error: internal error at {place}; please report it with this place"));
}

/// Prints what the argument parser says, to the stream that is right for it, and what was meant.
///
/// A word that no command takes is not repeated: it may be a token or a share. Help that cannot be printed
/// is a failure.
pub(crate) fn arguments(mut error: clap::Error) -> Result<Exit, Failure> {
    if !error.use_stderr() {
        return match error.print().and_then(|()| io::stdout().flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::io("write to stdout", &error))
            }
            Err(_) | Ok(()) => Ok(Exit::Done),
        };
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(_) | None => None,
    };
    let word = text(ContextKind::InvalidArg).filter(|word| !word.starts_with('-'));
    let command = text(ContextKind::InvalidSubcommand);
    if error.kind() == ErrorKind::UnknownArgument && word.is_some() {
        error.insert(ContextKind::InvalidArg, ContextValue::String("…".to_owned()));
        error.print().unwrap_or_default();
        say_in(Tone::Next, "next:  ", UNASKED);
        return Ok(Exit::Usage);
    }
    error.print().unwrap_or_default();
    if let Some(meant) = command.as_deref().and_then(arguments::meant) {
        say_in(Tone::Next, "next:  ", meant);
    }
    Ok(Exit::Usage)
}

/// Whether the environment says that nobody is there to be asked.
pub(crate) fn is_automated() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Whether stdin and stderr are a person's terminal.
pub(crate) fn is_conversation() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether a person watches stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal() && !is_automated()
}

/// Writes lines to stderr. Nowhere is left to tell of its failure.
fn say(text: &str) {
    say_in(Tone::Plain, "", text);
}

/// The same, with something before it that has a tone.
fn say_in(tone: Tone, before: &str, text: &str) {
    let mut stderr = io::stderr().lock();
    let is_coloured = is_coloured(stderr.is_terminal());
    write_in(&mut stderr, is_coloured, tone, before).unwrap_or_default();
    for line in text.split('\n') {
        write_printable(&mut stderr, line)
            .and_then(|()| stderr.write_all(b"\n"))
            .unwrap_or_default();
    }
}

fn tone_of_sign(sign: char) -> Tone {
    match sign {
        '+' => Tone::Good,
        '-' => Tone::Bad,
        '~' => Tone::Doubtful,
        _ => Tone::Plain,
    }
}

/// Whether what goes to a stream is coloured. NO_COLOR wins over CLICOLOR_FORCE, as everywhere.
fn is_coloured(is_terminal: bool) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    match COLOUR.get().copied().unwrap_or_default() {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto if is_set("NO_COLOR") => false,
        Colour::Auto if is_set("CLICOLOR_FORCE") => {
            env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0")
        }
        Colour::Auto => is_terminal && env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// Writes text in a tone.
fn write_in(out: &mut dyn Write, is_coloured: bool, tone: Tone, text: &str) -> io::Result<()> {
    write_toned(out, is_coloured, tone, |out| write_printable(out, text))
}

/// Writes something in a tone (ECMA-48 §8.3.117).
fn write_toned(
    out: &mut dyn Write,
    is_coloured: bool,
    tone: Tone,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let code = match tone {
        Tone::Plain => return write(out),
        _ if !is_coloured => return write(out),
        Tone::Good => "32",
        Tone::Doubtful => "33",
        Tone::Bad => "31",
        Tone::Next => "36",
        Tone::Heading => "1",
    };
    write!(out, "\u{1b}[{code}m")?;
    write(out)?;
    out.write_all(b"\x1b[0m")
}

fn write_row<'a>(
    out: &mut dyn Write,
    cells: impl ExactSizeIterator<Item = (&'a Cell, usize)>,
    separator: &str,
) -> io::Result<()> {
    let last = cells.len().saturating_sub(1);
    for (n, (cell, width)) in cells.enumerate() {
        cell.write(out)?;
        if n < last {
            write!(out, "{:1$}{separator}", "", width.saturating_sub(cell.width()))?;
        }
    }
    out.write_all(b"\n")
}

/// Writes text with what would steer a terminal, or hide a part, spelled out.
fn write_printable(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let mut buffer = [0; 4];
    for char in text.chars() {
        if steers(char) {
            write!(out, "{}", char.escape_default())?;
        } else {
            out.write_all(char.encode_utf8(&mut buffer).as_bytes())?;
        }
    }
    Ok(())
}

fn printed_width(char: char) -> usize {
    if steers(char) { char.escape_default().count() } else { 1 }
}

/// Control characters, and the marks that turn the direction of text (Unicode TR 9).
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What was said on the command line.
static COLOUR: OnceLock<Colour> = OnceLock::new();

/// What to do with a word that a command does not take.
const UNASKED: &str = "one word is too many, and left out here, since it may be a secret: those are asked \
                       for, or read from stdin";

/// Of one length, so that it tells nothing of the value's.
const MASK: &str = "●●●●●●●●";

#[cfg(test)]
mod tests {
    use super::*;

    fn table(to_terminal: bool, sight: Sight) -> String {
        let rows = [("url", "postgres://x"), ("password", "a\u{1b}[2J\nb")].map(|(key, value)| {
            [Cell::Plain(key.to_owned()), Cell::Secret(SecretString::copy_of(value), sight)]
        });
        let mut out = Vec::new();
        let output = Output { json: false, to_terminal, reader: Reader::MayLeave };
        output.write_table(&mut out, ["KEY", "VALUE"], &rows).unwrap();
        // Whether it is coloured hangs on the environment of the tests.
        String::from_utf8(out).unwrap().replace("\u{1b}[1m", "").replace("\u{1b}[0m", "")
    }

    #[test]
    fn a_person_sees_columns_and_a_program_tabs() {
        assert_eq!(
            table(true, Sight::Masked),
            "KEY       VALUE\nurl       ●●●●●●●●\npassword  ●●●●●●●●\n"
        );
        assert_eq!(table(false, Sight::Shown), "url\tpostgres://x\npassword\ta\\u{1b}[2J\\nb\n");
    }

    #[test]
    fn a_tone_is_a_colour_and_never_goes_around_what_it_is_not_for() {
        let written = |is_coloured, tone| {
            let mut out = Vec::new();
            write_in(&mut out, is_coloured, tone, "a\u{1b}[2J").unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(true, Tone::Bad), "\u{1b}[31ma\\u{1b}[2J\u{1b}[0m");
        assert_eq!(written(false, Tone::Bad), "a\\u{1b}[2J");
        assert_eq!(written(true, Tone::Plain), "a\\u{1b}[2J");
    }

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        let mut out = Vec::new();
        write_printable(&mut out, "a\u{202e}b\u{7}c å🚲").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{202e}b\\u{7}c å🚲");
    }
}
