//! Just enough of Rust's grammar to see which modules and crates a file names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A path in a file that begins at the root of the library or with a foreign crate.
#[derive(Debug)]
pub(super) struct Mention {
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// First name below the root of the library, or name of the crate.
    pub(super) name: String,
    /// Whether the path begins at the root of the library.
    pub(super) is_ours: bool,
}

/// Every such path in `text`, the source of the module `module` (`token::store`).
pub(super) fn mentions(text: &str, module: &str) -> Vec<Mention> {
    let tokens = tokens(text);
    let own = own_names(&tokens);
    let mut found = Vec::new();
    let mut depth = module.split("::").count();
    let mut braces: Vec<Brace> = Vec::new();
    for at in 0..tokens.len() {
        match word(&tokens, at) {
            "{" => {
                let brace = Brace {
                    is_module: at >= 2 && word(&tokens, at - 2) == "mod",
                    continues: is_continued(&tokens, at)
                        || braces.last().is_some_and(|outer| outer.continues),
                };
                depth += usize::from(brace.is_module);
                braces.push(brace);
            }
            "}" => {
                let is_module = braces.pop().is_some_and(|brace| brace.is_module);
                depth -= usize::from(is_module);
            }
            _ if braces.last().is_some_and(|brace| brace.continues) => {}
            "crate" if word(&tokens, at + 1) == "::" => ours(&tokens, at + 2, &mut found),
            "super" if !is_continued(&tokens, at) => {
                let mut end = at;
                let mut climbed = 0;
                while word(&tokens, end) == "super" && word(&tokens, end + 1) == "::" {
                    climbed += 1;
                    end += 2;
                }
                if climbed == depth {
                    ours(&tokens, end, &mut found);
                }
            }
            name if is_foreign(&tokens, at) && !own.contains(&name) => {
                let line = tokens[at].0;
                found.push(Mention { line, name: name.to_owned(), is_ours: false });
            }
            _ => {}
        }
    }
    found
}

type Token<'a> = (usize, &'a str);

/// What an open brace is.
struct Brace {
    /// The body of `mod name { … }`.
    is_module: bool,
    /// The list in `use path::{ … }`, or one inside it: no name there begins a path.
    continues: bool,
}

fn word<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.1)
}

/// Records the names that follow `crate::`, one or a braced list of them.
fn ours(tokens: &[Token<'_>], mut at: usize, found: &mut Vec<Mention>) {
    let mut record = |at: usize| {
        let (line, name) = tokens[at];
        found.push(Mention { line, name: name.to_owned(), is_ours: true });
    };
    if word(tokens, at) != "{" {
        return record(at);
    }
    let mut depth = 0;
    loop {
        match word(tokens, at) {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let begins = matches!(word(tokens, at), "{" | ",") && depth == 1;
        at += 1;
        if depth == 0 || at >= tokens.len() {
            return;
        }
        if begins && is_name(word(tokens, at)) {
            record(at);
        }
    }
}

/// Whether the path at `at` continues one that began before, as `b` in `a::b`.
fn is_continued(tokens: &[Token<'_>], at: usize) -> bool {
    at >= 2 && word(tokens, at - 1) == "::" && {
        let before = word(tokens, at - 2);
        is_name(before) && !matches!(before, "use" | "in" | "return") || before == ">"
    }
}

/// Whether the name at `at` begins a path or is itself imported.
fn is_foreign(tokens: &[Token<'_>], at: usize) -> bool {
    let before = if at == 0 { "" } else { word(tokens, at - 1) };
    let starts = is_name(word(tokens, at)) && !is_continued(tokens, at) && before != ".";
    starts && (word(tokens, at + 1) == "::" || matches!(before, "use" | "extern" | "crate"))
}

/// Names that the file declares or imports as modules of its own: a path that begins with one of
/// them names no foreign crate.
fn own_names<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let declared = tokens.windows(2).filter(|pair| pair[0].1 == "mod").map(|pair| pair[1].1);
    let mut names: Vec<_> = declared.collect();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].1 == "use" && matches!(pair[1].1, "crate" | "self" | "super") {
            let imported = tokens[at..].iter().take_while(|token| token.1 != ";");
            names.extend(imported.map(|token| token.1).filter(|token| is_name(token)));
        }
    }
    names
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Splits source into names, `::` and single signs; drops comments, strings and characters.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push((line, &rest[..end]));
            end
        } else if rest.starts_with("::") {
            found.push((line, "::"));
            2
        } else {
            if !first.is_whitespace() {
                found.push((line, &rest[..first.len_utf8()]));
            }
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// Length of a raw string (`r"`, `r#"`, `br##"`) that begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let mark = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = mark.len() - mark.trim_start_matches('#').len();
    let body = mark[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end)? + end.len();
    Some(rest.len() - body.len() + length)
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let mut inside = rest.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 1,
    }
}

/// The types that `src/` implements `name` for.
pub(super) fn implementors(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files("src") {
        let tokens: Vec<_> = tokens(&file.text).into_iter().map(|token| token.1).collect();
        let implementations = tokens.windows(4).filter(|words| words[..3] == ["impl", name, "for"]);
        found.extend(implementations.map(|words| words[3].to_owned()));
    }
    found
}

/// One file of Rust.
pub(super) struct Source {
    /// From the project's root, with slashes.
    pub(super) path: String,
    /// The module that it is: `token::store`.
    pub(super) module: String,
    /// What it holds.
    pub(super) text: String,
}

/// Every file of Rust under a folder of the project.
pub(super) fn files(under: &str) -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join(under), &mut files);
    files.sort();
    files
        .iter()
        .map(|file| {
            let inside = file.strip_prefix(root().join(under)).unwrap().to_str().unwrap();
            let module = inside.trim_end_matches(".rs").trim_end_matches("/mod");
            Source {
                path: format!("{under}/{inside}"),
                module: module.replace('/', "::"),
                text: fs::read_to_string(file).unwrap(),
            }
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The project's root.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
