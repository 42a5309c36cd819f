use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use data_encoding::BASE64;
use kista::{
    client::{
        Error, Limits, LocalError, Refused, Rewrapped, ToDecrypt, ToEncrypt, is_cached_value,
    },
    secret::{SecretBytes, SecretString},
};
use serde::Serialize;

use super::{Decrypt, Encrypt, OutArguments, Rewrap, explain, explain_local};
use crate::{
    failure::{Exit, Failure},
    files::{self, Existing},
    output::{self, Output},
    prompt::{self, Person},
};

pub(super) async fn encrypt(arguments: Encrypt) -> Result<Exit, Failure> {
    let mount = arguments.mount.find()?;
    let bound = arguments.binding.read()?;
    let key = arguments.key.as_deref().unwrap_or_default();
    let transit = mount.client().transit(mount.path());
    let output = Output::new(arguments.mount.server.json);
    mount.must_have(key, "encrypt the value").await?;
    if !arguments.batch {
        let value = plaintext(arguments.file.as_deref())?;
        return match transit.encrypt(key, &value, bound.lend()).await {
            Ok(sealed) => arguments.out.ciphertext(output, &sealed.ciphertext, &sealed),
            Err(error) => Err(explain(&mount, "encrypt the value", error).await),
        };
    }
    let mut batch = Batch::open(arguments.file.as_deref(), output)?;
    while let Some(lines) = batch.next_lines()? {
        let item = |plaintext| ToEncrypt { plaintext, binding: bound.lend() };
        let items: Vec<_> = lines.iter().map(item).collect();
        let outcomes = match transit.encrypt_many(key, &items).await {
            Ok(outcomes) => outcomes,
            Err(error) => return Err(explain(&mount, "encrypt the values", error).await),
        };
        batch.print(outcomes, |sealed| Ok(line(output, &sealed.ciphertext, &sealed)))?;
    }
    batch.finish("encrypted")
}

pub(super) async fn decrypt(arguments: Decrypt) -> Result<Exit, Failure> {
    let mount = arguments.mount.find()?;
    let bound = arguments.binding.read()?;
    let key = arguments.key.as_deref().unwrap_or_default();
    let transit = mount.client().transit(mount.path());
    let output = Output::new(arguments.mount.server.json);
    // One for all of them, so that each data key is unwrapped once.
    let cached = transit.cached(key, Limits { messages: u64::MAX, ..Limits::default() });
    if !arguments.batch {
        let sealed = ciphertext(arguments.what.as_deref())?;
        let opened = if is_cached_value(&sealed) {
            cached.decrypt(&sealed, bound.aad.as_bytes()).await
        } else {
            transit.decrypt(key, &sealed, bound.lend()).await.map_err(LocalError::Call)
        };
        return match opened {
            Ok(plain) => arguments.out.plaintext(output, &plain),
            Err(error) => Err(explain_local(&mount, "decrypt the value", error).await),
        };
    }
    let mut batch = Batch::open(arguments.what.as_deref(), output)?;
    while let Some(lines) = batch.next_texts()? {
        let there: Vec<_> = lines
            .iter()
            .filter(|text| !is_cached_value(text))
            .map(|text| ToDecrypt { ciphertext: text, binding: bound.lend() })
            .collect();
        let answered = match transit.decrypt_many(key, &there).await {
            Ok(outcomes) => outcomes,
            Err(error) => return Err(explain(&mount, "decrypt the values", error).await),
        };
        let mut answered = answered.into_iter();
        let mut outcomes = Vec::with_capacity(lines.len());
        for text in &lines {
            outcomes.push(if is_cached_value(text) {
                match cached.decrypt(text, bound.aad.as_bytes()).await {
                    Ok(plain) => Ok(plain),
                    // Only what is about the value itself is the value's.
                    Err(error) if is_of_the_value(&error) => Err(Refused(error.to_string())),
                    Err(error) => {
                        return Err(explain_local(&mount, "decrypt the values", error).await);
                    }
                }
            } else {
                answered.next().unwrap_or_else(|| Err(Refused("no answer came".to_owned())))
            });
        }
        batch.print(outcomes, |plain| plain_line(output, &plain))?;
    }
    batch.finish("decrypted")
}

