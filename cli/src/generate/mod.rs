//! Values that are made rather than typed, and how hard they are to guess.
//!
//! - `words.txt`: the 2,048 English words of BIP 39 (`words.LICENSE`), which differ in their first
//!   four letters

use std::{fmt, str::FromStr};

use kista::{crypto::random, secret::SecretString};

/// How a value is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Policy {
    /// So many characters of these classes, and at least one of each.
    Characters { length: usize, classes: Vec<Class> },
    /// So many words, with hyphens between.
    Words { count: usize },
}

/// A set of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Lower,
    Upper,
    Digits,
    Symbols,
    /// Digits and `a` to `f`.
    Hex,
}

/// A key whose value is made: `KEY[:POLICY]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generated {
    pub(crate) key: String,
    pub(crate) policy: Policy,
}

/// Why a policy is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("its key is missing: KEY[:LENGTH][:CLASSES]")]
    NoKey,
    #[error(
        "{0:?} is neither a length nor a class: letters, lower, upper, digits, symbols, hex, words"
    )]
    Part(String),
    #[error("a length is from {least} to {most}")]
    Length { least: usize, most: usize },
    #[error("hex and words stand alone")]
    Alone,
}

impl Policy {
    /// Makes a value.
    pub(crate) fn generate(&self) -> SecretString {
        match self {
            Self::Words { count } => words(*count),
            Self::Characters { length, classes } => {
                let alphabet: Vec<u8> =
                    classes.iter().flat_map(|class| class.characters().bytes()).collect();
                loop {
                    let drawn = characters(*length, &alphabet);
                    // Drawn again as a whole, so that each value with all classes is as likely.
                    let has = |class: &Class| {
                        drawn.expose(|text| text.contains(|char| class.characters().contains(char)))
                    };
                    if classes.iter().all(has) {
                        return drawn;
                    }
                }
            }
        }
    }

    /// Bits of a value's strength: the logarithm of how many there are, each as likely.
    pub(crate) fn bits(&self) -> f64 {
        match self {
            Self::Words { count } => real(*count) * real(WORDS.lines().count()).log2(),
            Self::Characters { length, classes } => {
                let sizes: Vec<f64> =
                    classes.iter().map(|class| real(class.characters().len())).collect();
                let all: f64 = sizes.iter().sum();
                // Inclusion and exclusion: without those that lack a class.
                let share: f64 = (0..1_u32 << sizes.len())
                    .map(|lacking| {
                        let lost = sizes.iter().enumerate().filter(|(n, _)| lacking >> n & 1 == 1);
                        let lost: f64 = lost.map(|(_, size)| size).sum();
                        let sign = if lacking.count_ones() % 2 == 0 { 1.0 } else { -1.0 };
                        sign * ((all - lost) / all).powf(real(*length))
                    })
                    .sum();
                real(*length) * all.log2() + share.log2()
            }
        }
    }

    /// Reads `LENGTH`, `CLASSES` or both, in any order: `32`, `6:digits`, `20:letters+symbols`.
    fn parse(parts: &[&str]) -> Result<Self, PolicyError> {
        let (mut length, mut classes, mut is_words) = (None, Vec::new(), false);
        for part in parts {
            if let Ok(number) = part.parse::<usize>()
                && length.is_none()
            {
                length = Some(number);
                continue;
            }
            for word in part.split('+') {
                match word {
                    "words" => is_words = true,
                    "letters" => classes.extend([Class::Lower, Class::Upper]),
                    "lower" => classes.push(Class::Lower),
                    "upper" => classes.push(Class::Upper),
                    "digits" => classes.push(Class::Digits),
                    "symbols" => classes.push(Class::Symbols),
                    "hex" => classes.push(Class::Hex),
                    other => return Err(PolicyError::Part(other.to_owned())),
                }
            }
        }
        Self::of(length, classes, is_words)
    }

