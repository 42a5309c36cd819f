//! Where a path such as `secret/app/db` leads: to a mount, and to a path inside it.

use kista::client::{Client, Error, Kv2, MountInfo};

use crate::{
    failure::{Exit, Failure},
    server::Server,
};

/// A place in a KV version 2 mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without a slash at its end.
    mount: String,
    /// Inside the mount; empty for the mount itself.
    pub(crate) path: String,
}

impl Target {
    /// The secret that `given` names. `verb` is what the user wants to do with it.
    pub(crate) async fn secret(server: &Server, given: &str, verb: &str) -> Result<Self, Failure> {
        if given.ends_with('/') {
            return Err(Failure::usage(format!("{given} is a folder, not a secret"))
                .hint(format!("kista ls {given}")));
        }
        let target = Self::find(server, given, verb).await?;
        if target.path.is_empty() {
            return Err(Failure::usage(format!("{given} is a mount, not a secret"))
                .hint(format!("kista ls {given}/")));
        }
        Ok(target)
    }

    /// The folder that `given` names, with or without a slash at its end.
    pub(crate) async fn folder(server: &Server, given: &str) -> Result<Self, Failure> {
        Self::find(server, given, "list").await
    }

    /// All of a mount.
    pub(crate) fn of_mount(mount: &MountInfo) -> Self {
        Self { mount: mount.path.trim_end_matches('/').to_owned(), path: String::new() }
    }

    /// Another path in the same mount.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        Self { mount: self.mount.clone(), path: path.to_owned() }
    }

    /// A secret by its whole path, where it is in the same mount.
    pub(crate) fn beside(&self, whole: &str) -> Option<Self> {
        Self::inside(&self.mount, whole.trim_start_matches('/'))
            .filter(|target| !target.path.is_empty() && !target.path.ends_with('/'))
    }

    /// Whether both are in one mount.
    pub(crate) fn is_in_mount_of(&self, other: &Self) -> bool {
        self.mount == other.mount
    }

    /// The secrets of the mount.
    pub(crate) fn kv2<'a>(&'a self, client: &'a Client) -> Kv2<'a> {
        client.kv2(&self.mount)
    }

    /// The whole path as a user writes it.
    pub(crate) fn whole(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }

    /// What the user meant who wrote the path as the API has it, with `data/` after the mount.
    pub(crate) fn without_api_part(&self) -> Option<String> {
        let rest = API_PARTS.iter().find_map(|part| self.path.strip_prefix(part))?;
        Some(format!("{}/{rest}", self.mount))
    }

    async fn find(server: &Server, given: &str, verb: &str) -> Result<Self, Failure> {
        let path = given.trim_matches('/');
        let mount = match server.client.sys().mount_of(path).await {
            Ok(mount) => mount,
            Err(Error::Denied { .. }) => {
                return Err(Failure::new(format!(
                    "no mount holds {given}, or the token may not see it"
                ))
                .hint("a path begins with its mount: `kista up` makes secret/, others are made with POST \
                     sys/mounts/NAME")
                .exit(Exit::Denied));
            }
            Err(error) => return Err(server.explain(&format!("{verb} {given}"), error).await),
        };
        if !mount.is_kv2() {
            return Err(other_mount(&mount, given));
        }
        Self::inside(&mount.path, path).ok_or_else(|| {
            Failure::new(format!("the server's mount {} does not hold {given}", mount.path))
        })
    }

    fn inside(mount: &str, path: &str) -> Option<Self> {
        let mount = mount.trim_end_matches('/');
        let rest = path.strip_prefix(mount)?;
        let inside = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
        Some(Self { mount: mount.to_owned(), path: inside.to_owned() })
    }
}

/// Says what a mount is that these commands are not for, and what there is for it.
fn other_mount(mount: &MountInfo, given: &str) -> Failure {
    let failure = Failure::new(format!(
        "{} is a mount of type {}, and this command is for KV version 2",
        mount.path, mount.kind
    ));
    if mount.kind != "kv" {
        return failure.hint(format!("for any route: kista read {given}, kista write, kista list"));
    }
    failure.hint(format!(
        "it is of version 1: kista read {given}, kista write, kista list\nversions for what it holds, \
         while it is in use: printf '{{\"options\":{{\"version\":\"2\"}}}}' | kista write sys/mounts/{}tune -",
        mount.path
    ))
}

/// What stands between mount and path on the wire, and never on the command line.
const API_PARTS: [&str; 2] = ["data/", "metadata/"];

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mount: &str, path: &str) -> Target {
        Target::inside(mount, path).unwrap()
    }

    #[test]
    fn the_mount_is_cut_off_at_a_slash() {
        assert_eq!(target("secret/", "secret/app/db").path, "app/db");
        assert_eq!(target("team/kv/", "team/kv").path, "");
        assert_eq!(target("team/kv/", "team/kv/a").whole(), "team/kv/a");
        assert_eq!(Target::inside("secret/", "secrets/a"), None);
        assert_eq!(Target::inside("other/", "secret/a"), None);
    }

    #[test]
    fn a_path_of_the_api_is_recognised() {
        let meant = |path| target("secret/", path).without_api_part();
        assert_eq!(meant("secret/data/app/db").as_deref(), Some("secret/app/db"));
        assert_eq!(meant("secret/metadata/app").as_deref(), Some("secret/app"));
        assert_eq!(meant("secret/database/a"), None);
    }
}
