//! Files of `NAME=value` lines, as `docker`, `direnv` and the many dotenv loaders have them.
//!
//! - `NAME=value`, with or without `export` before it and spaces around `=`
//! - without quotes the value ends at the line's end or at ` #`; spaces around it are dropped
//! - `'…'` is taken as it is, over several lines too
//! - `"…"` the same, with `\n`, `\r`, `\t`, `\"`, `\\`, `\$` and `` \` `` for what they stand for
//! - a line that begins with `#` is a comment
//!
//! Loaders differ in what `$NAME` and `${NAME}` become, so outside `'…'` they are refused: nobody
//! should get another password than the file's author meant.

use std::{iter::Peekable, str::Chars};

use kista::secret::SecretString;

/// One line's name and value.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: SecretString,
    /// Where it stands in the file, from 1.
    pub(crate) line: usize,
}

/// Why a file is not understood. Nothing of a value is told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct DotenvError {
    pub(crate) line: usize,
    reason: Reason,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it is not of the form NAME=value")]
    NoAssignment,
    #[error("a name is letters, digits and '_', and begins with no digit")]
    Name,
    #[error("the quote of {0} is never closed")]
    Unclosed(String),
    #[error("after the closing quote of {0} comes more than a comment")]
    AfterQuote(String),
    #[error(
        "{0} holds a '$' that other loaders would replace; put the value into single quotes, or \
         write \\$ inside double ones"
    )]
    Expansion(String),
    #[error("{0} begins with a backquote, which would run a command in a shell; use single quotes")]
    Backquote(String),
    #[error("{0} holds a NUL, which no variable can hold")]
    Nul(String),
}

