//! Which names are looked for.

/// A pattern: part of a name whatever its case, or with `*`, `**` and `?` the whole of it.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pattern: Vec<Piece>,
    /// Whether the pattern is for paths, not for the last name of one.
    of_paths: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`: any character of a name.
    One,
    /// `*`: any number of them.
    Many,
    /// `**`: slashes too.
    All,
}

impl Filter {
    pub(crate) fn new(pattern: &str) -> Self {
        let of_paths = pattern.contains('/');
        if !pattern.contains(['*', '?']) {
            let mut pieces = vec![Piece::All];
            pieces.extend(pattern.chars().flat_map(char::to_lowercase).map(Piece::Char));
            pieces.push(Piece::All);
            return Self { pattern: pieces, of_paths };
        }
        let mut pieces = Vec::new();
        for char in pattern.chars().flat_map(char::to_lowercase) {
            match (char, pieces.last()) {
                ('*', Some(Piece::Many | Piece::All)) => {
                    pieces.pop();
                    pieces.push(Piece::All);
                }
                ('*', _) => pieces.push(Piece::Many),
                ('?', _) => pieces.push(Piece::One),
                (char, _) => pieces.push(Piece::Char(char)),
            }
        }
        Self { pattern: pieces, of_paths }
    }

    /// Whether a path, such as `secret/app/db`, is looked for.
    pub(crate) fn is_path(&self, path: &str) -> bool {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        self.matches(if self.of_paths { path } else { name })
    }

    /// Whether a key is looked for.
    pub(crate) fn is_key(&self, key: &str) -> bool {
        !self.of_paths && self.matches(key)
    }

    /// One pass over the text, with every place of the pattern that it may have come to: no pattern
    /// takes longer than its length times the text's.
    fn matches(&self, text: &str) -> bool {
        let mut places = vec![false; self.pattern.len() + 1];
        if let Some(first) = places.first_mut() {
            *first = true;
        }
        self.skip_empty(&mut places);
        for char in text.chars().flat_map(char::to_lowercase) {
            let mut next = vec![false; places.len()];
            let reached = places.iter().zip(&self.pattern).enumerate().filter(|(_, (at, _))| **at);
            for (place, (_, piece)) in reached {
                let (stays, goes_on) = match piece {
                    Piece::Char(wanted) => (false, *wanted == char),
                    Piece::One => (false, char != '/'),
                    Piece::Many => (char != '/', false),
                    Piece::All => (true, false),
                };
                for to in [stays.then_some(place), goes_on.then_some(place + 1)] {
                    if let Some(cell) = to.and_then(|to| next.get_mut(to)) {
                        *cell = true;
                    }
                }
            }
            self.skip_empty(&mut next);
            places = next;
        }
        places.last().copied().unwrap_or_default()
    }

    /// `*` and `**` stand for nothing too.
    fn skip_empty(&self, places: &mut [bool]) {
        let mut before = false;
        for (n, place) in places.iter_mut().enumerate() {
            let piece = n.checked_sub(1).and_then(|n| self.pattern.get(n));
            *place |= before && matches!(piece, Some(Piece::Many | Piece::All));
            before = *place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_looked_for_in_the_last_name_whatever_its_case() {
        let filter = Filter::new("DB");
        assert!(filter.is_path("secret/app/my-db-old") && filter.is_path("db"));
        assert!(!filter.is_path("secret/db/app"));
        assert!(filter.is_key("dB_url"));
    }

    #[test]
    fn a_word_with_a_slash_is_looked_for_in_the_path() {
        let filter = Filter::new("app/db");
        assert!(filter.is_path("secret/app/db2") && !filter.is_path("secret/app"));
        assert!(!filter.is_key("app/db"));
    }

    #[test]
    fn a_pattern_is_for_the_whole() {
        for (pattern, path, found) in [
            ("db*", "secret/db-1", true),
            ("db*", "secret/my-db", false),
            ("db?", "secret/db1", true),
            ("db?", "secret/db", false),
            ("*", "secret/a/b", true),
            ("secret/*/db", "secret/app/db", true),
            ("secret/*/db", "secret/a/b/db", false),
            ("secret/**/db", "secret/a/b/db", true),
            ("**/db", "secret/a/b/db", true),
            ("a*b*c", "secret/aXbYc", true),
            ("a*b*c", "secret/aXbY", false),
            ("å*", "secret/Åäö", true),
        ] {
            assert_eq!(Filter::new(pattern).is_path(path), found, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer() {
        let filter = Filter::new(&"a*".repeat(200));
        assert!(!filter.is_key(&format!("{}b", "a".repeat(150))));
    }
}
