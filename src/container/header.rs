use super::{
    cursor::{Cursor, push_prefixed},
    passphrase::Passphrase,
    transit::Transit,
};

/// What a file says of itself, in the clear. Its payload commits to every byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    stanzas: Vec<Stanza>,
    content_type: String,
    user_context: Vec<u8>,
}

/// One way to the file key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stanza {
    /// A vault unwraps it.
    Transit(Transit),
    /// A passphrase does.
    Passphrase(Passphrase),
}

/// Why bytes are no header of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A length in it does not fit the bytes there are, or a text is not UTF-8.
    #[error("its header is damaged")]
    Damaged,
    /// Its length is beyond any header's.
    #[error("its header would be {0} bytes long; the longest is 65536")]
    TooLong(u32),
    /// No stanza, or more than 16.
    #[error("its header holds {0} ways to its key, where 1 to 16 can be")]
    Count(u8),
    /// A way to the key that this version does not know.
    #[error("its key is wrapped in a way (type {0}) that this version does not know")]
    UnknownStanza(u8),
    /// A passphrase, and something else beside it.
    #[error("a passphrase stands beside another way to its key, which none of ours does")]
    NotAlone,
    /// Argon2 parameters outside what FORMAT.md 8 allows.
    #[error("the cost of its passphrase is out of bounds")]
    Cost,
}

impl Header {
    /// A header with these ways to the key. `user_context` is the caller's own, such as the name of
    /// the row that a file belongs to.
    ///
    /// # Errors
    /// [`HeaderError::Count`] and [`HeaderError::NotAlone`] for stanzas that cannot be, and
    /// [`HeaderError::TooLong`] when it would not be read again.
    pub fn new(
        stanzas: Vec<Stanza>,
        content_type: &str,
        user_context: &[u8],
    ) -> Result<Self, HeaderError> {
        check(&stanzas)?;
        let (content_type, user_context) = (content_type.to_owned(), user_context.to_vec());
        let header = Self { stanzas, content_type, user_context };
        let length = header.encode().len();
        if length > LONGEST {
            return Err(HeaderError::TooLong(u32::try_from(length).unwrap_or(u32::MAX)));
        }
        Ok(header)
    }

    /// The ways to the key; at least one.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// What the plaintext is, as its writer says.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The caller's own.
    pub fn user_context(&self) -> &[u8] {
        &self.user_context
    }

    /// The header with what a vault answers left out of each transit stanza: the associated data
    /// under which a vault wraps the file key, so that no stanza serves another file.
    pub fn bound(&self) -> Vec<u8> {
        let mut bound = WRAP_LABEL.to_vec();
        self.encode_into(&mut bound, Transit::encode_asked);
        bound
    }

    /// Sets what a vault has answered for its stanza.
    #[must_use]
    pub fn answered(mut self, version: u64, wrapped: [u8; Transit::WRAPPED_BYTES]) -> Self {
        for stanza in &mut self.stanzas {
            if let Stanza::Transit(transit) = stanza {
                (transit.version, transit.wrapped) = (version, wrapped);
            }
        }
        self
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out, Transit::encode);
        out
    }

    /// `lp(header)` behind a magic.
    pub(super) fn prefix(&self, magic: &[u8; 8]) -> Vec<u8> {
        let mut prefix = magic.to_vec();
        push_prefixed(&mut prefix, &self.encode());
        prefix
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(bytes);
        let count = cursor.byte().ok_or(HeaderError::Damaged)?;
        if !STANZAS.contains(&usize::from(count)) {
            return Err(HeaderError::Count(count));
        }
        let mut stanzas = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let code = cursor.byte().ok_or(HeaderError::Damaged)?;
            let body = cursor.prefixed().ok_or(HeaderError::Damaged)?;
            stanzas.push(match code {
                TRANSIT => Stanza::Transit(Transit::parse(body)?),
                PASSPHRASE => Stanza::Passphrase(Passphrase::parse(body)?),
                unknown => return Err(HeaderError::UnknownStanza(unknown)),
            });
        }
        check(&stanzas)?;
        let content_type = text(cursor.prefixed()).ok_or(HeaderError::Damaged)?;
        let user_context = cursor.prefixed().ok_or(HeaderError::Damaged)?.to_vec();
        if !cursor.rest().is_empty() {
            return Err(HeaderError::Damaged);
        }
        Ok(Self { stanzas, content_type, user_context })
    }

    fn encode_into(&self, out: &mut Vec<u8>, transit: impl Fn(&Transit) -> Vec<u8>) {
        // `check` has counted them.
        out.push(u8::try_from(self.stanzas.len()).unwrap_or(u8::MAX));
        for stanza in &self.stanzas {
            let (code, body) = match stanza {
                Stanza::Transit(stanza) => (TRANSIT, transit(stanza)),
                Stanza::Passphrase(stanza) => (PASSPHRASE, stanza.encode()),
            };
            out.push(code);
            push_prefixed(out, &body);
        }
        push_prefixed(out, self.content_type.as_bytes());
        push_prefixed(out, &self.user_context);
    }
}

/// Bytes that must be UTF-8.
pub(super) fn text(bytes: Option<&[u8]>) -> Option<String> {
    std::str::from_utf8(bytes?).ok().map(str::to_owned)
}

fn check(stanzas: &[Stanza]) -> Result<(), HeaderError> {
    if !STANZAS.contains(&stanzas.len()) {
        return Err(HeaderError::Count(u8::try_from(stanzas.len()).unwrap_or(u8::MAX)));
    }
    let has_passphrase = stanzas.iter().any(|stanza| matches!(stanza, Stanza::Passphrase(_)));
    if has_passphrase && stanzas.len() > 1 {
        return Err(HeaderError::NotAlone);
    }
    Ok(())
}

const STANZAS: std::ops::RangeInclusive<usize> = 1..=16;
const TRANSIT: u8 = 1;
const PASSPHRASE: u8 = 3;
/// Sixteen stanzas and a long context; more is refused before memory is taken for it.
pub(super) const LONGEST: usize = 64 * 1024;
const WRAP_LABEL: &[u8] = b"kista/file/wrap/1\0";
