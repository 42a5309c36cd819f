use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use kista::{
    client::{Fields, JsonValue},
    secret::{SecretBytes, SecretString},
};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

use super::reading::{self, Content, Found};
use crate::{
    arguments::ServerArguments,
    clipboard,
    failure::{Exit, Failure},
    files::{self, Existing},
    output::{self, Cell, Output, Sight},
    reference::Reference,
    server::Server,
};

/// Read secrets, or single values of them.
///
/// A person sees the keys, with dots for the values; a program gets lines of key, tab and value.
/// With -k, or #KEY behind the path, the value comes as it is, without a newline at its end unless
/// a person reads it; several values come on a line each.
///
/// A reference is MOUNT/PATH[#KEY], or in full
/// kista://[CONTEXT/]MOUNT/PATH[#KEY][?version=N&default=TEXT] with names percent-encoded.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista get secret/app/db\n  \
                         kista get secret/app/db -k password | cat\n  \
                         kista get secret/app/db#password --copy\n  \
                         kista get secret/app/tls#key --out key.pem\n  \
                         kista get secret/app/otp#seed --qr\n  \
                         kista get 'kista://secret/app/db#port?default=5432'")]
pub(crate) struct Get {
    /// Mount and path, such as secret/app/db, with a key behind '#' if one value is meant
    #[arg(value_name = "REF", required = true)]
    references: Vec<Reference>,
    /// The key whose value to print, where the reference names none
    #[arg(short, long)]
    key: Option<String>,
    /// An earlier version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// Write the one value to a new file, for you alone (with --json: all of it); nothing is
    /// printed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["copy", "qr"])]
    out: Option<PathBuf>,
    /// Replace the file of --out if it is there
    #[arg(long, requires = "out")]
    force: bool,
    /// Show the one value as a QR code, for a telephone to read; whoever sees it has the value
    #[arg(long, conflicts_with_all = ["copy", "json"])]
    qr: bool,
    /// Put the one value on the clipboard; nothing is printed
    #[arg(long)]
    copy: bool,
    /// How long --copy leaves it there, such as 45s or 2m; 0 leaves it
    #[arg(long, value_name = "TIME", requires = "copy", default_value = "45s",
          value_parser = clipboard::duration)]
    clear: Duration,
    /// Show the values to a person too
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl Get {
    pub(crate) async fn run(mut self) -> Result<Exit, Failure> {
        for reference in &mut self.references {
            reference.key = reference.key.take().or_else(|| self.key.clone());
            reference.version = reference.version.or(self.version);
        }
        // All of it or nothing: what reads half of a list of values takes the wrong one.
        let found = self.read().await?;
        let output = Output::new(self.server.json);
        match &self.out {
            Some(file) => self.write(output, &found, file)?,
            None if self.copy => clipboard::copy(&one_value(&found)?, self.clear)?,
            None if self.qr => output.text(&qr_code(&one_value(&found)?)?)?,
            None => self.print(&output, &found)?,
        }
        Ok(Exit::Done)
    }

    async fn read(&self) -> Result<Vec<Found>, Failure> {
        let mut found = Vec::with_capacity(self.references.len());
        let mut last: Option<(Option<&str>, Server)> = None;
        for reference in &self.references {
            let context = reference.place.context.as_deref();
            let server = match last.take() {
                Some((of, server)) if of == context => server,
                Some(_) | None => Server::find_for(&self.server, &reference.place)?,
            };
            found.push(reading::read(&server, reference).await?);
            last = Some((context, server));
        }
        Ok(found)
    }

    fn write(&self, output: Output, found: &[Found], file: &Path) -> Result<(), Failure> {
        let content = match found {
            _ if !output.wants_json() => one_value(found)?.expose(bytes),
            [one] => whole(one)?.expose_json(bytes),
            many => list(many)?.expose_json(bytes),
        };
        let existing = if self.force { Existing::Replaced } else { Existing::Kept };
        files::place(file, &content, existing)?;
        output::note(&format!("{}: {} bytes, for you alone", file.display(), content.len()));
        Ok(())
    }

    fn print(&self, output: &Output, found: &[Found]) -> Result<(), Failure> {
        match found {
            [one] if output.wants_json() => output.json(&whole(one)?),
            many if output.wants_json() => output.json(&list(many)?),
            [Found { content: Content::Value { value, .. }, .. }] => output.value(&value.plain()),
            [Found { content: Content::Secret { fields, .. }, .. }] => {
                let rows: Vec<_> =
                    fields.iter().map(|(key, value)| self.cells(output, key, value)).collect();
                output.table(["KEY", "VALUE"], &rows)
            }
            many => match values(many) {
                Some(values) => output.lines(&values),
                None => self.print_many(output, many),
            },
        }
    }

    fn print_many(&self, output: &Output, found: &[Found]) -> Result<(), Failure> {
        let mut rows = Vec::new();
        for Found { path, content } in found {
            let mut push = |key: &str, value: &JsonValue| {
                let [key, value] = self.cells(output, key, value);
                rows.push([Cell::Plain(path.clone()), key, value]);
            };
            match content {
                Content::Secret { fields, .. } => {
                    fields.iter().for_each(|(key, value)| push(key, value));
                }
                Content::Value { key, value } => push(key, value),
            }
        }
        output.table(["SECRET", "KEY", "VALUE"], &rows)
    }

    fn cells(&self, output: &Output, key: &str, value: &JsonValue) -> [Cell; 2] {
        let sight =
            if output.is_to_terminal() && !self.show { Sight::Masked } else { Sight::Shown };
        [Cell::Plain(key.to_owned()), Cell::Secret(value.plain(), sight)]
    }
}

