use clap::Args;
use kista::client::Reach;
use kista::{client::JsonValue, secret::SecretString};

use super::{
    target::Target,
    walk::{Detail, Walk},
};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output, Reading},
    reference::Place,
    server::Server,
};

/// Draw the folders and secrets below a path as a tree. Only names are read.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista tree secret/\n  kista tree secret/app/ --json")]
pub(crate) struct Tree {
    /// Mount, or mount and folder, such as secret/app/
    path: Place,
    #[command(flatten)]
    server: ServerArguments,
}

impl Tree {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::folder_of_any(&server, &self.path).await?;
        let mut walk = Walk::new(&server, &target, Reach::Below, Detail::Name);
        // Whether a line is its folder's last is known only when the next ones are.
        let mut names = Vec::new();
        while let Some(page) = walk.next().await? {
            names.extend(page.into_iter().map(|named| named.name));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let output = Output::new(self.server.json);
        if output.wants_json() {
            let mut json = String::new();
            nest(&names, &mut json);
            output.json(&parsed(json)?)?;
        } else {
            let whole = target.whole();
            let first = format!("{}/\n", output::printable(whole.trim_end_matches('/')));
            if output.part(&first)? == Reading::GoesOn {
                draw(&names, "", &mut |line| output.part(line))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn parsed(json: String) -> Result<JsonValue, Failure> {
    JsonValue::parse(SecretString::from_string(json))
        .map_err(|error| Failure::new(format!("cannot write the answer as JSON: {error}")))
}

/// What is in a folder: a secret, or a folder with the names below it.
enum Node<'a> {
    Secret(&'a str),
    Folder(&'a str, Vec<&'a str>),
}

/// Takes the names of one folder apart, in their order.
fn nodes<'a>(names: &[&'a str]) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    for name in names {
        match name.split_once('/') {
            None => nodes.push(Node::Secret(name)),
            Some((folder, below)) => match nodes.last_mut() {
                Some(Node::Folder(last, inside)) if *last == folder => inside.push(below),
                Some(_) | None => nodes.push(Node::Folder(folder, vec![below])),
            },
        }
    }
    nodes
}

fn draw(
    names: &[&str],
    before: &str,
    print: &mut impl FnMut(&str) -> Result<Reading, Failure>,
) -> Result<Reading, Failure> {
    let nodes = nodes(names);
    let last = nodes.len().saturating_sub(1);
    for (n, node) in nodes.iter().enumerate() {
        let (branch, below) =
            if n == last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let reading = match node {
            Node::Secret(name) => print(&format!("{before}{branch}{}\n", output::printable(name)))?,
            Node::Folder(name, inside) => {
                match print(&format!("{before}{branch}{}/\n", output::printable(name)))? {
                    Reading::GoesOn => draw(inside, &format!("{before}{below}"), print)?,
                    Reading::Ended => Reading::Ended,
                }
            }
        };
        if reading == Reading::Ended {
            return Ok(Reading::Ended);
        }
    }
    Ok(Reading::GoesOn)
}

/// Folders as objects, secrets as `null`.
fn nest(names: &[&str], json: &mut String) {
    json.push('{');
    for (n, node) in nodes(names).iter().enumerate() {
        if n > 0 {
            json.push(',');
        }
        match node {
            Node::Secret(name) => {
                json.push_str(&serde_json::Value::from(*name).to_string());
                json.push_str(":null");
            }
            Node::Folder(name, inside) => {
                json.push_str(&serde_json::Value::from(format!("{name}/")).to_string());
                json.push(':');
                nest(inside, json);
            }
        }
    }
    json.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["app", "app/db", "app/web/tls", "app/web/x\"y", "z"];

    #[test]
    fn the_last_of_each_folder_has_its_own_sign() {
        let mut drawn = String::new();
        draw(&NAMES, "", &mut |line| {
            drawn.push_str(line);
            Ok(Reading::GoesOn)
        })
        .unwrap();
        assert_eq!(
            drawn,
            "├── app\n├── app/\n│   ├── db\n│   └── web/\n│       ├── tls\n│       └── \
             x\"y\n└── z\n"
        );
    }

    #[test]
    fn drawing_ends_when_nobody_reads() {
        let mut lines = 0;
        let reading = draw(&NAMES, "", &mut |_| {
            lines += 1;
            Ok(if lines == 3 { Reading::Ended } else { Reading::GoesOn })
        });
        assert_eq!((reading.unwrap(), lines), (Reading::Ended, 3));
    }

    #[test]
    fn json_nests_as_the_folders_do() {
        let mut json = String::new();
        nest(&NAMES, &mut json);
        assert_eq!(
            json,
            r#"{"app":null,"app/":{"db":null,"web/":{"tls":null,"x\"y":null}},"z":null}"#
        );
    }
}
