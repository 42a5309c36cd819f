use crate::json;

/// Parameters and the values that a rule names for them; no values means any value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parameters(Vec<(String, Vec<Literal>)>);

/// A value in a policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// A text; one `*` at either end stands for anything.
    Text(String),
    /// A number as it is written.
    Number(String),
    Bool(bool),
    List(Vec<Self>),
}

impl Parameters {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every parameter is meant.
    pub(super) fn has_star(&self) -> bool {
        self.0.iter().any(|(name, _)| name == STAR)
    }

    /// Adds a parameter. If it is there already, the values of both count; any value wins.
    pub(super) fn add(&mut self, name: &str, values: &[Literal]) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known.is_empty() || values.is_empty() => known.clear(),
            Some((_, known)) => known.extend_from_slice(values),
            None => self.0.push((name.to_owned(), values.to_vec())),
        }
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        for (name, values) in &others.0 {
            self.add(name, values);
        }
    }

    /// Whether these, as a rule's allowed parameters, let a field through. No parameters allow all.
    pub(super) fn allow(&self, field: &str, raw: &str) -> bool {
        match self.values(field) {
            Some(values) => values.is_empty() || values.iter().any(|value| value.allows(raw)),
            None => self.is_empty() || self.has_star(),
        }
    }

    /// Whether these, as a rule's denied parameters, keep a field out.
    pub(super) fn deny(&self, field: &str, raw: &str) -> bool {
        self.has_star()
            || self
                .values(field)
                .is_some_and(|values| values.is_empty() || holds_denied(values, raw))
    }

    fn values(&self, field: &str) -> Option<&[Literal]> {
        self.0
            .iter()
            .find(|(name, _)| name != STAR && is_named(field, name))
            .map(|(_, values)| values.as_slice())
    }
}

/// Whether a request's field is the one a rule names, in lower case. As in Vault, a rule means all
/// spellings of a name.
fn is_named(field: &str, lower_case_name: &str) -> bool {
    field.chars().flat_map(char::to_lowercase).eq(lower_case_name.chars())
}

impl Literal {
    /// Whether a field's value is exactly what the rule names.
    fn allows(&self, raw: &str) -> bool {
        match self {
            Self::Text(pattern) => json::text(raw).is_some_and(|text| glob_matches(pattern, &text)),
            Self::Number(_) | Self::Bool(_) | Self::List(_) => self.equals(raw),
        }
    }

    /// As [`Self::allows`], but a `*` is only itself, as everywhere inside lists.
    fn equals(&self, raw: &str) -> bool {
        match self {
            Self::Text(text) => json::text(raw).is_some_and(|given| *given == **text),
            Self::Number(number) => same_number(number, raw),
            Self::Bool(bool) => raw == bool_word(*bool),
            Self::List(literals) => {
                let mut parts = json::parts(raw);
                raw.starts_with('[')
                    && literals
                        .iter()
                        .all(|literal| parts.next().is_some_and(|(_, part)| literal.equals(part)))
                    && parts.next().is_none()
            }
        }
    }
}

/// Whether a value is one of those denied, or holds one.
///
/// Differs from Vault: it looks into lists and objects, takes `5` and `"5"` for the same, sees the
/// parts of `"a,b"`, and a lone `*` means anything. Routes decode weakly, so that a denied value
/// could otherwise be spelled past the rule.
fn holds_denied(denied: &[Literal], raw: &str) -> bool {
    if denied.iter().any(|literal| literal.equals(raw)) {
        return true;
    }
    match json::text(raw) {
        Some(text) => {
            is_denied_text(denied, &text)
                || text.split(',').any(|part| is_denied_text(denied, part.trim()))
        }
        // Depth is bounded by `json::check`.
        None if raw.starts_with(['[', '{']) => {
            json::parts(raw).any(|(_, part)| holds_denied(denied, part))
        }
        None => is_denied_text(denied, raw),
    }
}

fn is_denied_text(denied: &[Literal], given: &str) -> bool {
    denied.iter().any(|literal| match literal {
        Literal::Text(pattern) => pattern == STAR || glob_matches(pattern, given),
        Literal::Number(number) => same_number(number, given),
        Literal::Bool(bool) => given == bool_word(*bool),
        Literal::List(_) => false,
    })
}

fn bool_word(bool: bool) -> &'static str {
    if bool { "true" } else { "false" }
}

/// Vault's globs: a `*` at the beginning, the end or both; a lone `*` is only itself.
fn glob_matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern.len() < 2 => pattern == text,
        (Some(rest), Some(_)) => text.contains(rest.strip_suffix('*').unwrap_or_default()),
        (Some(end), None) => text.ends_with(end),
        (None, Some(beginning)) => text.starts_with(beginning),
        (None, None) => pattern == text,
    }
}

