use std::{
    io::{self, BufReader},
    path::Path,
};

use kista::{
    clock::{Clock as _, SystemClock},
    container::{self, Header, Passphrase, SealedFile, Stanza},
    crypto::{Argon2Params, committing::Cobblestone256, random},
    secret::Key,
};
use serde::Serialize;

use super::{
    Decrypt, Encrypt, OutArguments,
    copying::{self, Sink, Source},
    explain_local,
};
use crate::{
    failure::{Exit, Failure},
    files::Unfinished,
    output::{self, Output},
    progress::Progress,
    prompt::{self, Person},
};

/// What was done, as `--json` tells it.
#[derive(Serialize)]
struct Done<'a> {
    file: &'a Path,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

pub(super) async fn encrypt(arguments: Encrypt) -> Result<Exit, Failure> {
    let output = Output::new(arguments.mount.server.json);
    let source = Source::open(arguments.file.as_deref())?;
    let doing = format!("encrypt {}", source.name());
    let (header, key) = match &arguments.key {
        Some(key) => by_vault(&arguments, key, &doing).await?,
        None => by_passphrase(&arguments.binding.aad, &source)?,
    };
    // Not before: who leaves at the prompt leaves no file behind.
    let signals = copying::signals()?;
    let sink = arguments.out.sink(output)?;
    let bytes = copying::run(signals, sink.leftover(), move |stop| {
        let (source, total) = source.with_length();
        let mut source = BufReader::with_capacity(copying::BUFFER_BYTES, source);
        let progress = Progress::bytes("encrypting");
        let failed = |error: io::Error| Failure::io("write", &error);
        let mut writer = container::writer(&header, &key, sink).map_err(failed)?;
        let bytes = copying::copy(&mut source, &mut writer, stop, &progress, total)?;
        writer.finish().map_err(failed)?.finish()?;
        Ok(bytes)
    })
    .await?;
    arguments.out.tell(output, "encrypted", bytes, arguments.key.as_deref())
}

pub(super) async fn decrypt(arguments: Decrypt) -> Result<Exit, Failure> {
    let output = Output::new(arguments.mount.server.json);
    let source = Source::open(arguments.what.as_deref())?;
    let name = source.name();
    let doing = format!("decrypt {name}");
    let is_stdin = matches!(source, Source::Stdin(_));
    let (source, total) = source.with_length();
    let sealed = SealedFile::read(source).map_err(|error| {
        Failure::new(format!("cannot {doing}: {}", Failure::of(&error).message))
    })?;
    check_context(&doing, sealed.header(), &arguments.binding.aad)?;
    let key = match (sealed.header().stanzas(), &arguments.key) {
        // Whoever knows a passphrase could have put this file in the place of the key's.
        ([Stanza::Passphrase(_)], Some(key)) => {
            return Err(Failure::new(format!(
                "cannot {doing}: it is encrypted under a passphrase, not under the key {key}"
            ))
            .hint("leave --key out to give the passphrase, if you trust who gave you the file"));
        }
        ([Stanza::Passphrase(stanza)], None) => open_passphrase(stanza, is_stdin, &doing)?,
        _ => {
            let mount = arguments.mount.find()?;
            let bound = arguments.binding.read()?;
            let transit = mount.client().transit(mount.path());
            let named = arguments.key.as_deref();
            match transit.file_key(sealed.header(), named, &bound.context).await {
                Ok(key) => key,
                Err(error) => return Err(explain_local(&mount, &doing, error).await),
            }
        }
    };
    let signals = copying::signals()?;
    let mut sink = arguments.out.sink(output)?;
    if let Sink::Stdout(_) = sink {
        output::note("unverified until this ends with exit code 0");
    }
    let bytes = copying::run(signals, sink.leftover(), move |stop| {
        let progress = Progress::bytes("decrypting");
        let mut reader = sealed.open(&key).map_err(|error| copying::unreadable(&error))?;
        let bytes = copying::copy(&mut reader, &mut sink, stop, &progress, total)?;
        sink.finish()?;
        Ok(bytes)
    })
    .await?;
    arguments.out.tell(output, "decrypted and verified", bytes, None)
}

/// A file key that a vault makes and wraps.
async fn by_vault(
    arguments: &Encrypt,
    key: &str,
    doing: &str,
) -> Result<(Header, Key<Cobblestone256>), Failure> {
    let mount = arguments.mount.find()?;
    let bound = arguments.binding.read()?;
    let transit = mount.client().transit(mount.path());
    let made = transit.new_file_key(key, &bound.context, CONTENT_TYPE, bound.aad.as_bytes()).await;
    match made {
        Ok(made) => Ok(made),
        Err(error) => Err(explain_local(&mount, doing, error).await),
    }
}

