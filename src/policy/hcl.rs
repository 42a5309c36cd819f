use super::{
    lexer::{Dialect, Lexer, Token},
    parse_error::{ParseError, Problem},
};

/// A key and its value: `key = value`, `key "label" { … }` or `"key": value`.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Name,
    pub(super) label: Option<Name>,
    pub(super) value: Node,
}

/// A key or a label, and the byte offset where it stands.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) offset: usize,
}

/// A value, and the byte offset where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) offset: usize,
}

/// What a key can have.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// As it is written; the form is JSON's.
    Number(String),
    Bool(bool),
    List(Vec<Node>),
    Object(Vec<Item>),
}

/// Reads the subset of HCL version 1 that policies use, or JSON when the text begins with a brace.
///
/// # Errors
/// [`ParseError`] with the first place that is wrong.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, ParseError> {
    if !text.trim_start().starts_with('{') {
        return Parser::new(text, Dialect::Hcl)?.items(&Token::End, 0);
    }
    if let Err(error) = crate::json::check(text.as_bytes()) {
        return Err(ParseError::at(text, error.offset, Problem::Json(error.reason)));
    }
    let mut parser = Parser::new(text, Dialect::Json)?;
    parser.advance()?;
    parser.items(&Token::Mark('}'), 0)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    offset: usize,
    token: Token<'a>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, dialect: Dialect) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text, dialect);
        let (offset, token) = lexer.next()?;
        Ok(Self { lexer, offset, token })
    }

    /// Takes the present token and goes on to the next.
    fn advance(&mut self) -> Result<(usize, Token<'a>), ParseError> {
        let (offset, token) = self.lexer.next()?;
        Ok((std::mem::replace(&mut self.offset, offset), std::mem::replace(&mut self.token, token)))
    }

    /// Reads items up to `end`, which stays. A comma may follow each of them.
    fn items(&mut self, end: &Token<'_>, depth: usize) -> Result<Vec<Item>, ParseError> {
        let mut items = Vec::new();
        while self.token != *end {
            items.push(self.item(end, depth)?);
            if self.token == Token::Mark(',') {
                self.advance()?;
            }
        }
        Ok(items)
    }

    fn item(&mut self, end: &Token<'_>, depth: usize) -> Result<Item, ParseError> {
        let expected = if *end == Token::End { "a key" } else { "a key or `}`" };
        let key = self.name(expected)?;
        let label = match self.token {
            Token::Word(_) | Token::Text(_) => Some(self.name("a label")?),
            Token::Number(_) | Token::Mark(_) | Token::Assign | Token::End => None,
        };
        let value = match (&self.token, &label) {
            (Token::Mark('{'), _) => self.value(depth)?,
            (Token::Assign, None) => {
                self.advance()?;
                self.value(depth)?
            }
            (_, Some(_)) => return Err(self.unexpected("`{`")),
            (_, None) => return Err(self.unexpected("`=`, `{` or a quoted path")),
        };
        Ok(Item { key, label, value })
    }

    fn name(&mut self, expected: &'static str) -> Result<Name, ParseError> {
        let text = match &mut self.token {
            Token::Word(word) => (*word).to_owned(),
            Token::Text(text) => std::mem::take(text),
            Token::Number(_) | Token::Mark(_) | Token::Assign | Token::End => {
                return Err(self.unexpected(expected));
            }
        };
        let (offset, _) = self.advance()?;
        Ok(Name { text, offset })
    }

    fn value(&mut self, depth: usize) -> Result<Node, ParseError> {
        if depth == MAX_DEPTH {
            return Err(self.lexer.error(self.offset, Problem::TooDeep));
        }
        let (offset, token) = self.advance()?;
        let value = match token {
            Token::Text(text) => Value::Text(text),
            Token::Number(number) => Value::Number(number.to_owned()),
            Token::Word("true") => Value::Bool(true),
            Token::Word("false") => Value::Bool(false),
            Token::Mark('[') => Value::List(self.list(depth + 1)?),
            Token::Mark('{') => {
                let items = self.items(&Token::Mark('}'), depth + 1)?;
                self.advance()?;
                Value::Object(items)
            }
            other @ (Token::Word(_) | Token::Mark(_) | Token::Assign | Token::End) => {
                let found = other.shown();
                let problem = Problem::Unexpected { expected: "a value", found };
                return Err(self.lexer.error(offset, problem));
            }
        };
        Ok(Node { value, offset })
    }

    /// Reads a list's values and its closing bracket. A comma may follow the last value.
    fn list(&mut self, depth: usize) -> Result<Vec<Node>, ParseError> {
        let mut values = Vec::new();
        while self.token != Token::Mark(']') {
            values.push(self.value(depth)?);
            if self.token == Token::Mark(',') {
                self.advance()?;
            } else if self.token != Token::Mark(']') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
        self.advance()?;
        Ok(values)
    }

    fn unexpected(&self, expected: &'static str) -> ParseError {
        let problem = Problem::Unexpected { expected, found: self.token.shown() };
        self.lexer.error(self.offset, problem)
    }
}

/// The deepest nesting of lists and blocks; policies need four.
pub(super) const MAX_DEPTH: usize = 16;
