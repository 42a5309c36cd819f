use std::{cmp::Reverse, ops::Range};

/// The paths a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    /// One path.
    Exact(String),
    /// All paths that begin so.
    Prefix(String),
    /// Paths whose segments fit.
    Segments(SegmentPattern),
}

impl Pattern {
    /// Reads a rule's path: `+` is any one segment, a `*` at the end is anything, and elsewhere
    /// both are plain characters. `None` for `+*`, which Vault refuses.
    pub(super) fn parse(path: &str) -> Option<Self> {
        if path.contains("+*") {
            return None;
        }
        // Vault's paths begin after the slash.
        let path = path.strip_prefix('/').unwrap_or(path);
        let (text, is_prefix) = match path.strip_suffix('*') {
            Some(text) => (text, true),
            None => (path, false),
        };
        let plus_segments = text.split('/').filter(|&segment| segment == PLUS).count();
        let head = text.split('/').take_while(|&segment| segment != PLUS);
        let head_bytes = head.map(|segment| segment.len() + 1).sum();
        let text = text.to_owned();
        Some(match (plus_segments, is_prefix) {
            (0, false) => Self::Exact(text),
            (0, true) => Self::Prefix(text),
            (plus_segments, is_prefix) => {
                Self::Segments(SegmentPattern { text, is_prefix, head_bytes, plus_segments })
            }
        })
    }
}

/// A pattern with `+` for at least one segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SegmentPattern {
    /// Without the `*` at its end.
    text: String,
    is_prefix: bool,
    /// Length of what stands before the first `+`.
    head_bytes: usize,
    plus_segments: usize,
}

impl SegmentPattern {
    /// Whether `path` fits. A `+` fits an empty segment too, so that `a/+` is for the list of `a/`.
    pub(super) fn matches(&self, path: &str) -> bool {
        // Most patterns end here, without their segments being looked at.
        let (Some((head, own)), Some((given_head, rest))) =
            (self.text.split_at_checked(self.head_bytes), path.split_at_checked(self.head_bytes))
        else {
            return false;
        };
        if head != given_head {
            return false;
        }
        let mut rest = rest.split('/');
        let mut own = own.split('/').peekable();
        while let Some(segment) = own.next() {
            let Some(given) = rest.next() else { return false };
            let is_last = own.peek().is_none();
            let fits = segment == PLUS
                || segment == given
                || is_last && self.is_prefix && given.starts_with(segment);
            if !fits {
                return false;
            }
        }
        self.is_prefix || rest.next().is_none()
    }

    /// Whether a path that begins with `folder`, which ends in a slash, can fit.
    pub(super) fn reaches_below(&self, folder: &str) -> bool {
        let mut own = self.text.split('/').peekable();
        for given in folder.strip_suffix('/').unwrap_or(folder).split('/') {
            let Some(segment) = own.next() else { return false };
            let is_last = own.peek().is_none();
            if is_last && self.is_prefix && given.starts_with(segment) {
                return true;
            }
            if segment != PLUS && segment != given {
                return false;
            }
        }
        own.peek().is_some()
    }

    pub(super) fn rank(&self) -> Rank<'_> {
        let plus_segments = Reverse(self.plus_segments);
        (self.head_bytes, !self.is_prefix, plus_segments, self.text.len(), &self.text)
    }
}

/// How specific a pattern is; of those that fit a path only the greatest counts. Vault's order: the
/// place of the first wildcard, then no `*` at the end, fewer `+`, the length, the text.
pub(super) type Rank<'a> = (usize, bool, Reverse<usize>, usize, &'a str);

/// The rank of a [`Pattern::Prefix`].
pub(super) fn prefix_rank(text: &str) -> Rank<'_> {
    (text.len(), false, Reverse(0), text.len(), text)
}

/// Prefixes in an order that finds the longest one of a path with one binary search.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    /// Sorted by text.
    entries: Vec<PrefixEntry<T>>,
}

#[derive(Debug)]
struct PrefixEntry<T> {
    text: String,
    /// The longest other prefix of this text, which stands before it.
    parent: Option<usize>,
    value: T,
}

impl<T> Prefixes<T> {
    /// Texts must differ.
    pub(super) fn new(mut prefixes: Vec<(String, T)>) -> Self {
        prefixes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut entries: Vec<PrefixEntry<T>> = Vec::with_capacity(prefixes.len());
        for (text, value) in prefixes {
            let before = entries.len().checked_sub(1);
            let parent = Self::prefix_of(&entries, before, &text);
            entries.push(PrefixEntry { text, parent, value });
        }
        Self { entries }
    }