/// What goes where only one value can.
fn one_value(found: &[Found]) -> Result<SecretString, Failure> {
    match found {
        [Found { content: Content::Value { value, .. }, .. }] => Ok(value.plain()),
        _ => Err(Failure::usage("one value is wanted, and this is not one")
            .hint("name one key with -k KEY or #KEY")),
    }
}

/// A value as a QR code (ISO/IEC 18004), drawn with half blocks: dark ones on a light ground, so that it
/// is read on a terminal of either kind.
fn qr_code(value: &SecretString) -> Result<SecretString, Failure> {
    let code = value.expose(|text| QrCode::with_error_correction_level(text, EcLevel::L));
    let code = code.map_err(|_| {
        Failure::new("the value is too long for a QR code, which holds 2,953 bytes")
            .hint("--out FILE, --copy, or -k of another key")
    })?;
    let mut drawn =
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    drawn.push('\n');
    Ok(SecretString::from_string(drawn))
}

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

/// One reference as JSON: a value as it is.
fn whole(found: &Found) -> Result<JsonValue, Failure> {
    match &found.content {
        Content::Value { value, .. } => Ok(value.copy()),
        Content::Secret { .. } => as_json(found),
    }
}

/// Several references as JSON: each says what it is.
fn list(found: &[Found]) -> Result<JsonValue, Failure> {
    let each = found.iter().map(as_json).collect::<Result<Vec<_>, _>>()?;
    Ok(JsonValue::list(&each))
}

/// The values, where each reference has led to one.
fn values(found: &[Found]) -> Option<Vec<SecretString>> {
    found
        .iter()
        .map(|found| match &found.content {
            Content::Value { value, .. } => Some(value.plain()),
            Content::Secret { .. } => None,
        })
        .collect()
}

fn as_json(found: &Found) -> Result<JsonValue, Failure> {
    let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
    let mut object = Fields::new();
    object.set("path", text(&found.path));
    match &found.content {
        Content::Secret { fields, metadata } => {
            object.set("data", JsonValue::from(fields));
            if let Some(metadata) = metadata {
                object.set("metadata", output::json(metadata)?);
            }
        }
        Content::Value { key, value } => {
            object.set("key", text(key));
            object.set("value", value.copy());
        }
    }
    Ok(JsonValue::from(&object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_is_a_square_with_a_quiet_zone() {
        let drawn = qr_code(&SecretString::copy_of("otpauth://totp/x?secret=ABC")).unwrap();
        drawn.expose(|drawn| {
            let lines: Vec<&str> = drawn.lines().collect();
            let width = lines[0].chars().count();
            assert!(lines.iter().all(|line| line.chars().count() == width), "{drawn}");
            assert_eq!(lines.len(), width.div_ceil(2));
            // Light is drawn, so that dark is dark on a dark terminal: the edge is light.
            assert!(lines[0].chars().all(|char| char == '█'), "{drawn}");
            // Below the last row there may be half a line of nothing.
            let whole = &lines[..lines.len() - 1];
            assert!(whole.iter().all(|line| line.starts_with("████") && line.ends_with("████")));
        });
        let long = SecretString::from_string("x".repeat(3000));
        assert!(qr_code(&long).unwrap_err().hint.is_some());
    }
}