pub(super) async fn rewrap(arguments: Rewrap) -> Result<Exit, Failure> {
    let mount = arguments.mount.find()?;
    let bound = arguments.binding.read()?;
    let transit = mount.client().transit(mount.path());
    let output = Output::new(arguments.mount.server.json);
    let key = arguments.key.as_str();
    if !arguments.batch {
        let sealed = ciphertext(arguments.what.as_deref())?;
        let new = match transit.rewrap(key, &sealed, bound.lend()).await {
            Ok(new) => new,
            Err(error) => return Err(explain(&mount, "rewrap the value", error).await),
        };
        OutArguments::default().ciphertext(output, &new.ciphertext, &Told::of(&new))?;
        if !output.wants_json() {
            output::note(&match new.is_moved() {
                true => format!("{key}: v{} → v{}", new.from_version, new.key_version),
                false => format!("{key}: it was under v{} already", new.key_version),
            });
        }
        return Ok(Exit::Done);
    }
    let mut batch = Batch::open(arguments.what.as_deref(), output)?;
    let mut moved = 0_u64;
    while let Some(lines) = batch.next_texts()? {
        let item = |text| ToDecrypt { ciphertext: text, binding: bound.lend() };
        let items: Vec<_> = lines.iter().map(String::as_str).map(item).collect();
        let outcomes = match transit.rewrap_many(key, &items).await {
            Ok(outcomes) => outcomes,
            Err(error) => return Err(explain(&mount, "rewrap the values", error).await),
        };
        batch.print(outcomes, |new| {
            moved += u64::from(new.is_moved());
            Ok(line(output, &new.ciphertext, &Told::of(&new)))
        })?;
    }
    if !output.wants_json() {
        output::note(&format!("{key}: {moved} were under older versions"));
    }
    batch.finish("rewrapped")
}

/// What a rewrap has done, as `--json` tells it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    new: &'a Rewrapped,
    changed: bool,
}

impl<'a> Told<'a> {
    fn of(new: &'a Rewrapped) -> Self {
        Self { new, changed: new.is_moved() }
    }
}

impl OutArguments {
    /// Gives a ciphertext out: to the file, or bare, or as JSON.
    fn ciphertext(
        &self,
        output: Output,
        text: &str,
        json: &impl Serialize,
    ) -> Result<Exit, Failure> {
        match &self.out {
            Some(_) => self.place(&SecretBytes::copy_of(text.as_bytes()))?,
            None if output.wants_json() => output.serialized(json)?,
            None => output.value(&SecretString::copy_of(text))?,
        }
        Ok(Exit::Done)
    }

    /// Gives a value out: to the file, or as it is, or in base64 as JSON.
    fn plaintext(&self, output: Output, plain: &SecretBytes) -> Result<Exit, Failure> {
        match &self.out {
            Some(_) => self.place(plain)?,
            None if output.wants_json() => output.lines(&[in_base64(plain)])?,
            None => output.bytes(plain)?,
        }
        Ok(Exit::Done)
    }

    fn place(&self, content: &SecretBytes) -> Result<(), Failure> {
        let Some(file) = &self.out else { return Ok(()) };
        files::place(file, content, self.existing())?;
        output::note(&format!("{}: {} bytes, for you alone", file.display(), content.len()));
        Ok(())
    }

    /// What becomes of a file that is there.
    pub(super) fn existing(&self) -> Existing {
        if self.force { Existing::Replaced } else { Existing::Kept }
    }
}

