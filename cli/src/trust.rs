//! The first meeting with a server: whether its certificate is to be trusted, and how that is kept.

use std::path::PathBuf;

use data_encoding::BASE64;
use kista::{
    client::{BuildError, Client, Error, Pin},
    http::Fingerprint,
    secret::SecretBytes,
};

use crate::{
    context,
    failure::{Exit, Failure},
    files,
    folders::Folders,
    output,
    prompt::Person,
    server::{Server, unusable},
};

/// Whom a context trusts. The system's CA certificates when neither is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// A PEM file of CA certificates.
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM file of the server's own certificate.
    pub(crate) certificate_file: Option<PathBuf>,
}

/// How a certificate that nobody vouches for may come to be trusted.
#[derive(Debug)]
pub(crate) struct Approval<'a> {
    /// The fingerprint that the user knows it by.
    pub(crate) fingerprint: Option<&'a str>,
    pub(crate) person: Person,
}

impl Trust {
    /// The file that stands for it.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.ca_file.as_ref().or(self.certificate_file.as_ref())
    }

    /// Meets the server at `address`, of which the context `name` knows nothing yet.
    pub(crate) async fn meet(
        folders: &Folders,
        name: &str,
        address: &str,
        approval: &Approval<'_>,
    ) -> Result<Self, Failure> {
        if approval.fingerprint.is_none() {
            match Client::builder(address).build() {
                Ok(client) => match client.sys().health().await {
                    Err(Error::Untrusted { .. }) => {}
                    Err(error) => {
                        return Err(Server::typed(client).explain("meet the server", error).await);
                    }
                    Ok(_) => return Ok(Self::default()),
                },
                // A system without CA certificates vouches for nobody.
                Err(BuildError::Tls(_)) => {}
                Err(error) => return Err(unusable(&error)),
            }
        }
        let certificate = approved(address, approval).await?;
        // Only now does the server prove that it holds the certificate's key, and that what it
        // sends along is from it.
        let pin = Pin::of(&certificate);
        let client = Client::builder(address).pin(&pin).build().map_err(|e| unusable(&e))?;
        if let Err(error) = client.sys().health().await {
            return Err(Server::typed(client).explain("meet the server", error).await);
        }
        let shown = pin.shown();
        // A CA outlives the certificates that it issues.
        let file = context::file(folders, name)?.with_extension("pem");
        let trusted = shown.last().unwrap_or(&certificate);
        files::replace(&file, &SecretBytes::from_vec(pem(trusted).into_bytes()))?;
        Ok(if shown.len() > 1 {
            Self { ca_file: Some(file), certificate_file: None }
        } else {
            Self { ca_file: None, certificate_file: Some(file) }
        })
    }
}

/// The certificate that the server shows, when the user knows it.
async fn approved(address: &str, approval: &Approval<'_>) -> Result<Vec<u8>, Failure> {
    let pin = Pin::unknown();
    let client = Client::builder(address).pin(&pin).build().map_err(|e| unusable(&e))?;
    let met = client.sys().health().await;
    let Some(certificate) = pin.shown().into_iter().next() else {
        return match met {
            Ok(_) => Err(Failure::usage(format!("{address} has no certificate: it is plain HTTP"))
                .hint("leave out --fingerprint")),
            Err(error) => Err(Server::typed(client).explain("meet the server", error).await),
        };
    };
    let shown = Fingerprint::of(&certificate).to_string();
    if let Some(known) = approval.fingerprint {
        if bare(known) != bare(&shown) {
            return Err(Failure::new(format!(
                "{address} shows another certificate than the one you know\n  SHA-256 {shown}"
            ))
            .hint("nothing was sent to it; ask whoever runs the server for its fingerprint")
            .exit(Exit::Unavailable));
        }
        return Ok(certificate);
    }
    output::note(&format!(
        "No CA that this machine trusts vouches for {address}. Its certificate is\n  SHA-256 \
         {shown}\n`kista up` prints this on the server's own screen; so does, there: openssl x509 \
         -noout -fingerprint -sha256 -in FILE"
    ));
    let answer = approval.person.line(
        "type yes if it is the same",
        "give --fingerprint SHA256 once you have it from whoever runs the server, or --ca-cert FILE",
    )?;
    if !matches!(answer.as_str(), "y" | "yes" | "Yes" | "YES") {
        return Err(Failure::new(
            "the certificate is not trusted, and nothing was sent to the server",
        )
        .hint("compare the fingerprint with what the server's own screen shows")
        .exit(Exit::Unavailable));
    }
    Ok(certificate)
}

/// The hexadecimal digits of a fingerprint, however it is spelled: `SHA256:`, colons, either case.
fn bare(fingerprint: &str) -> String {
    let upper = fingerprint.trim().to_ascii_uppercase();
    let digits = ["SHA256:", "SHA-256:", "SHA256 FINGERPRINT=", "SHA-256 "]
        .iter()
        .find_map(|prefix| upper.strip_prefix(prefix))
        .unwrap_or(&upper);
    digits.chars().filter(|c| !matches!(c, ':' | ' ')).collect()
}

/// RFC 7468.
fn pem(certificate: &[u8]) -> String {
    let base64 = BASE64.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----");
    for (n, char) in base64.chars().enumerate() {
        if n % 64 == 0 {
            text.push('\n');
        }
        text.push(char);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_known_in_each_spelling() {
        for text in
            ["9F:3A:11", "9f3a11", "SHA256:9f3a11", "sha256 Fingerprint=9F:3A:11", " 9F 3A 11"]
        {
            assert_eq!(bare(text), "9F3A11", "{text}");
        }
        assert_ne!(bare("9F3A12"), "9F3A11");
    }

    #[test]
    fn a_pem_file_has_lines_of_64() {
        let text = pem(&[0xff; 96]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].len() == 64 && lines[2].len() == 64);
    }
}
