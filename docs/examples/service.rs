//! A web service that has its database credentials from the vault: it waits while the vault is
//! sealed, keeps its token alive, and takes the new credentials when they change.

use std::{env, error::Error, process::ExitCode, time::Duration};

use axum::{Router, extract::State, routing::get};
use kista::{
    client::{Client, SecretWatcher, Versioned},
    secret::SecretString,
};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::watch};

/// What `secret/app/db` holds.
#[derive(Debug, Deserialize)]
struct Database {
    url: String,
    user: String,
    password: SecretString, // wiped when dropped, hidden in Debug
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = serve().await else { return ExitCode::SUCCESS };
    eprintln!("the service ends: {error}");
    ExitCode::FAILURE
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let client = Client::from_env()?; // KISTA_ADDR, KISTA_TOKEN, KISTA_CACERT; or VAULT_…
    client.wait_until_ready(Duration::from_secs(60)).await?;
    let token = client.own_token().keep_alive().await?;
    let mut secrets = client.kv2("secret").watch::<Database>("app/db", Duration::from_secs(5));
    let first = secrets.next().await.map_err(|error| format!("secret/app/db: {error}"))?;
    let (pools, pool) = watch::channel(connect(&first));

    let listener = TcpListener::bind(env::args().nth(1).ok_or("which HOST:PORT?")?).await?;
    let app = Router::new().route("/", get(page)).with_state(pool);
    tokio::select! {
        ended = axum::serve(listener, app) => ended?,
        () = reload(secrets, pools) => {}
        // Whoever starts the service again gives it another token.
        why = token.ended() => return Err(why.into()),
    }
    Ok(())
}

/// Connects anew with each new version. What fails is told, and the old connections stay.
async fn reload(mut secrets: SecretWatcher<Database>, pools: watch::Sender<Pool>) {
    loop {
        match secrets.next().await {
            Ok(found) => drop(pools.send_replace(connect(&found))),
            Err(error) => eprintln!("secret/app/db: {error}"),
        }
    }
}

/// Which version is in use, and nothing that is secret.
async fn page(State(pool): State<watch::Receiver<Pool>>) -> String {
    let pool = pool.borrow();
    format!("connected as {}, version {}\n", pool.user, pool.version)
}

/// Stands for the connections to a database.
struct Pool {
    user: String,
    version: u64,
}

fn connect(found: &Versioned<Database>) -> Pool {
    let Database { url, user, password } = &found.value;
    let version = found.metadata.version;
    // The password is lent for the one call that needs it.
    password.expose(|password| open(url, user, password, version))
}

/// Where a service of yours opens its connections.
fn open(_url: &str, user: &str, _password: &str, version: u64) -> Pool {
    Pool { user: user.to_owned(), version }
}
