//! A bucket of an object store that speaks S3, reached over a network that may fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::error::StoreError;

/// Attempts of one request, within [`S3Location::retry_for`].
const RETRIES: usize = 10;
/// The longest rest between two attempts.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// A prefix in a bucket, how to reach it, and how to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket, which must be there.
    pub bucket: String,
    /// The tables are below this; empty: below the bucket itself. Without a slash at either end.
    pub prefix: String,
    /// `http://…` or `https://…`; `None`: the region's own of AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Who we are.
    pub credentials: Credentials,
    /// Whether the endpoint may be plain HTTP. Without this it is refused.
    pub allow_http: bool,
    /// Whether the bucket is part of the host's name instead of the path.
    pub bucket_in_host: bool,
    /// Certificates in DER that are trusted besides the machine's own.
    pub authorities: Vec<Vec<u8>>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a request may take, body included.
    pub request_timeout: Duration,
    /// An attempt that failed is repeated so long after the first.
    pub retry_for: Duration,
    /// How long the owner of a stream may be silent before another may take over.
    pub lease: Duration,
}

/// Who we are to the object store. Neither logs nor error texts show it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Keys that were given to us.
    Keys {
        /// Names the key.
        access_key_id: String,
        /// The key.
        secret_access_key: String,
    },
    /// Those that the machine, container or pod has of its own, found as AWS's programs find them.
    Machine,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Keys(…)",
            Self::Machine => "Machine",
        })
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&url_text(&self.bucket, &self.prefix))
    }
}

pub(super) fn url_text(bucket: &str, prefix: &str) -> String {
    if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") }
}

/// A client for the bucket. Nothing is sent yet.
pub(super) fn store(location: &S3Location) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let refused = |source: object_store::Error| StoreError::place(location, source);
    let mut client = ClientOptions::new()
        .with_connect_timeout(location.connect_timeout)
        .with_timeout(location.request_timeout)
        .with_allow_http(location.allow_http);
    for der in &location.authorities {
        client = client.with_root_certificate(Certificate::from_der(der).map_err(refused)?);
    }
    let retry = RetryConfig {
        backoff: BackoffConfig { max_backoff: LONGEST_REST, ..BackoffConfig::default() },
        max_retries: RETRIES,
        retry_timeout: location.retry_for,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&location.bucket)
        .with_region(&location.region)
        .with_virtual_hosted_style_request(location.bucket_in_host)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_client_options(client)
        .with_retry(retry);
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Credentials::Keys { access_key_id, secret_access_key } = &location.credentials {
        builder = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key);
    }
    Ok(Arc::new(builder.build().map_err(refused)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_nowhere() {
        let location = S3Location {
            bucket: "b".into(),
            prefix: "p".into(),
            endpoint: Some("https://localhost:1".into()),
            region: "here".into(),
            credentials: Credentials::Keys { access_key_id: "who".into(), secret_access_key: "hunter2".into() },
            allow_http: false,
            bucket_in_host: false,
            authorities: Vec::new(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            retry_for: Duration::from_secs(1),
            lease: Duration::from_secs(1),
        };
        for shown in [format!("{location:?} {location}"), format!("{:?}", store(&location).unwrap())] {
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }
}