/// A file key that is made here and wrapped under a passphrase.
fn by_passphrase(aad: &str, source: &Source) -> Result<(Header, Key<Cobblestone256>), Failure> {
    let is_free = !matches!(source, Source::Stdin(_));
    let passphrase = prompt::new_passphrase(asked(is_free)?)?;
    let (key, cost) = (random::key(), Argon2Params::recommended());
    let stanza = Passphrase::wrap(&passphrase, cost, SystemClock.now(), &key)
        .map_err(|error| Failure::of(&error))?;
    let stanzas = vec![Stanza::Passphrase(stanza)];
    let header =
        Header::new(stanzas, CONTENT_TYPE, aad.as_bytes()).map_err(|error| Failure::of(&error))?;
    Ok((header, key))
}

fn open_passphrase(
    stanza: &Passphrase,
    is_stdin: bool,
    doing: &str,
) -> Result<Key<Cobblestone256>, Failure> {
    let passphrase = match asked(!is_stdin)? {
        Person::Present => Person::Present.hidden("passphrase", "")?,
        Person::Absent => prompt::stdin_text()?,
    };
    if passphrase.is_empty() {
        return Err(Failure::new(format!("cannot {doing}: no passphrase was given"))
            .hint("give the one that it was encrypted under"));
    }
    stanza.unwrap(&passphrase).map_err(|error| Failure::of(&error))?.ok_or_else(|| {
        Failure::new(format!("cannot {doing}: the passphrase is another one, or the file changed"))
    })
}

/// Whom to ask for a passphrase, which comes on stdin where nobody is there.
fn asked(stdin_is_free: bool) -> Result<Person, Failure> {
    let person = Person::look(false);
    if person == Person::Absent && !stdin_is_free {
        return Err(Failure::usage("stdin holds the file, and so not the passphrase")
            .hint("name the file, and give the passphrase on stdin"));
    }
    Ok(person)
}

/// What a file is bound to must be known to whoever opens it, as of a value.
fn check_context(doing: &str, header: &Header, aad: &str) -> Result<(), Failure> {
    if header.user_context() == aad.as_bytes() {
        return Ok(());
    }
    let (why, hint) = match (header.user_context(), aad) {
        ([], _) => ("it is bound to nothing", "leave --aad out"),
        (_, "") => ("it is bound to something", "name it: --aad TEXT"),
        _ => ("it is bound to something else than --aad says", "it may be another file's"),
    };
    Err(Failure::new(format!("cannot {doing}: {why}")).hint(hint))
}

impl OutArguments {
    fn sink(&self, output: Output) -> Result<Sink, Failure> {
        match &self.out {
            Some(file) if file != Path::new("-") => {
                Unfinished::create(file, self.existing()).map(Sink::File)
            }
            Some(_) | None if output.is_to_terminal() => {
                Err(Failure::usage("a terminal is no place for a file")
                    .hint("name a new one: -o FILE; or pipe it"))
            }
            Some(_) | None => output::stream().map(Sink::Stdout),
        }
    }

    /// Tells what was done with the file.
    fn tell(
        &self,
        output: Output,
        done: &str,
        bytes: u64,
        key: Option<&str>,
    ) -> Result<Exit, Failure> {
        match &self.out {
            Some(file) if file != Path::new("-") && output.wants_json() => {
                output.serialized(&Done { file, bytes, key })?;
            }
            Some(file) if file != Path::new("-") => {
                output::note(&format!("{}: {bytes} bytes {done}", file.display()));
            }
            Some(_) | None => output::note(&format!("{bytes} bytes {done}")),
        }
        Ok(Exit::Done)
    }
}

const CONTENT_TYPE: &str = "application/octet-stream";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_opens_for_whoever_knows_what_it_is_bound_to() {
        let stanza = Stanza::Transit(container::Transit::asked("transit", "pii"));
        let header = |aad: &[u8]| Header::new(vec![stanza.clone()], CONTENT_TYPE, aad).unwrap();
        check_context("decrypt f", &header(b""), "").unwrap();
        check_context("decrypt f", &header(b"row 7"), "row 7").unwrap();
        for (bound, given) in [("", "row 7"), ("row 7", ""), ("row 7", "row 8")] {
            let failure = check_context("decrypt f", &header(bound.as_bytes()), given).unwrap_err();
            assert!(failure.hint.is_some() && !failure.message.contains("row 7"), "{failure:?}");
        }
    }
}