    fn of(length: Option<usize>, classes: Vec<Class>, is_words: bool) -> Result<Self, PolicyError> {
        if is_words {
            let count = length.unwrap_or(WORDS_USUALLY);
            return match classes.is_empty() {
                true => within(count, 1, MOST_WORDS).map(|count| Self::Words { count }),
                false => Err(PolicyError::Alone),
            };
        }
        let mut unique: Vec<Class> = Vec::new();
        for class in classes {
            if !unique.contains(&class) {
                unique.push(class);
            }
        }
        if unique.contains(&Class::Hex) && unique.len() > 1 {
            return Err(PolicyError::Alone);
        }
        if unique.is_empty() {
            unique = vec![Class::Lower, Class::Upper, Class::Digits];
        }
        // Shorter, a value with one of each would be drawn for ever.
        let length = within(length.unwrap_or(LENGTH_USUALLY), unique.len(), MOST_CHARACTERS)?;
        Ok(Self::Characters { length, classes: unique })
    }
}

impl Default for Policy {
    /// Letters and digits need no quoting in a URL, a shell or a file.
    fn default() -> Self {
        let classes = vec![Class::Lower, Class::Upper, Class::Digits];
        Self::Characters { length: LENGTH_USUALLY, classes }
    }
}

impl fmt::Display for Policy {
    /// Such as `32 characters, 190 bits`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (many, what) = match self {
            Self::Characters { length, .. } => (*length, "character"),
            Self::Words { count } => (*count, "word"),
        };
        let plural = if many == 1 { "" } else { "s" };
        write!(f, "{many} {what}{plural}, {:.0} bits", self.bits().floor())
    }
}

impl Class {
    fn characters(self) -> &'static str {
        match self {
            Self::Lower => "abcdefghijklmnopqrstuvwxyz",
            Self::Upper => "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            Self::Digits => "0123456789",
            // Without quotes, backslash and backtick, which end or change what is around them.
            Self::Symbols => "!#$%&()*+,-./:;<=>?@[]^_{|}~",
            Self::Hex => "0123456789abcdef",
        }
    }
}

impl FromStr for Generated {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let key = parts.next().filter(|key| !key.is_empty()).ok_or(PolicyError::NoKey)?;
        let policy = Policy::parse(&parts.collect::<Vec<_>>())?;
        Ok(Self { key: key.to_owned(), policy })
    }
}

fn within(number: usize, least: usize, most: usize) -> Result<usize, PolicyError> {
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(PolicyError::Length { least, most })
    }
}

fn characters(length: usize, alphabet: &[u8]) -> SecretString {
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        text.extend(alphabet.get(below(alphabet.len())).copied().map(char::from));
    }
    SecretString::from_string(text)
}

fn words(count: usize) -> SecretString {
    let all: Vec<&str> = WORDS.lines().collect();
    // No word is longer than 8 letters: the text does not grow into a second buffer.
    let mut text = String::with_capacity(count * 9);
    for n in 0..count {
        if n > 0 {
            text.push('-');
        }
        text.extend(all.get(below(all.len())).copied());
    }
    SecretString::from_string(text)
}

/// A number below `end`, which is at most 65,536, each as likely.
fn below(end: usize) -> usize {
    let end = u32::try_from(end).unwrap_or(1).max(1);
    // Numbers from the last multiple of `end` on would favour the first ones.
    let refused = 65_536 - 65_536 % end;
    loop {
        let drawn = u32::from(u16::from_le_bytes(random::array()));
        if drawn < refused {
            return usize::try_from(drawn % end).unwrap_or_default();
        }
    }
}

/// A count as a real number; counts here are small.
fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

const WORDS: &str = include_str!("words.txt");
const LENGTH_USUALLY: usize = 32;
const WORDS_USUALLY: usize = 6;
const MOST_CHARACTERS: usize = 4_096;
const MOST_WORDS: usize = 256;

#[cfg(test)]
mod tests;
