use super::parse_error::{ParseError, Problem, excerpt};
use crate::json;

/// How a key is joined to its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `key = value`
    Hcl,
    /// `"key": value`; the text has passed [`crate::json::check`].
    Json,
}

/// A word of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A bare word: a key, `true` or `false`.
    Word(&'a str),
    /// A quoted text or a heredoc, without its escapes.
    Text(String),
    /// A decimal number as it is written.
    Number(&'a str),
    /// One of the marks `{ } [ ] ,`.
    Mark(char),
    /// `=`, in JSON `:`.
    Assign,
    /// The end of the text.
    End,
}

impl Token<'_> {
    /// The token as an error shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) | Self::Number(word) => format!("`{}`", excerpt(word)),
            Self::Text(text) => format!("{:?}", excerpt(text)),
            Self::Mark(mark) => format!("`{mark}`"),
            Self::Assign => "`=`".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Cuts a policy's text into tokens, each with the byte offset where it begins.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    dialect: Dialect,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { text, dialect, at: 0 }
    }

    /// The next token; [`Token::End`] for ever after the last.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), ParseError> {
        self.skip_blanks()?;
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok((start, Token::End)) };
        let token = match first {
            '{' | '}' | '[' | ']' | ',' => self.mark(Token::Mark(first)),
            '=' if self.dialect == Dialect::Hcl => self.mark(Token::Assign),
            ':' if self.dialect == Dialect::Json => self.mark(Token::Assign),
            '"' => Token::Text(self.quoted()?),
            '<' if rest.starts_with("<<") => Token::Text(self.heredoc()?),
            '-' | '0'..='9' => Token::Number(self.number()?),
            'a'..='z' | 'A'..='Z' | '_' => Token::Word(self.word()),
            other => {
                let found = format!("{other:?}");
                let expected = "a key, a value or a bracket";
                return Err(self.error(start, Problem::Unexpected { expected, found }));
            }
        };
        Ok((start, token))
    }

    pub(super) fn error(&self, offset: usize, problem: Problem) -> ParseError {
        ParseError::at(self.text, offset, problem)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn mark(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }

    /// Goes past blanks, line ends and comments.
    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            let rest = self.rest();
            let text = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            self.at += rest.len() - text.len();
            if text.starts_with('#') || text.starts_with("//") {
                self.at += text.find('\n').unwrap_or(text.len());
            } else if text.starts_with("/*") {
                let Some(end) = text.find("*/") else {
                    return Err(self.error(self.at, Problem::UnclosedComment));
                };
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let (word, _) = rest.split_at(rest.find(|c| !part_of_word(c)).unwrap_or(rest.len()));
        self.at += word.len();
        word
    }

    fn number(&mut self) -> Result<&'a str, ParseError> {
        let rest = self.rest();
        let part_of_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
        let (number, _) = rest.split_at(rest.find(|c| !part_of_number(c)).unwrap_or(rest.len()));
        // JSON's numbers are HCL's decimal ones; hexadecimal and octal ones are not taken.
        if json::check(number.as_bytes()) != Ok(json::Kind::Number) {
            let found = Token::Number(number).shown();
            let problem = Problem::Unexpected { expected: "a decimal number", found };
            return Err(self.error(self.at, problem));
        }
        self.at += number.len();
        Ok(number)
    }

    /// Reads a quoted text. `${` means nothing here: policies are stored as they stand.
    fn quoted(&mut self) -> Result<String, ParseError> {
        let opening = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = rest.find(['"', '\\', '\n']).unwrap_or(rest.len());
            let (read, rest) = rest.split_at(plain);
            text.push_str(read);
            self.at += plain;
            match rest.chars().next() {
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(_) | None => return Err(self.error(opening, Problem::UnclosedText)),
            }
        }
    }

    /// Reads an escape of HCL or JSON.
    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.at;
        let refused = || ParseError::at(self.text, start, Problem::Escape);
        let letter = self.text.get(start + 1..).and_then(|rest| rest.chars().next());
        let (character, length) = match letter.ok_or_else(refused)? {
            plain @ ('"' | '\\' | '/') => (plain, 2),
            'n' => ('\n', 2),
            't' => ('\t', 2),
            'r' => ('\r', 2),
            'b' => ('\u{8}', 2),
            'f' => ('\u{c}', 2),
            'U' => (self.code(start, 8).and_then(char::from_u32).ok_or_else(refused)?, 10),
            'u' => {
                let high = self.code(start, 4).ok_or_else(refused)?;
                // JSON writes characters beyond U+FFFF as a pair of UTF-16 surrogates.
                if let (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) = (high, self.low_unit(start)) {
                    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).ok_or_else(refused)?, 12)
                } else {
                    (char::from_u32(high).ok_or_else(refused)?, 6)
                }
            }
            _ => return Err(refused()),
        };
        self.at += length;
        Ok(character)
    }

    /// The second half of a pair of `\uXXXX` of which the first begins at `start`.
    fn low_unit(&self, start: usize) -> Option<u32> {
        let second = start + 6;
        self.text.get(second..)?.starts_with("\\u").then(|| self.code(second, 4)).flatten()
    }

    /// The hexadecimal digits of the escape that begins at `start`.
    fn code(&self, start: usize, digits: usize) -> Option<u32> {
        let hex = self.text.get(start + 2..start + 2 + digits)?;
        hex.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u32::from_str_radix(hex, 16).ok()
    }

    /// Reads `<<NAME` or `<<-NAME`, lines, and `NAME` on a line of its own. With the minus sign
    /// the closing line's indentation is taken off every line.
    fn heredoc(&mut self) -> Result<String, ParseError> {
        let unclosed = self.error(self.at, Problem::UnclosedHeredoc);
        let rest = self.rest();
        let Some((opening, body)) = rest.split_once('\n') else { return Err(unclosed) };
        let name = opening.trim_start_matches('<').trim_end();
        let (name, indented) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(unclosed);
        }
        let mut length = opening.len() + 1;
        let mut lines = Vec::new();
        for line in body.split_inclusive('\n') {
            if line.trim() == name {
                self.at += length + line.trim_end().len();
                let indentation = line.len() - line.trim_start().len();
                let indentation = line.get(..indentation).unwrap_or_default();
                let shown = |line: &'a str| match line.strip_prefix(indentation) {
                    Some(rest) if indented => rest,
                    Some(_) | None => line,
                };
                return Ok(lines.into_iter().map(shown).collect());
            }
            length += line.len();
            lines.push(line);
        }
        Err(unclosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heredoc_loses_the_indentation_of_its_last_line_where_it_says_so() {
        for (text, read) in [
            ("<<E\n  a\n b\n  E\n", "  a\n b\n"),
            ("<<-E\n  a\n b\n  E\n", "a\n b\n"),
            ("<<-E\n    a\n\tb\n  E\n", "  a\n\tb\n"),
            ("<<-E\na\nE", "a\n"),
            ("<<E\nE", ""),
        ] {
            let mut lexer = Lexer::new(text, Dialect::Hcl);
            assert_eq!(lexer.next().unwrap(), (0, Token::Text(read.to_owned())), "{text:?}");
            assert_eq!(lexer.next().unwrap(), (text.len(), Token::End), "{text:?}");
        }
    }
}
