use clap::Args;
use kista::client::SealStatus;
use serde::Serialize;

use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    server::Server,
};

/// Show whether the server is initialised and sealed. Needs no token.
///
/// Ends with 0 when it is unsealed, with 5 when it is sealed, not initialised or not there.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista status")]
pub(crate) struct Status {
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Shown<'a> {
    address: &'a str,
    #[serde(flatten)]
    status: &'a SealStatus,
}

impl Status {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let status = match server.client.sys().seal_status().await {
            Ok(status) => status,
            Err(error) => return Err(server.explain("ask for the status", error).await),
        };
        print(&server, &status, Output::new(self.server.json))?;
        Ok(if status.sealed { Exit::Unavailable } else { Exit::Done })
    }
}

/// Prints the state, and on stderr what to do about it.
pub(crate) fn print(server: &Server, status: &SealStatus, output: Output) -> Result<(), Failure> {
    let address = server.client.address();
    if output.wants_json() {
        output.serialized(&Shown { address, status })?;
    } else {
        let rows: Vec<_> =
            rows(address, status).into_iter().map(|row| row.map(Cell::Plain)).collect();
        output.table(["KEY", "VALUE"], &rows)?;
    }
    for warning in &status.warnings {
        output::warn(warning);
    }
    if !status.initialized {
        output::note("next:  kista operator init");
    } else if status.warnings.iter().any(|warning| warning == "rollback_detected") {
        output::note(
            "put the newer data folder back and restart; or, to go on with this older one,\n\
             next:  kista operator accept-rollback",
        );
    } else if status.sealed {
        output::note("next:  kista operator unseal");
    }
    Ok(())
}

fn rows(address: &str, status: &SealStatus) -> Vec<[String; 2]> {
    let mut rows = vec![
        ("address", address.to_owned()),
        ("initialized", status.initialized.to_string()),
        ("sealed", status.sealed.to_string()),
        ("seal type", status.kind.clone()),
    ];
    if status.shares > 0 {
        rows.push(("shares", format!("{} of {}", status.threshold, status.shares)));
    }
    if status.sealed && status.threshold > 0 {
        rows.push(("progress", format!("{} of {}", status.progress, status.threshold)));
    }
    rows.push(("version", status.version.clone()));
    let optional = [("cluster name", &status.cluster_name), ("storage type", &status.storage_type)];
    for (key, value) in optional {
        if let Some(value) = value {
            rows.push((key, value.clone()));
        }
    }
    rows.into_iter().map(|(key, value)| [key.to_owned(), value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> SealStatus {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_sealed_vault_shows_its_progress() {
        let status = status(
            r#"{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,
                "nonce":"x","version":"2.0.0","migration":false}"#,
        );
        let rows = rows("https://a", &status);
        assert!(rows.contains(&["shares".to_owned(), "3 of 5".to_owned()]));
        assert!(rows.contains(&["progress".to_owned(), "1 of 3".to_owned()]));
    }

    #[test]
    fn one_that_is_not_initialised_has_no_shares() {
        let status = status(
            r#"{"type":"shamir","initialized":false,"sealed":true,"t":0,"n":0,"progress":0,
                "nonce":"","version":"2.0.0"}"#,
        );
        assert!(rows("https://a", &status).iter().all(|[key, _]| key != "shares"));
    }
}
