//! What is set of a secret beside its versions.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

use super::{Capability, Error, Fields, Kv2, transport::Call};

/// What to set of a secret; `POST metadata/:path`. What is `None` stays as it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MetadataChanges {
    /// Versions that are kept; 0: as many as the mount says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_versions: Option<u32>,
    /// Whether a write must name the version it expects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cas_required: Option<bool>,
    /// How long after its writing a version is deleted by itself, in whole seconds; zero: never.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub delete_version_after: Option<Duration>,
    /// What the owner says about the secret, in place of all that was said before. It is no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

impl Kv2<'_> {
    /// Sets what is known of a secret; where there is none, one without versions comes about.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when the server does not take a value, and what any call
    /// may answer. After [`Error::Unreachable`] it may or may not have been set.
    pub async fn set_metadata(&self, path: &str, changes: &MetadataChanges) -> Result<(), Error> {
        let place = self.place("metadata", path);
        // INVARIANT: numbers and texts by name, which always are a JSON object.
        let body = Fields::of(changes).map_err(|_| Error::Unexpected("it is no JSON"))?;
        let call = Call::write(place, Capability::Write, body.to_json())?;
        self.client.send(&call).await?;
        Ok(())
    }
}

fn seconds<S: Serializer>(after: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = after.map(|after| format!("{}s", after.as_secs()));
    seconds.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Scripted};

    #[tokio::test]
    async fn only_what_is_given_is_sent() {
        let fake = Fake::start(vec![Scripted::Answer(204, "", ""); 2]).await;
        let client = fake.client();
        let kv2 = client.kv2("secret");
        kv2.set_metadata("a", &MetadataChanges::default()).await.unwrap();
        let custom = BTreeMap::from([("owner".to_owned(), "db team".to_owned())]);
        let changes = MetadataChanges {
            max_versions: Some(3),
            delete_version_after: Some(Duration::from_secs(90)),
            custom_metadata: Some(custom),
            ..MetadataChanges::default()
        };
        kv2.set_metadata("a", &changes).await.unwrap();
        let requests = fake.requests();
        assert!(requests[0].starts_with("PUT /v1/secret/metadata/a "), "{requests:?}");
        assert!(requests[0].ends_with("\r\n\r\n{}"), "{requests:?}");
        assert!(requests[1].ends_with(
            r#"{"max_versions":3,"delete_version_after":"90s","custom_metadata":{"owner":"db team"}}"#
        ));
    }
}