/// Whether two decimal numbers are equal. Those that a double does not hold exactly must also be
/// written alike.
fn same_number(a: &str, b: &str) -> bool {
    let exact = |text: &str| text.bytes().filter(u8::is_ascii_digit).count() <= 15;
    let value = |text: &str| text.parse::<f64>().ok().filter(|_| exact(text));
    a == b || value(a).is_some_and(|a| value(b) == Some(a))
}

/// As a parameter's name it stands for all of them.
const STAR: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(entries: &[(&str, &[Literal])]) -> Parameters {
        let mut parameters = Parameters::default();
        for (name, values) in entries {
            parameters.add(name, values);
        }
        parameters
    }

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    fn number(number: &str) -> Literal {
        Literal::Number(number.to_owned())
    }

    #[test]
    fn only_named_parameters_and_values_are_allowed() {
        let allowed = parameters(&[("a", &[text("1"), text("x*")]), ("b", &[])]);
        assert!(allowed.allow("a", r#""1""#));
        assert!(allowed.allow("a", r#""xyz""#));
        assert!(allowed.allow("A", r#""\u0078yz""#));
        assert!(allowed.allow("b", r#"{"any":["thing"]}"#));
        assert!(!allowed.allow("a", r#""2""#));
        assert!(!allowed.allow("a", "1"));
        assert!(!allowed.allow("a", r#"["1"]"#));
        assert!(!allowed.allow("c", r#""1""#));
    }

    #[test]
    fn a_star_allows_all_other_parameters() {
        let allowed = parameters(&[("bar", &[text("zip")]), ("*", &[])]);
        assert!(allowed.allow("other", "1"));
        assert!(allowed.allow("bar", r#""zip""#));
        assert!(!allowed.allow("bar", r#""zap""#));
        assert!(parameters(&[]).allow("anything", "1"));
    }

    #[test]
    fn denied_values_are_denied_and_others_are_not() {
        let denied = parameters(&[("a", &[text("bad"), number("5")]), ("secret", &[])]);
        assert!(denied.deny("a", r#""bad""#));
        assert!(denied.deny("A", r#""bad""#));
        assert!(denied.deny("SECRET", r#""x""#));
        assert!(!denied.deny("a", r#""good""#));
        assert!(!denied.deny("a", "null"));
        assert!(!denied.deny("other", r#""bad""#));
        assert!(!parameters(&[]).deny("a", "1"));
        assert!(parameters(&[("*", &[])]).deny("whatever", "1"));
    }

    #[test]
    fn a_denied_value_cannot_be_spelled_past_the_rule() {
        let denied = parameters(&[("a", &[text("bad"), number("5"), Literal::Bool(false)])]);
        for raw in [
            r#""b\u0061d""#,
            r#"["good","bad"]"#,
            r#"{"x":["bad"]}"#,
            r#""good, bad""#,
            r#""5""#,
            "5",
            "5.0",
            "[5]",
            "false",
            r#""false""#,
        ] {
            assert!(denied.deny("a", raw), "{raw}");
        }
        assert!(parameters(&[("a", &[text("*")])]).deny("a", r#""x""#));
    }

    #[test]
    fn globs_are_vaults() {
        for (pattern, given, matches) in [
            ("foo*", "foobar", true),
            ("foo*", "xfoo", false),
            ("*foo", "xfoo", true),
            ("*foo", "foox", false),
            ("*foo*", "xfoox", true),
            ("*foo*", "fo", false),
            ("f*o", "fxo", false),
            ("f*o", "f*o", true),
            ("**", "", true),
            ("*", "x", false),
            ("*", "*", true),
            ("", "", true),
        ] {
            assert_eq!(glob_matches(pattern, given), matches, "{pattern} {given}");
        }
    }

    #[test]
    fn numbers_and_lists_are_equal_by_value() {
        assert!(number("5").allows("5"));
        assert!(number("5").allows("5.0"));
        assert!(!number("9007199254740992").allows("9007199254740993"));
        assert!(number("9007199254740993").allows("9007199254740993"));
        let list = Literal::List(vec![text("a*"), number("1")]);
        assert!(list.allows(r#"[ "a*" , 1 ]"#));
        assert!(!list.allows(r#"["ab",1]"#));
        assert!(!list.allows(r#"["a*"]"#));
        assert!(!list.allows(r#"["a*",1,2]"#));
        assert!(!Literal::List(vec![]).allows("{}"));
    }

    #[test]
    fn values_of_two_rules_add_up_and_any_value_wins() {
        let mut merged = parameters(&[("a", &[text("1")]), ("b", &[text("1")])]);
        merged.add_all(&parameters(&[("a", &[text("2")]), ("b", &[]), ("c", &[])]));
        assert!(merged.allow("a", r#""1""#) && merged.allow("a", r#""2""#));
        assert!(!merged.allow("a", r#""3""#));
        assert!(merged.allow("b", r#""3""#) && merged.allow("c", r#""3""#));
    }
}
