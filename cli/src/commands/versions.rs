//! The versions of a secret, for the commands that name some of them.

use kista::client::{Error, SecretMetadata};

use super::{near, target::Target};
use crate::{
    failure::{Exit, Failure},
    server::Server,
};

/// What the server knows of a secret; where there is none, names like it.
pub(crate) async fn known(
    server: &Server,
    target: &Target,
    path: &str,
) -> Result<SecretMetadata, Failure> {
    match target.kv2(&server.client).metadata(&target.path).await {
        Ok(metadata) => Ok(metadata),
        Err(Error::NotFound) => {
            let failure = Failure::new(format!("there is no {path}")).exit(Exit::NotFound);
            Err(match near::hint(server, target).await {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
        Err(error) => Err(server.explain(&format!("read the versions of {path}"), error).await),
    }
}

/// The first of these versions that is not kept, as an error.
pub(crate) fn check_kept(
    metadata: &SecretMetadata,
    versions: &[u64],
    path: &str,
) -> Result<(), Failure> {
    match versions.iter().find(|version| !metadata.versions.contains_key(version)) {
        None => Ok(()),
        Some(version) => Err(Failure::new(format!("there is no version {version} of {path}"))
            .hint(format!("kista log {path}"))
            .exit(Exit::NotFound)),
    }
}
