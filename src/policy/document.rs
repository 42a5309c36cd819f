use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::{
    capability::{Capabilities, Capability},
    hcl::{self, Item, Node, Value},
    parameters::{Literal, Parameters},
    parse_error::{ParseError, Problem, excerpt},
    pattern::Pattern,
    rule::{Policy, Rule, Terms},
};
use crate::clock::{Timestamp, parse_duration};

/// Reads a policy in HCL or, when it begins with a brace, in JSON.
///
/// What is read is enforced: a key that restricts in Vault or OpenBao and that Kista lacks is
/// refused. A rule whose path holds a template (`{{identity…}}`) is read, and grants nothing.
///
/// # Errors
/// [`ParseError`] with the first place that is wrong; texts over [`MAX_TEXT_BYTES`] are refused.
pub fn parse(name: &str, text: &str) -> Result<Policy, ParseError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(ParseError::at(text, MAX_TEXT_BYTES, Problem::TooLarge));
    }
    let reader = Reader { text };
    let mut rules = Vec::new();
    for item in hcl::parse(text)? {
        match item.key.text.as_str() {
            "path" => reader.rules(item, &mut rules)?,
            // Vault takes a name and goes by that of the request.
            "name" => {
                reader.text("name", &item.value)?;
            }
            unknown => {
                let problem = Problem::UnknownKey(excerpt(unknown).to_owned());
                return Err(reader.error(item.key.offset, problem));
            }
        }
    }
    Ok(Policy { name: Arc::from(name), rules })
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    /// Reads `path "x" { … }`, or in JSON an object of paths or a list of such objects.
    fn rules(&self, item: Item, rules: &mut Vec<Arc<Rule>>) -> Result<(), ParseError> {
        let expected = "a path in quotes and its block";
        if let Some(label) = item.label {
            rules.push(Arc::new(self.rule(&label.text, label.offset, &item.value)?));
            return Ok(());
        }
        let objects = match item.value.value {
            Value::List(objects) => objects,
            Value::Object(_) => vec![item.value],
            Value::Text(_) | Value::Number(_) | Value::Bool(_) => {
                return Err(self.wrong_kind("path", &item.value, expected));
            }
        };
        for object in objects {
            let Value::Object(paths) = object.value else {
                return Err(self.wrong_kind("path", &object, expected));
            };
            for path in paths {
                if let Some(label) = path.label {
                    return Err(self.wrong_kind_at("path", label.offset, expected));
                }
                rules.push(Arc::new(self.rule(&path.key.text, path.key.offset, &path.value)?));
            }
        }
        Ok(())
    }

    fn rule(&self, path: &str, offset: usize, block: &Node) -> Result<Rule, ParseError> {
        let named =
            |error: ParseError| ParseError { path: Some(excerpt(path).to_owned()), ..error };
        let pattern = if path.contains("{{") {
            None
        } else {
            let plus_star = || named(self.error(offset, Problem::PlusStar));
            Some(Pattern::parse(path).ok_or_else(plus_star)?)
        };
        let Value::Object(items) = &block.value else {
            return Err(named(self.wrong_kind("path", block, "a block in braces")));
        };
        let mut rule = Rule { pattern, expiration: None, terms: Terms::default() };
        let mut seen = Vec::new();
        for item in items {
            self.attribute(item, &mut seen, &mut rule).map_err(named)?;
        }
        let terms = &mut rule.terms;
        if terms.max_wrapping_ttl.is_some_and(|max| terms.min_wrapping_ttl > Some(max)) {
            return Err(named(self.error(offset, Problem::WrappingTtlOrder)));
        }
        Ok(rule)
    }

    /// Reads one key of a rule. `seen` are those before it.
    fn attribute(
        &self,
        item: &Item,
        seen: &mut Vec<&'static str>,
        rule: &mut Rule,
    ) -> Result<(), ParseError> {
        let Some(&key) = KEYS.iter().chain(UNSUPPORTED_KEYS).find(|&&key| key == item.key.text)
        else {
            let problem = Problem::UnknownKey(excerpt(&item.key.text).to_owned());
            return Err(self.error(item.key.offset, problem));
        };
        if let Some(label) = &item.label {
            return Err(self.wrong_kind_at(key, label.offset, "joined to its value by `=`"));
        }
        // Capabilities add up, as those of two rules for one path do.
        if seen.contains(&key) && key != "capabilities" {
            return Err(self.error(item.key.offset, Problem::Duplicate(key)));
        }
        seen.push(key);
        let (node, terms) = (&item.value, &mut rule.terms);
        match key {
            "capabilities" => {
                terms.capabilities = terms.capabilities.union(self.capabilities(key, node)?);
            }
            "policy" => terms.capabilities = terms.capabilities.union(self.old_policy(node)?),
            "allowed_parameters" => terms.allowed = self.parameters(key, node)?,
            "denied_parameters" => terms.denied = self.parameters(key, node)?,
            "required_parameters" => terms.required = self.names(key, node)?,
            "min_wrapping_ttl" => terms.min_wrapping_ttl = self.ttl(key, node)?,
            "max_wrapping_ttl" => terms.max_wrapping_ttl = self.ttl(key, node)?,
            "pagination_limit" => terms.pagination_limit = self.limit(key, node)?,
            "expiration" => rule.expiration = Some(self.time(key, node)?),
            "comment" => {
                self.text(key, node)?;
            }
            unsupported => {
                return Err(self.error(item.key.offset, Problem::Unsupported(unsupported)));
            }
        }
        Ok(())
    }

    fn capabilities(&self, key: &str, node: &Node) -> Result<Capabilities, ParseError> {
        let words = self.list(key, node, TEXTS)?;
        let capability = |word| {
            let name = self.text(key, word)?;
            Capability::from_name(name).ok_or_else(|| {
                let problem = Problem::UnknownCapability(excerpt(name).to_owned());
                self.error(word.offset, problem)
            })
        };
        words.iter().map(capability).collect()
    }

    /// The words of the time before capabilities.
    fn old_policy(&self, node: &Node) -> Result<Capabilities, ParseError> {
        use Capability::{Create, Delete, Deny, List, Read, Sudo, Update};
        let word = self.text("policy", node)?;
        let capabilities: &[Capability] = match word {
            "deny" => &[Deny],
            "read" => &[Read, List],
            "write" => &[Create, Read, Update, Delete, List],
            "sudo" => &[Create, Read, Update, Delete, List, Sudo],
            _ => {
                let problem = Problem::UnknownPolicyWord(excerpt(word).to_owned());
                return Err(self.error(node.offset, problem));
            }
        };
        Ok(capabilities.iter().copied().collect())
    }

    fn parameters(&self, key: &str, node: &Node) -> Result<Parameters, ParseError> {
        let expected = "a block of parameters, each with a list of values";
        let Value::Object(items) = &node.value else {
            return Err(self.wrong_kind(key, node, expected));
        };
        let mut parameters = Parameters::default();
        for item in items {
            if let Some(label) = &item.label {
                return Err(self.wrong_kind_at(key, label.offset, expected));
            }
            let values = self.list(key, &item.value, expected)?;
            if item.key.text == "*" && !values.is_empty() {
                return Err(self.error(item.value.offset, Problem::StarWithValues));
            }
            let literals: Vec<Literal> =
                values.iter().map(|value| self.literal(key, value)).collect::<Result<_, _>>()?;
            parameters.add(&item.key.text.to_lowercase(), &literals);
        }
        Ok(parameters)
    }

    fn literal(&self, key: &str, node: &Node) -> Result<Literal, ParseError> {
        Ok(match &node.value {
            Value::Text(text) => Literal::Text(text.clone()),
            Value::Number(number) => Literal::Number(number.clone()),
            Value::Bool(bool) => Literal::Bool(*bool),
            Value::List(values) => Literal::List(
                values.iter().map(|value| self.literal(key, value)).collect::<Result<_, _>>()?,
            ),
            Value::Object(_) => {
                return Err(self.wrong_kind(
                    key,
                    node,
                    "made of texts, numbers, booleans and lists",
                ));
            }
        })
    }

    fn names(&self, key: &str, node: &Node) -> Result<Vec<String>, ParseError> {
        let names = self.list(key, node, TEXTS)?;
        names.iter().map(|name| Ok(self.text(key, name)?.to_lowercase())).collect()
    }

    /// Reads a TTL, as text or in seconds; zero means none.
    fn ttl(&self, key: &str, node: &Node) -> Result<Option<Duration>, ParseError> {
        let (Value::Text(text) | Value::Number(text)) = &node.value else {
            return Err(self.wrong_kind(key, node, "a duration"));
        };
        let ttl = parse_duration(text)
            .map_err(|error| self.error(node.offset, Problem::Duration(error)))?;
        Ok(Some(ttl).filter(|ttl| !ttl.is_zero()))
    }

    /// Reads a limit; zero means none.
    fn limit(&self, key: &str, node: &Node) -> Result<Option<NonZeroU64>, ParseError> {
        let limit = match &node.value {
            Value::Number(number) => number.parse::<u64>().ok(),
            Value::Text(_) | Value::Bool(_) | Value::List(_) | Value::Object(_) => None,
        };
        match limit {
            Some(limit) => Ok(NonZeroU64::new(limit)),
            None => Err(self.wrong_kind(key, node, "a whole number")),
        }
    }

    fn time(&self, key: &str, node: &Node) -> Result<Timestamp, ParseError> {
        let time = match &node.value {
            Value::Text(text) => Timestamp::from_rfc3339(text),
            Value::Number(_) | Value::Bool(_) | Value::List(_) | Value::Object(_) => None,
        };
        time.ok_or_else(|| self.wrong_kind(key, node, "a time such as \"2030-12-31T23:59:59Z\""))
    }

    fn list<'n>(
        &self,
        key: &str,
        node: &'n Node,
        expected: &'static str,
    ) -> Result<&'n [Node], ParseError> {
        match &node.value {
            Value::List(nodes) => Ok(nodes),
            Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::Object(_) => {
                Err(self.wrong_kind(key, node, expected))
            }
        }
    }

    fn text<'n>(&self, key: &str, node: &'n Node) -> Result<&'n str, ParseError> {
        match &node.value {
            Value::Text(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) | Value::List(_) | Value::Object(_) => {
                Err(self.wrong_kind(key, node, "text in double quotes"))
            }
        }
    }

    fn wrong_kind(&self, key: &str, node: &Node, expected: &'static str) -> ParseError {
        self.wrong_kind_at(key, node.offset, expected)
    }

    fn wrong_kind_at(&self, key: &str, offset: usize, expected: &'static str) -> ParseError {
        self.error(offset, Problem::WrongKind { key: key.to_owned(), expected })
    }

    fn error(&self, offset: usize, problem: Problem) -> ParseError {
        ParseError::at(self.text, offset, problem)
    }
}

/// The largest text of a policy, in bytes. Vault's storage has the same bound.
pub const MAX_TEXT_BYTES: usize = 512 * 1024;

const TEXTS: &str = "a list of texts in double quotes";

const KEYS: &[&str] = &[
    "capabilities",
    "policy",
    "allowed_parameters",
    "denied_parameters",
    "required_parameters",
    "min_wrapping_ttl",
    "max_wrapping_ttl",
    "pagination_limit",
    "expiration",
    "comment",
];

/// Restrictions of OpenBao and of Vault Enterprise that Kista does not enforce.
const UNSUPPORTED_KEYS: &[&str] = &[
    "list_scan_response_keys_filter_path",
    "mfa_methods",
    "control_group",
    "subscribe_event_types",
];
