//! `kista render`: a template with secrets in it.
//!
//! - `template.rs`: what a template may say, and what becomes of it
//! - `destination.rs`: the file that it becomes

mod destination;
mod template;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use clap::Args;
use kista::{clock, secret::SecretString};
use tokio::process::Command;

use self::destination::{Destination, Written};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    fetching::{FetchArguments, Fetcher},
    files,
    hygiene::{self, Before},
    output::{self, Output},
    prompt,
    watching::{Pause, Watch},
};

/// Render a template with secrets in it.
///
/// Templates are those of Jinja: {{ kista("secret/app/db#password") }} is a value,
/// {{ kista("secret/app/db").password }} too, and {% for k, v in kista("secret/app/db") | items %}
/// goes through all of a secret. References are those of `kista get`, version and default included.
/// What is not there fails, and never becomes an empty text. Values come as they are; the filters
/// json, yaml, shell_quote, dotenv_quote and base64 write them for other languages. A template reads
/// no file, no variable and no network but the vault.
///
/// With -o the file is replaced whole, for you alone unless --mode says otherwise, and only where
/// something has changed. A file in a git work tree must be ignored there.
///
/// --watch looks again, every 10 seconds if --interval says nothing else, and renews its token; what
/// fails meanwhile is told, and the file stays as it was. --exec is a line of shell, run after the
/// file has changed; the vault's own token is not handed on to it.
#[derive(Debug, Args)]
#[command(
    visible_alias = "inject",
    before_help = "Example:\n  kista render nginx.conf.j2 -o /etc/nginx/nginx.conf --mode 0640\n  \
                         kista render app.yaml.j2 -o /run/app.yaml --watch --exec 'systemctl reload app'\n  \
                         echo '{{ kista(\"secret/app/db#url\") }}' | kista render -"
)]
pub(crate) struct Render {
    /// The template; - reads stdin
    #[arg(value_name = "TEMPLATE")]
    template: PathBuf,
    /// The file that it becomes, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Who may use the file, as chmod writes it
    #[arg(long, value_name = "MODE", requires = "output", default_value = "0600", value_parser = mode)]
    mode: u32,
    /// Write into a git work tree though the file is not ignored there
    #[arg(long, requires = "output")]
    force: bool,
    /// Go on, and write again when the template or a secret changes
    #[arg(long, requires = "output")]
    watch: bool,
    /// How often --watch looks
    #[arg(long, value_name = "DURATION", requires = "watch", default_value = "10s",
          value_parser = clock::parse_duration)]
    interval: Duration,
    /// Run this line of shell after the file has changed
    #[arg(long, value_name = "CMD", requires = "output")]
    exec: Option<String>,
    #[command(flatten)]
    fetch: FetchArguments,
    #[command(flatten)]
    server: ServerArguments,
}

impl Render {
    pub(crate) async fn run(self, before: &Before) -> Result<Exit, Failure> {
        let mut fetcher = Fetcher::new(&self.server, &self.fetch);
        let Some(file) = &self.output else {
            if self.server.json {
                return Err(Failure::usage("--json tells of the file of -o, and there is none"));
            }
            let text = render(&self.template, &mut fetcher).await?;
            Output::new(false).text(&text)?;
            return Ok(Exit::Done);
        };
        if self.watch && is_stdin(&self.template) {
            return Err(Failure::usage("stdin is read once, and --watch reads the template again")
                .hint("give the template as a file"));
        }
        if self.watch {
            self.fetch.refuse_only_copies()?;
        }
        let destination = Destination::new(file, self.mode)?;
        if !self.force {
            destination.refuse_in_work_tree()?;
        }
        let text = render(&self.template, &mut fetcher).await?;
        if !self.watch {
            self.place(&destination, &text, before).await?;
            return Ok(Exit::Done);
        }
        // Until here a signal ends it, since there may be much to wait for.
        let mut watch = Watch::new(self.interval)?;
        self.place(&destination, &text, before).await?;
        output::note(&format!(
            "watching, every {}; end it with Ctrl-C",
            clock::format_duration(self.interval)
        ));
        loop {
            fetcher.keep_tokens().await;
            if watch.pause().await == Pause::Ended {
                return Ok(Exit::Done);
            }
            fetcher.begin_again();
            let done = match render(&self.template, &mut fetcher).await {
                Ok(text) => self.place(&destination, &text, before).await,
                Err(failure) => Err(failure),
            };
            watch.tell(done.err(), &format!("{} stays as it was", file.display()));
        }
    }

    /// Writes the file where it has changed, and runs what is to be run then.
    async fn place(
        &self,
        destination: &Destination,
        text: &SecretString,
        before: &Before,
    ) -> Result<(), Failure> {
        let written = destination.write(text)?;
        let output = Output::new(self.server.json);
        destination.report(output, written)?;
        match &self.exec {
            Some(line) if written == Written::Changed => execute(line, before).await,
            Some(_) | None => Ok(()),
        }
    }
}

async fn render(file: &Path, fetcher: &mut Fetcher<'_>) -> Result<SecretString, Failure> {
    let (shown, bytes) = if is_stdin(file) {
        ("stdin".to_owned(), prompt::stdin_whole()?)
    } else {
        (file.display().to_string(), files::read(file)?)
    };
    let text = prompt::text(bytes, &shown)?;
    template::render(&text, &shown, fetcher).await
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Runs a line of shell to its end.
async fn execute(line: &str, before: &Before) -> Result<(), Failure> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::null());
    for name in hygiene::TOKENS {
        command.env_remove(name);
    }
    let child = before.lend(|| command.spawn());
    let mut child = child.map_err(|error| Failure::io("run /bin/sh", &error))?;
    let status = child.wait().await.map_err(|error| Failure::io("wait for /bin/sh", &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("the file has changed, and the command of --exec failed: {status}")))
}

fn mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & 0o600 == 0o600 && mode <= 0o777 => Ok(mode),
        Ok(_) => Err("its owner must be able to read and write it, and there is no more than 0777"),
        Err(_) => Err("it is written in octal digits, such as 0640"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_leaves_the_owner_in() {
        assert_eq!(mode("0640"), Ok(0o640));
        assert_eq!(mode("600"), Ok(0o600));
        for text in ["", "0o600", "0800", "0044", "1777", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
