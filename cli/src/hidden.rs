//! Reading a line from the terminal that is not shown while it is typed.

use std::io;

use kista::secret::SecretString;
use rustix::{
    io::{Errno, read},
    stdio::stdin,
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Reads a line from stdin, which is a terminal. Ctrl-C and the like come as what is typed and not
/// as signals, so that the terminal is as it was before when the program ends because of them.
pub(crate) fn line() -> Result<SecretString, Failure> {
    let failed = |error: Errno| Failure::io("read from the terminal", &error.into());
    let _quiet = Quiet::begin().map_err(failed)?;
    let mut typed = Typed::default();
    let mut byte = Zeroizing::new([0]);
    loop {
        let count = match read(stdin(), byte.as_mut_slice()) {
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failed(error)),
        };
        let next = match byte.first() {
            Some(byte) if count > 0 => typed.take(*byte),
            Some(_) | None => Next::NoMore,
        };
        match next {
            Next::More => {}
            Next::Line => return typed.text(),
            Next::Interrupted => return Err(Failure::interrupted()),
            Next::NoMore => {
                return Err(Failure::io(
                    "read from the terminal",
                    &io::ErrorKind::UnexpectedEof.into(),
                ));
            }
        }
    }
}

/// A terminal that shows nothing of what is typed and hands on each byte, until it is dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn begin() -> Result<Self, Errno> {
        let before = tcgetattr(stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may have gone.
        tcsetattr(stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// What was typed so far.
struct Typed(Zeroizing<Vec<u8>>);

/// What a byte asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Line,
    Interrupted,
    NoMore,
}

impl Default for Typed {
    fn default() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(ROOM)))
    }
}

impl Typed {
    /// Takes a byte as a terminal would that edits lines by itself (termios(3)).
    fn take(&mut self, byte: u8) -> Next {
        match byte {
            b'\n' | b'\r' => return Next::Line,
            INTERRUPT | QUIT => return Next::Interrupted,
            END if self.0.is_empty() => return Next::NoMore,
            BACKSPACE | DELETE => self.forget_char(),
            KILL => self.0.clear(),
            // Arrow keys and the like: what they would do cannot be seen.
            0..=0x1f => {}
            byte => self.push(byte),
        }
        Next::More
    }

    fn push(&mut self, byte: u8) {
        if self.0.len() == self.0.capacity() {
            // Into a larger place, and the smaller one is wiped.
            let mut larger = Zeroizing::new(Vec::with_capacity(self.0.capacity() * 2));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.push(byte);
    }

    fn forget_char(&mut self) {
        // Bytes after the first of a character in UTF-8 begin with 10 (RFC 3629 section 3).
        while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
    }

    fn text(&self) -> Result<SecretString, Failure> {
        std::str::from_utf8(&self.0)
            .map(SecretString::copy_of)
            .map_err(|_| Failure::new("what was typed is not UTF-8 text"))
    }
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const QUIT: u8 = 0x1c;
const DELETE: u8 = 0x7f;
/// Longer than what is typed by hand.
const ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (String, Next) {
        let mut typed = Typed::default();
        let mut next = Next::More;
        for byte in bytes {
            next = typed.take(*byte);
        }
        (typed.text().unwrap().expose(str::to_owned), next)
    }

    #[test]
    fn a_line_is_edited_as_it_is_typed() {
        assert_eq!(typed("aå🚲\u{7f}\u{8}b\n".as_bytes()), ("ab".to_owned(), Next::Line));
        assert_eq!(typed(b"wrong\x15right\r"), ("right".to_owned(), Next::Line));
        assert_eq!(typed(b"\x7f\x08x\t"), ("x".to_owned(), Next::More));
    }

    #[test]
    fn keys_end_the_asking() {
        assert_eq!(typed(b"a\x03").1, Next::Interrupted);
        assert_eq!(typed(b"\x1c").1, Next::Interrupted);
        assert_eq!(typed(b"\x04").1, Next::NoMore);
        assert_eq!(typed(b"a\x04").1, Next::More);
    }

    #[test]
    fn a_long_line_is_whole() {
        let long = vec![b'x'; 3 * ROOM];
        assert_eq!(typed(&long).0.len(), 3 * ROOM);
    }
}