/// Whether a text may be the name of a variable (POSIX.1-2024 §3.216).
pub(crate) fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(letter) && bytes.all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// Reads a whole file, in the order of its lines.
pub(crate) fn parse(text: &str) -> Result<Vec<Variable>, DotenvError> {
    let mut reader =
        Reader { rest: text.trim_start_matches('\u{feff}').chars().peekable(), line: 1 };
    let mut variables = Vec::new();
    while reader.skip_to_name() {
        variables.push(reader.variable()?);
    }
    Ok(variables)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    /// Skips spaces, empty lines and comments; false at the end of the file.
    fn skip_to_name(&mut self) -> bool {
        loop {
            match self.rest.peek() {
                None => return false,
                Some('#') => self.skip_line(),
                Some(char) if char.is_whitespace() => {
                    self.next();
                }
                Some(_) => return true,
            }
        }
    }

    fn variable(&mut self) -> Result<Variable, DotenvError> {
        let line = self.line;
        let name = self.name().map_err(|reason| DotenvError { line, reason })?;
        let value = self.value(&name).map_err(|reason| DotenvError { line, reason })?;
        if value.contains('\0') {
            return Err(DotenvError { line, reason: Reason::Nul(name) });
        }
        Ok(Variable { name, value: SecretString::from_string(value), line })
    }

    /// Reads up to the `=` and over it.
    fn name(&mut self) -> Result<String, Reason> {
        let mut before = String::new();
        while let Some(char) = self.rest.next_if(|char| !matches!(char, '=' | '\n')) {
            before.push(char);
        }
        if self.next() != Some('=') {
            return Err(Reason::NoAssignment);
        }
        let before = before.trim();
        let name = match before.split_once([' ', '\t']) {
            Some(("export", name)) => name.trim_start(),
            Some(_) | None => before,
        };
        if is_name(name) { Ok(name.to_owned()) } else { Err(Reason::Name) }
    }

    fn value(&mut self, name: &str) -> Result<String, Reason> {
        let mut is_after_space = false;
        while self.rest.next_if(|char| matches!(char, ' ' | '\t')).is_some() {
            is_after_space = true;
        }
        match self.rest.peek() {
            Some('\'') => self.single_quoted(name),
            Some('"') => self.double_quoted(name),
            Some('`') => Err(Reason::Backquote(name.to_owned())),
            Some(_) | None => self.bare(name, is_after_space),
        }
    }

    fn single_quoted(&mut self, name: &str) -> Result<String, Reason> {
        self.next();
        let mut value = String::new();
        loop {
            match self.next() {
                None => return Err(Reason::Unclosed(name.to_owned())),
                Some('\'') => break,
                Some(char) => value.push(char),
            }
        }
        self.end_of_line(name)?;
        Ok(value)
    }

    fn double_quoted(&mut self, name: &str) -> Result<String, Reason> {
        self.next();
        let mut value = String::new();
        loop {
            match self.next() {
                None => return Err(Reason::Unclosed(name.to_owned())),
                Some('"') => break,
                Some('\\') => self.escaped(&mut value),
                Some('$') if self.begins_expansion() => {
                    return Err(Reason::Expansion(name.to_owned()));
                }
                Some(char) => value.push(char),
            }
        }
        self.end_of_line(name)?;
        Ok(value)
    }

    /// What follows a backslash; before anything that needs none it stays.
    fn escaped(&mut self, value: &mut String) {
        let plain = match self.rest.peek() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(char @ ('"' | '\\' | '$' | '`')) => *char,
            Some(_) | None => return value.push('\\'),
        };
        self.next();
        value.push(plain);
    }

    fn bare(&mut self, name: &str, mut is_after_space: bool) -> Result<String, Reason> {
        let mut value = String::new();
        while let Some(char) = self.rest.next_if(|char| *char != '\n') {
            match char {
                '#' if is_after_space => {
                    self.skip_line();
                    break;
                }
                '$' if self.begins_expansion() => {
                    return Err(Reason::Expansion(name.to_owned()));
                }
                _ => value.push(char),
            }
            is_after_space = matches!(char, ' ' | '\t');
        }
        value.truncate(value.trim_end().len());
        Ok(value)
    }

    /// Whether what follows a `$` makes it more than a character.
    fn begins_expansion(&mut self) -> bool {
        self.rest
            .peek()
            .is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '_' | '{' | '('))
    }

    fn end_of_line(&mut self, name: &str) -> Result<(), Reason> {
        loop {
            match self.rest.peek() {
                None | Some('\n' | '#') => {
                    self.skip_line();
                    return Ok(());
                }
                Some(' ' | '\t' | '\r') => {
                    self.next();
                }
                Some(_) => return Err(Reason::AfterQuote(name.to_owned())),
            }
        }
    }

    fn skip_line(&mut self) {
        while self.rest.next_if(|char| *char != '\n').is_some() {}
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, usize)> {
        let variables = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let plain = |value: &SecretString| value.expose(str::to_owned);
        variables.iter().map(|v| (v.name.clone(), plain(&v.value), v.line)).collect()
    }

    /// The value of a file of one variable, `A`.
    fn value(text: &str) -> String {
        let [(name, value, _)] = read(text).try_into().unwrap();
        assert_eq!(name, "A", "{text:?}");
        value
    }

    fn refused(text: &str) -> (usize, String) {
        let error = parse(text).unwrap_err();
        (error.line, error.to_string())
    }

    #[test]
    fn a_bare_value_ends_with_its_line_or_a_comment() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=b\n", "b"),
            ("A=b\r\n", "b"),
            ("A=", ""),
            ("A = b c  ", "b c"),
            ("A=b # said", "b"),
            ("A=b#c", "b#c"),
            ("A= # said", ""),
            ("A=#b", "#b"),
            ("A=b=c==", "b=c=="),
            (r"A=C:\new", r"C:\new"),
            (r#"A=it's "so""#, r#"it's "so""#),
            ("A=pa$$5w$", "pa$$5w$"),
            ("A=a`b", "a`b"),
            ("A=åäö 🚲", "åäö 🚲"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn single_quotes_keep_everything() {
        for (text, expected) in [
            ("A=''", ""),
            (r"A='a\n$B ${C} `d` #e'", r"a\n$B ${C} `d` #e"),
            ("A='two\nlines'", "two\nlines"),
            ("A='b' # said", "b"),
            ("A='b'\r\n", "b"),
            ("A='\"'", "\""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn double_quotes_know_escapes() {
        for (text, expected) in [
            (r#"A="""#, ""),
            (r#"A="a\nb\tc\rd""#, "a\nb\tc\rd"),
            (r#"A="\"\\\$\`""#, "\"\\$`"),
            (r#"A="\d\'\u0041""#, r"\d\'\u0041"),
            ("A=\"two\nlines\" # said", "two\nlines"),
            (r#"A="$ $5 a#b 'c'""#, "$ $5 a#b 'c'"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_comments_and_exports() {
        let text = "\u{feff}# first\n\n  export A=1\nexport\tB='x\ny'\n\t# more\n_c9 =3\nexport=4";
        let expected = [("A", "1", 3), ("B", "x\ny", 4), ("_c9", "3", 7), ("export", "4", 8)];
        let expected =
            expected.map(|(name, value, line)| (name.to_owned(), value.to_owned(), line));
        assert_eq!(read(text), expected);
        assert!(read("").is_empty() && read("\n# only this").is_empty());
        assert_eq!(read("A=1\nA=2").len(), 2);
    }

    #[test]
    fn what_is_no_assignment_is_refused_with_its_line() {
        for (text, line, reason) in [
            ("A=1\nB\nC=2", 2, "NAME=value"),
            ("A=\nB", 2, "NAME=value"),
            ("=x", 1, "a name is"),
            ("9A=x", 1, "a name is"),
            ("A-B=x", 1, "a name is"),
            ("A B=x", 1, "a name is"),
            ("Å=x", 1, "a name is"),
            ("A='x\ny\nB=2", 1, "quote of A is never closed"),
            ("A=\"x", 1, "quote of A is never closed"),
            ("A=\"x\\\"", 1, "quote of A is never closed"),
            ("A='x'y", 1, "after the closing quote of A"),
            ("A=\"x\"\"y\"", 1, "after the closing quote of A"),
            ("\nA=`id`", 2, "backquote"),
            ("A=x\0y", 1, "NUL"),
        ] {
            let (found, message) = refused(text);
            assert_eq!(found, line, "{text:?}");
            assert!(message.contains(reason), "{text:?}: {message}");
        }
    }

    #[test]
    fn what_other_loaders_replace_is_refused_and_not_quoted() {
        for text in ["A=hunter2$B", "A=hunter2${B}", "A=\"hunter2$B\"", "A=\"hunter2 $(id)\""] {
            let (_, message) = refused(text);
            assert!(message.contains("single quotes") && !message.contains("hunter2"), "{message}");
        }
        assert_eq!(value(r#"A="\$B \${C}""#), "$B ${C}");
    }

    #[test]
    fn debug_shows_no_value() {
        assert!(!format!("{:?}", parse("A=hunter2").unwrap()).contains("hunter2"));
    }
}
