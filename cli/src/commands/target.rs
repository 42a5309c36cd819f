//! Where a path such as `secret/app/db` leads: to a mount, and to a path inside it.

use kista::client::{Client, Error, Kv2, MountInfo};

use super::near;
use crate::{
    failure::{Exit, Failure},
    server::Server,
};

/// A place in a KV mount, of version 2 unless the command knows what to do with version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without a slash at its end.
    mount: String,
    /// Inside the mount; empty for the mount itself.
    pub(crate) path: String,
    versions: Versions,
}

/// Whether a mount keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    /// KV version 2.
    Kept,
    /// KV version 1.
    None,
}

impl Target {
    /// The secret that `given` names. `verb` is what the user wants to do with it.
    pub(crate) async fn secret(server: &Server, given: &str, verb: &str) -> Result<Self, Failure> {
        Self::secret_of_any(server, given, verb).await?.with_versions(given)
    }

    /// The same, of a mount of version 1 too.
    pub(crate) async fn secret_of_any(
        server: &Server,
        given: &str,
        verb: &str,
    ) -> Result<Self, Failure> {
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
        Self::folder_of_any(server, given).await?.with_versions(given)
    }

    /// The same, of a mount of version 1 too.
    pub(crate) async fn folder_of_any(server: &Server, given: &str) -> Result<Self, Failure> {
        Self::find(server, given, "list").await
    }

    /// All of a mount.
    pub(crate) fn of_mount(mount: &MountInfo) -> Self {
        Self::new(&mount.path, String::new(), Versions::Kept)
    }

    /// Another path in the same mount.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// A secret by its whole path, where it is in the same mount.
    pub(crate) fn beside(&self, whole: &str) -> Option<Self> {
        Self::inside(&self.mount, whole.trim_start_matches('/'), self.versions)
            .filter(|target| !target.path.is_empty() && !target.path.ends_with('/'))
    }

    /// Whether both are in one mount.
    pub(crate) fn is_in_mount_of(&self, other: &Self) -> bool {
        self.mount == other.mount
    }

    /// Whether the mount keeps versions.
    pub(crate) fn has_versions(&self) -> bool {
        self.versions == Versions::Kept
    }

    /// The secrets of the mount, which keeps versions.
    pub(crate) fn kv2<'a>(&'a self, client: &'a Client) -> Kv2<'a> {
        client.kv2(&self.mount)
    }

    /// The whole path as a user writes it.
    pub(crate) fn whole(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }

    /// The route of what is known of a secret.
    pub(crate) fn metadata_route(&self) -> String {
        format!("{}/metadata/{}", self.mount, self.path)
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
                .hint(near::mount(server, path).await)
                .exit(Exit::Denied));
            }
            Err(error) => return Err(server.explain(&format!("{verb} {given}"), error).await),
        };
        let versions = match (mount.is_kv2(), mount.kind.as_str()) {
            (true, _) => Versions::Kept,
            (false, "kv") => Versions::None,
            (false, _) => return Err(other_mount(&mount, given)),
        };
        Self::inside(&mount.path, path, versions).ok_or_else(|| {
            Failure::new(format!("the server's mount {} does not hold {given}", mount.path))
        })
    }

    fn with_versions(self, given: &str) -> Result<Self, Failure> {
        if self.has_versions() {
            return Ok(self);
        }
        Err(Failure::new(format!(
            "{}/ is KV version 1, and this command is for version 2",
            self.mount
        ))
        .hint(format!(
            "of version 1 there are: kista get {given}, put, ls, tree and rm\n{}",
            self.how_to_upgrade()
        )))
    }

    /// How a mount of version 1 comes to keep versions.
    pub(crate) fn how_to_upgrade(&self) -> String {
        format!(
            "versions for what it holds, while it is in use: printf \
             '{{\"options\":{{\"version\":\"2\"}}}}' | kista write sys/mounts/{}/tune -",
            self.mount
        )
    }

    fn inside(mount: &str, path: &str, versions: Versions) -> Option<Self> {
        let mount = mount.trim_end_matches('/');
        let rest = path.strip_prefix(mount)?;
        let inside = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
        Some(Self::new(mount, inside.to_owned(), versions))
    }

    fn new(mount: &str, path: String, versions: Versions) -> Self {
        Self { mount: mount.trim_end_matches('/').to_owned(), path, versions }
    }
}

/// Says what a mount is that these commands are not for, and what there is for it.
fn other_mount(mount: &MountInfo, given: &str) -> Failure {
    Failure::new(format!(
        "{} is a mount of type {}, and this command is for KV",
        mount.path, mount.kind
    ))
    .hint(format!("for any route: kista read {given}, kista write, kista list"))
}

/// What stands between mount and path on the wire, and never on the command line.
const API_PARTS: [&str; 2] = ["data/", "metadata/"];

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mount: &str, path: &str) -> Target {
        Target::inside(mount, path, Versions::Kept).unwrap()
    }

    #[test]
    fn the_mount_is_cut_off_at_a_slash() {
        assert_eq!(target("secret/", "secret/app/db").path, "app/db");
        assert_eq!(target("team/kv/", "team/kv").path, "");
        assert_eq!(target("team/kv/", "team/kv/a").whole(), "team/kv/a");
        assert_eq!(Target::inside("secret/", "secrets/a", Versions::None), None);
        assert_eq!(Target::inside("other/", "secret/a", Versions::None), None);
    }

    #[test]
    fn a_path_of_the_api_is_recognised() {
        let meant = |path| target("secret/", path).without_api_part();
        assert_eq!(meant("secret/data/app/db").as_deref(), Some("secret/app/db"));
        assert_eq!(meant("secret/metadata/app").as_deref(), Some("secret/app"));
        assert_eq!(meant("secret/database/a"), None);
    }
}