/// Lines that are worked on, some hundreds at a time, in order.
struct Batch {
    input: Box<dyn BufRead>,
    origin: String,
    output: Output,
    /// Lines that were read before those worked on now.
    before: u64,
    failed: u64,
}

impl Batch {
    fn open(file: Option<&Path>, output: Output) -> Result<Self, Failure> {
        let (input, origin): (Box<dyn BufRead>, _) = match file {
            Some(file) if file != Path::new("-") => {
                let origin = file.display().to_string();
                let opened = File::open(file)
                    .map_err(|error| Failure::io(format!("read {origin}"), &error))?;
                (Box::new(BufReader::new(opened)), origin)
            }
            Some(_) | None => (Box::new(io::stdin().lock()), "stdin".to_owned()),
        };
        Ok(Self { input, origin, output: output.once(), before: 0, failed: 0 })
    }

    /// The next lines, without their line breaks; `None` at the end.
    fn next_lines(&mut self) -> Result<Option<Vec<SecretBytes>>, Failure> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < LINES_AT_ONCE && bytes < BYTES_AT_ONCE {
            let mut line = Vec::with_capacity(ROOM_FOR_A_LINE);
            let read = self.input.read_until(b'\n', &mut line);
            let read =
                read.map_err(|error| Failure::io(format!("read {}", self.origin), &error))?;
            if read == 0 {
                break;
            }
            bytes += read;
            let whole = line.strip_suffix(b"\n").map_or(line.len(), <[u8]>::len);
            line.truncate(whole);
            lines.push(SecretBytes::from_vec(line));
        }
        Ok(Some(lines).filter(|lines| !lines.is_empty()))
    }

    /// The same as text without white space around it; what is not UTF-8 is no ciphertext.
    fn next_texts(&mut self) -> Result<Option<Vec<String>>, Failure> {
        let text =
            |line: SecretBytes| line.expose(|line| String::from_utf8_lossy(line).trim().to_owned());
        Ok(self.next_lines()?.map(|lines| lines.into_iter().map(text).collect()))
    }

    /// Prints a line for each outcome, an empty one for what failed, so that lines stay lines.
    fn print<T>(
        &mut self,
        outcomes: Vec<Result<T, Refused>>,
        mut line: impl FnMut(T) -> Result<SecretString, Refused>,
    ) -> Result<(), Failure> {
        let mut lines = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            self.before += 1;
            lines.push(outcome.and_then(&mut line).unwrap_or_else(|Refused(why)| {
                self.failed += 1;
                output::warn(&format!("line {}: {why}", self.before));
                let told = if self.output.wants_json() {
                    serde_json::json!({ "error": why }).to_string()
                } else {
                    String::new()
                };
                SecretString::from_string(told)
            }));
        }
        self.output.lines(&lines)
    }

    fn finish(self, done: &str) -> Result<Exit, Failure> {
        match self.failed {
            0 => Ok(Exit::Done),
            failed if failed == self.before => {
                Err(Failure::new(format!("none of the {failed} lines were {done}")))
            }
            failed => {
                let all = self.before;
                output::note(&format!("{} of {all} lines were {done}, {failed} not", all - failed));
                Ok(Exit::Partial)
            }
        }
    }
}

/// A line of a batch.
fn line(output: Output, text: &str, json: &impl Serialize) -> SecretString {
    if output.wants_json() {
        // What is told has string keys, and cannot fail.
        return SecretString::from_string(serde_json::to_string(json).unwrap_or_default());
    }
    SecretString::copy_of(text)
}

/// The line of a value, which must be one.
fn plain_line(output: Output, plain: &SecretBytes) -> Result<SecretString, Refused> {
    if output.wants_json() {
        return Ok(in_base64(plain));
    }
    plain.expose(|plain| match std::str::from_utf8(plain) {
        Ok(text) if !text.contains('\n') => Ok(SecretString::copy_of(text)),
        Ok(_) | Err(_) => {
            Err(Refused("the value is not one line of text; --json prints it in base64".to_owned()))
        }
    })
}

