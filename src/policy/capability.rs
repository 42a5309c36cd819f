use std::fmt;

/// What a rule can grant on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Write what is not there yet.
    Create,
    /// Delete.
    Delete,
    /// Nothing, whatever else is granted.
    Deny,
    /// List the names directly below.
    List,
    /// Change in part.
    Patch,
    /// Read.
    Read,
    /// List all names below.
    Scan,
    /// Use a root-protected path, with the capability of the operation itself.
    Sudo,
    /// Write what is there already.
    Update,
}

impl Capability {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Delete,
        Self::Deny,
        Self::List,
        Self::Patch,
        Self::Read,
        Self::Scan,
        Self::Sudo,
        Self::Update,
    ];

    /// The word in policies and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Deny => "deny",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Read => "read",
            Self::Scan => "scan",
            Self::Sudo => "sudo",
            Self::Update => "update",
        }
    }

    /// The capability of that name; `None` for other words.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of capabilities. It holds [`Capability::Deny`] alone or not at all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u16);

impl Capabilities {
    /// The empty set, which grants nothing.
    pub const NONE: Self = Self(0);
    /// The set that also keeps others from granting.
    pub const DENY: Self = Self(Capability::Deny.bit());

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `capability` is in it.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether it grants anything.
    pub fn grants_any(self) -> bool {
        !self.is_empty() && self != Self::DENY
    }

    /// What both sets hold; deny wins.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let both = Self(self.0 | other.0);
        if both.contains(Capability::Deny) { Self::DENY } else { both }
    }

    /// The capabilities, in the order of their names.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |&capability| self.contains(capability))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities
            .into_iter()
            .fold(Self::NONE, |set, capability| set.union(Self(capability.bit())))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_leaves_nothing_beside_it() {
        let set: Capabilities =
            [Capability::Read, Capability::Deny, Capability::Sudo].into_iter().collect();
        assert_eq!(set, Capabilities::DENY);
        assert!(!set.grants_any());
        assert!(!set.contains(Capability::Read));
        let read: Capabilities = [Capability::Read].into_iter().collect();
        assert_eq!(read.union(Capabilities::DENY), Capabilities::DENY);
    }

    #[test]
    fn names_come_back_and_are_sorted() {
        let names: Vec<_> = Capability::ALL.iter().map(|capability| capability.name()).collect();
        assert!(names.is_sorted());
        for capability in Capability::ALL {
            assert_eq!(Capability::from_name(capability.name()), Some(capability));
        }
        assert_eq!(Capability::from_name("Read"), None);
    }
}
