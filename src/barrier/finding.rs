use super::{
    Keyring,
    names::Segment,
    space::{LEAF, NamesGeneration, SpaceId},
};

/// Something wrong with one record, or with all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// The space of the record's key, when it has one.
    pub space: Option<SpaceId>,
    /// The path inside the space, when its names open; secret as all names are.
    pub path: Option<String>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The record does not open in its place.
    Damaged,
    /// The record opens, but it is not the newest one of its key, or stands where none should.
    Stale,
    /// A chunk whose value is not there, or does not have it.
    Orphan,
    /// The key is none that is ever written.
    Foreign,
    /// The records together are not those that the newest head counts.
    Sums,
    /// The index cannot be read.
    Index,
}

impl Fault {
    /// One word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Stale => "stale",
            Self::Orphan => "orphan",
            Self::Foreign => "foreign",
            Self::Sums => "sums",
            Self::Index => "index",
        }
    }
}

impl Finding {
    /// A fault of the whole.
    pub(super) fn of_all(fault: Fault) -> Self {
        Self { fault, space: None, path: None }
    }

    /// A fault of the record under a key.
    pub(super) fn at(keyring: &Keyring, key: &[u8], fault: Fault) -> Self {
        let place = Place::parse(key);
        let path = place.as_ref().and_then(|place| place.path(keyring));
        Self { fault, space: place.map(|place| place.space), path }
    }
}

/// A storage key, cut into its parts (FORMAT.md 5).
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) generation: NamesGeneration,
    pub(super) space: SpaceId,
    names: &'a [u8],
    /// The key of the value that a chunk belongs to, and the chunk's number.
    pub(super) chunk: Option<(&'a [u8], u32)>,
}

impl<'a> Place<'a> {
    /// Cuts a key; `None` when it is none that is ever written.
    pub(super) fn parse(key: &'a [u8]) -> Option<Self> {
        let (generation, rest) = NamesGeneration::split_off(key)?;
        let (space, names) = rest.split_first_chunk::<16>()?;
        let mut rest = names;
        while rest.first() != Some(&LEAF) {
            rest = Segment::split_off(rest)?.1;
        }
        let (names, tail) = names.split_at_checked(names.len() - rest.len())?;
        let chunk = match tail.get(1..)? {
            [] => None,
            index => {
                let index = u32::from_be_bytes(index.try_into().ok()?);
                if index == 0 {
                    return None;
                }
                Some((key.get(..key.len() - 4)?, index))
            }
        };
        (!names.is_empty()).then_some(Self { generation, space: SpaceId(*space), names, chunk })
    }

    /// The path, when every name opens.
    pub(super) fn path(&self, keyring: &Keyring) -> Option<String> {
        let siv = keyring.names_cipher(self.generation, self.space)?;
        let (mut parent, mut rest) = (self.space.0, self.names);
        let mut path = Vec::new();
        while !rest.is_empty() {
            let (segment, after) = Segment::split_off(rest)?;
            path.push(segment.open(&siv, &parent).ok()?);
            (parent, rest) = (*segment.siv, after);
        }
        Some(path.join("/"))
    }
}