fn in_base64(plain: &SecretBytes) -> SecretString {
    let length = BASE64.encode_len(plain.len());
    let mut json = String::with_capacity(length + 16);
    json.push_str(r#"{"plaintext":""#);
    plain.expose(|plain| BASE64.encode_append(plain, &mut json));
    json.push_str(r#""}"#);
    SecretString::from_string(json)
}

/// The value to encrypt, to its last byte.
fn plaintext(file: Option<&Path>) -> Result<SecretBytes, Failure> {
    match file {
        Some(file) if file != Path::new("-") => files::read(file),
        Some(_) | None if output::is_conversation() => {
            let typed = Person::look(false).hidden("value", "give it on stdin, or in a file")?;
            Ok(typed.expose(|text| SecretBytes::copy_of(text.as_bytes())))
        }
        Some(_) | None => prompt::stdin_whole(),
    }
}

/// Whether another value may open though this one does not. A changed header is seen here or, where
/// it holds the wrapped key, by the vault.
fn is_of_the_value(error: &LocalError) -> bool {
    match error {
        LocalError::OpenFailed(_)
        | LocalError::NotSealed
        | LocalError::Header(_)
        | LocalError::OtherKey { .. } => true,
        LocalError::Call(error) => matches!(error, Error::Other { status: 400, .. }),
        LocalError::NotCommitting(_) | _ => false,
    }
}

/// The ciphertext that was given, or that of stdin.
fn ciphertext(given: Option<&Path>) -> Result<String, Failure> {
    let text = match given {
        Some(given) if given != Path::new("-") => given.to_str().map(|text| text.trim().to_owned()),
        Some(_) | None => Some(prompt::stdin_text()?.expose(|text| text.trim().to_owned())),
    };
    text.filter(|text| text.starts_with("vault:v") || is_cached_value(text)).ok_or_else(|| {
        Failure::usage("that is no ciphertext: one begins with vault:v")
            .hint("from a file: kista decrypt --key NAME < FILE; a whole file: --local FILE")
    })
}

/// Lines that one request takes.
const LINES_AT_ONCE: usize = 1000;
/// Bytes that are held at once.
const BYTES_AT_ONCE: usize = 8 << 20;
/// A longer line grows its buffer, which leaves copies behind.
const ROOM_FOR_A_LINE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &'static str) -> Batch {
        let output = Output::new(false);
        let input = Box::new(text.as_bytes());
        Batch { input, origin: "stdin".to_owned(), output, before: 0, failed: 0 }
    }

    #[test]
    fn lines_come_in_order_without_their_ends() {
        let mut two = batch("a\n\nb c\r\nlast");
        let lines = two.next_lines().unwrap().unwrap();
        let lines: Vec<_> = lines.iter().map(|line| line.expose(<[u8]>::to_vec)).collect();
        assert_eq!(lines, [&b"a"[..], b"", b"b c\r", b"last"]);
        assert!(two.next_lines().unwrap().is_none());
        let texts = batch(" vault:v1:QQ== \r\n").next_texts().unwrap().unwrap();
        assert_eq!(texts[0], "vault:v1:QQ==");
    }

    #[test]
    fn a_value_of_several_lines_is_printed_as_json_only() {
        let value = SecretBytes::copy_of(b"a\nb");
        assert!(plain_line(Output::new(false), &value).is_err());
        let json = plain_line(Output::new(true), &value).unwrap();
        json.expose(|json| assert_eq!(json, r#"{"plaintext":"YQpi"}"#));
    }

    #[test]
    fn what_is_no_ciphertext_is_refused_before_anybody_is_asked() {
        assert!(ciphertext(Some(Path::new("file.kista"))).is_err());
        assert_eq!(ciphertext(Some(Path::new(" vault:v1:QQ==\n"))).unwrap(), "vault:v1:QQ==");
    }
}
