use std::sync::Arc;

use clap::Args;
use kista::client::{Client, Error, Reach};
use tokio::task::JoinSet;

use super::{
    filter::Filter,
    target::Target,
    walk::{Detail, Printer, Walk},
};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output, Reading},
    progress::Progress,
    reference::Place,
    server::Server,
};

/// Find secrets by their names, and with --keys by the names of their keys.
///
/// The pattern is part of a name, whatever its case; with `*` and `?` it is the whole name. With a
/// slash it is for the whole path, where `**` goes over slashes too. Values are never looked at.
/// Without a path it looks in every KV version 2 mount.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista find stripe\n  kista find '*_key' secret/app/ --keys\n  \
                         kista find 'secret/**/db'"
)]
pub(crate) struct Find {
    /// Part of a name, or a pattern with *, ** and ?
    pattern: String,
    /// Mount, or mount and folder, to look in
    path: Option<Place>,
    /// Look at the names of keys too; they are printed as PATH#KEY
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// The search so far.
struct Search<'a> {
    find: &'a Find,
    server: &'a Server,
    filter: Filter,
    progress: Progress,
    printer: Printer,
    seen: u64,
    found: u64,
    /// Secrets whose keys could not be read.
    unread: u64,
}

impl Find {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let (server, targets) = self.targets().await?;
        let path = self.path.as_ref().map_or(String::new(), ToString::to_string);
        let printer = Printer::new(Output::new(self.server.json), &path, "found")?;
        let mut search = Search {
            find: &self,
            server: &server,
            filter: Filter::new(&self.pattern),
            progress: Progress::names("looking"),
            printer,
            seen: 0,
            found: 0,
            unread: 0,
        };
        for target in &targets {
            if search.go_through(target).await? == Reading::Ended {
                return Ok(Exit::Done);
            }
        }
        search.end()
    }

    async fn targets(&self) -> Result<(Server, Vec<Target>), Failure> {
        if let Some(path) = &self.path {
            let server = Server::find_for(&self.server, path)?;
            let target = Target::folder(&server, path).await?;
            return Ok((server, vec![target]));
        }
        let server = Server::find(&self.server)?;
        match server.client.sys().mounts().await {
            Ok(mounts) => {
                let targets =
                    mounts.iter().filter(|mount| mount.is_kv2()).map(Target::of_mount).collect();
                Ok((server, targets))
            }
            Err(Error::Denied { .. }) => {
                Err(Failure::new("the token may not list the mounts to look in")
                    .hint(format!("name one: kista find {} secret/", self.pattern))
                    .exit(Exit::Denied))
            }
            Err(error) => Err(server.explain("list the mounts", error).await),
        }
    }
}

impl Search<'_> {
    async fn go_through(&mut self, target: &Target) -> Result<Reading, Failure> {
        let mut walk = Walk::new(self.server, target, Reach::Below, Detail::Name);
        while let Some(page) = walk.next().await? {
            let names: Vec<String> = page.into_iter().map(|named| named.name).collect();
            for names in names.chunks(if self.find.keys { AT_ONCE } else { names.len().max(1) }) {
                let found = self.found_among(target, names).await?;
                self.seen += names.len() as u64;
                self.found += found.len() as u64;
                let Self { progress, printer, .. } = self;
                progress.count(self.seen);
                let reading =
                    progress.aside(|| printer.print(&found, |path| output::printable(path)))?;
                if reading == Reading::Ended {
                    return Ok(reading);
                }
            }
        }
        Ok(Reading::GoesOn)
    }

    /// The paths, and with --keys the keys, that are looked for, in order.
    async fn found_among(
        &mut self,
        target: &Target,
        names: &[String],
    ) -> Result<Vec<String>, Failure> {
        let keys = if self.find.keys { self.keys_of(target, names).await? } else { Vec::new() };
        let folder = target.whole();
        let folder = folder.trim_end_matches('/');
        let mut found = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let path = format!("{folder}/{name}");
            if self.filter.is_path(&path) {
                found.push(path.clone());
            }
            let keys = keys.get(n).into_iter().flatten();
            let wanted = keys.filter(|key| self.filter.is_key(key));
            found.extend(wanted.map(|key| format!("{path}#{key}")));
        }
        Ok(found)
    }

    /// The keys of each of these secrets, read at the same time.
    async fn keys_of(
        &mut self,
        target: &Target,
        names: &[String],
    ) -> Result<Vec<Vec<String>>, Failure> {
        let target = Arc::new(target.clone());
        let mut reads = JoinSet::new();
        for (n, name) in names.iter().enumerate() {
            let path = format!("{}/{name}", target.path.trim_end_matches('/'));
            let read = keys(self.server.client.clone(), Arc::clone(&target), path);
            reads.spawn(async move { (n, read.await) });
        }
        let mut all = vec![Vec::new(); names.len()];
        while let Some(read) = reads.join_next().await {
            let (n, read) =
                read.map_err(|error| Failure::new(format!("a read was given up: {error}")))?;
            match (read, all.get_mut(n)) {
                (Ok(keys), Some(place)) => *place = keys,
                // Gone since its name was read.
                (Err(Error::NotFound), _) | (Ok(_), None) => {}
                (Err(Error::Denied { .. }), _) => self.unread += 1,
                (Err(error), _) => {
                    return Err(self.server.explain("read the names of keys", error).await);
                }
            }
        }
        Ok(all)
    }

    fn end(self) -> Result<Exit, Failure> {
        let Self { progress, printer, found, unread, .. } = self;
        drop(progress);
        printer.end()?;
        if unread > 0 {
            output::warn(&format!("the keys of {unread} secrets may not be read by this token"));
            return Ok(Exit::Partial);
        }
        if found == 0 {
            output::note("nothing of that name (for what is in a folder: kista find NAME/)");
            return Ok(Exit::NotFound);
        }
        Ok(Exit::Done)
    }
}

async fn keys(client: Client, target: Arc<Target>, path: String) -> Result<Vec<String>, Error> {
    target.kv2(&client).keys(path.trim_matches('/')).await
}

/// Secrets whose keys are read at the same time.
const AT_ONCE: usize = 16;