    /// The prefixes of `path`, the longest first.
    pub(super) fn of<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a T)> {
        // What stands between a path and its longest prefix begins with that prefix too, so that
        // the chain of parents from the last entry before the path leads through it.
        let after = self.entries.partition_point(|entry| entry.text.as_str() <= path);
        let mut next = Self::prefix_of(&self.entries, after.checked_sub(1), path);
        std::iter::from_fn(move || {
            let entry = self.entries.get(next?)?;
            next = entry.parent;
            Some((entry.text.as_str(), &entry.value))
        })
    }

    /// The entries whose text begins with `folder`.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = &T> {
        let start = self.entries.partition_point(|entry| entry.text.as_str() < folder);
        let tail: Range<usize> = start..self.entries.len();
        self.entries
            .get(tail)
            .unwrap_or_default()
            .iter()
            .take_while(move |entry| entry.text.starts_with(folder))
            .map(|entry| &entry.value)
    }

    /// The first of `from` and its ancestors that is a prefix of `path`.
    fn prefix_of(entries: &[PrefixEntry<T>], from: Option<usize>, path: &str) -> Option<usize> {
        let mut next = from;
        while let Some(entry) = entries.get(next?) {
            if path.starts_with(&entry.text) {
                return next;
            }
            next = entry.parent;
        }
        None
    }
}

const PLUS: &str = "+";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(path: &str) -> SegmentPattern {
        match Pattern::parse(path).unwrap() {
            Pattern::Segments(pattern) => pattern,
            other @ (Pattern::Exact(_) | Pattern::Prefix(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn wildcards_count_only_in_their_places() {
        let exact = |text: &str| Some(Pattern::Exact(text.to_owned()));
        assert_eq!(Pattern::parse("a/b"), exact("a/b"));
        assert_eq!(Pattern::parse("/a/b"), exact("a/b"));
        assert_eq!(Pattern::parse("a/*/c"), exact("a/*/c"));
        assert_eq!(Pattern::parse("a/+b/c"), exact("a/+b/c"));
        assert_eq!(Pattern::parse("a/b+"), exact("a/b+"));
        assert_eq!(Pattern::parse("a*"), Some(Pattern::Prefix("a".to_owned())));
        assert_eq!(Pattern::parse("*"), Some(Pattern::Prefix(String::new())));
        assert_eq!(Pattern::parse("a/+*"), None);
        assert_eq!(Pattern::parse("+*/a"), None);
        for path in ["+", "+/a", "a/+", "a/+/b*", "a/+/*"] {
            segments(path);
        }
    }

    #[test]
    fn segments_match_one_for_one() {
        for (pattern, path, matches) in [
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/+/c", "a/b/x/c", false),
            ("a/+/c", "a/b/c/d", false),
            ("a/+/c", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/", false),
            ("+", "x", true),
            ("+/b", "a/b", true),
            ("a/+/c*", "a/b/cd/e", true),
            ("a/+/c*", "a/b/c", true),
            ("a/+/c*", "a/b/d", false),
            ("a/+/*", "a/b/", true),
            ("a/+/*", "a/b", false),
            ("a/+b/+", "a/+b/c", true),
            ("a/+b/+", "a/xb/c", false),
        ] {
            assert_eq!(segments(pattern).matches(path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn what_lies_below_a_folder_is_seen_through_segments() {
        for (pattern, folder, reaches) in [
            ("team/+/data/x", "team/kv/", true),
            ("+/kv/x", "team/kv/", true),
            ("+/k*", "team/kv/", true),
            ("+/other/x", "team/kv/", false),
            ("team/+", "team/kv/", false),
            ("team/+/", "team/kv/", true),
            ("+/x", "team/kv/", false),
        ] {
            assert_eq!(segments(pattern).reaches_below(folder), reaches, "{pattern} {folder}");
        }
    }

    #[test]
    fn ranks_follow_vaults_rules_in_their_order() {
        let ascending = [
            "+/b/c",            // the first wildcard comes earliest
            "secret/+/+/foo/*", // more segments of `+` than the next, though longer
            "secret/+/a*",      // `*` at the end
            "secret/+/ab*",
            "secret/+/+",
            "secret/+/aa",
            "secret/+/ab", // the text decides last
            "secret/+/abc",
            "secret/x/+", // the first wildcard comes latest
        ];
        let patterns: Vec<_> = ascending.iter().map(|path| segments(path)).collect();
        assert!(patterns.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
        assert!(segments("secret/+/+/foo/*").rank() < prefix_rank("secret/"));
        assert!(segments("secret/+/foo").rank() > prefix_rank("secret/"));
        assert!(segments("secret/+/foo").rank() < prefix_rank("secret/a"));
    }

    proptest! {
        #[test]
        fn all_prefixes_of_a_path_are_found(
            texts in proptest::collection::hash_set("[ab]{0,4}", 0..12),
            path in "[abc]{0,6}",
        ) {
            let prefixes = Prefixes::new(texts.iter().map(|text| (text.clone(), ())).collect());
            let found: Vec<_> = prefixes.of(&path).map(|(text, ())| text.to_owned()).collect();
            let mut expected: Vec<_> =
                texts.iter().filter(|text| path.starts_with(text.as_str())).cloned().collect();
            expected.sort_unstable_by_key(|text| Reverse(text.len()));
            prop_assert_eq!(found, expected);
            let below = texts.iter().filter(|text| text.starts_with(&path)).count();
            prop_assert_eq!(prefixes.below(&path).count(), below);
        }
    }
}
