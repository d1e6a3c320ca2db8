//! `[lake]`: where the tables are, on a local disk or on an object store.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::mqtt::{certificates, is_loopback};
use super::secret::read_secret;
use super::{Secret, Surroundings};
use crate::document::Section;
use crate::quantity::{MINUTE, SECOND};

/// Where the tables are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LakeConfig {
    /// The root of all tables.
    pub root: LakeRoot,
}

/// The root of all tables.
#[derive(Debug, Clone, PartialEq)]
pub enum LakeRoot {
    /// A folder on a local disk.
    Folder(PathBuf),
    /// A prefix in a bucket of an object store that speaks S3.
    S3(Box<S3Config>),
}

impl Default for LakeRoot {
    fn default() -> Self {
        Self::Folder("lake".into())
    }
}

impl fmt::Display for LakeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3(s3) if s3.prefix.is_empty() => write!(f, "s3://{}", s3.bucket),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

/// An object store, how to reach it, and how to be let in.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The tables are below this; may be empty. Without a slash at either end.
    pub prefix: String,
    /// `https://host:port`, or `http://…` where that is allowed; `None`: AWS's own of the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Who we are.
    pub credentials: S3Credentials,
    /// Whether the bucket is part of the host's name instead of the path.
    pub bucket_in_host: bool,
    /// Who may vouch for the endpoint besides whom this machine trusts.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a request may take.
    pub request_timeout: Duration,
    /// How long after the first attempt a request is tried again.
    pub retry_for: Duration,
    /// Silence of the owner of a stream after which another may take over.
    pub lease: Duration,
}

/// Who we are to an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// Keys.
    Keys {
        /// Names the key.
        access_key_id: String,
        /// The key.
        secret_access_key: Secret,
    },
    /// Those that the machine, container or pod has of its own.
    Machine,
}

#[derive(Clone, Copy)]
enum Kind {
    Keys,
    Machine,
}

/// What `root` says, before it is known how an object store is reached.
enum Named {
    Folder(PathBuf),
    Bucket { bucket: String, prefix: String },
}

impl LakeConfig {
    pub(super) fn read(mut section: Section<'_>, around: &Surroundings<'_>) -> Self {
        let root = section.parsed("root", named);
        let mut s3 = section.section("s3");
        let root = match root {
            Some(Named::Bucket { bucket, prefix }) => read_s3(&mut s3, bucket, prefix, around).map(Box::new),
            named => {
                // Its mistakes are told in any case.
                read_s3(&mut s3, String::new(), String::new(), around);
                let folder = match named {
                    Some(Named::Folder(path)) => Some(path),
                    _ => None,
                };
                if s3.is_there() && (folder.is_some() || !section.has("root")) {
                    section.refuse("s3", "is for tables on an object store, and `lake.root` is a folder");
                }
                let LakeRoot::Folder(default) = LakeRoot::default() else { return Self::default() };
                return Self { root: LakeRoot::Folder(around.path_of(folder.unwrap_or(default))) };
            }
        };
        Self { root: root.map_or_else(LakeRoot::default, LakeRoot::S3) }
    }
}

fn named(text: &str) -> Result<Named, String> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    match path.split_once("://") {
        None if path.is_empty() => Err("is empty".to_owned()),
        None => Ok(Named::Folder(path.into())),
        Some(("s3", place)) => {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(plain) {
                let wanted = "3 to 63 small letters, digits, `-` or `.` are wanted";
                return Err(format!("names the bucket \"{bucket}\"; {wanted}"));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
            let part = |part: &str| !part.is_empty() && part.chars().all(plain) && !part.chars().all(|c| c == '.');
            if !(prefix.is_empty() || prefix.split('/').all(part)) {
                let wanted = "parts of letters, digits, `-`, `_`, `.` or `=` are wanted, with one `/` between";
                return Err(format!("names the prefix \"{prefix}\"; {wanted}"));
            }
            Ok(Named::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        }
        Some((scheme, _)) => Err(format!("is on `{scheme}`; a local folder or s3://BUCKET/PREFIX is possible")),
    }
}

fn read_s3(s: &mut Section<'_>, bucket: String, prefix: String, around: &Surroundings<'_>) -> Option<S3Config> {
    let endpoint = s.parsed("endpoint", endpoint);
    let region = s.text("region").unwrap_or_else(|| "us-east-1".to_owned());
    let kind = s.choice("credentials", &[("keys", Kind::Keys), ("machine", Kind::Machine)]).unwrap_or(Kind::Keys);
    let access_key_id = s.text("access_key_id");
    let secret = read_secret(s, ["secret_access_key", "secret_access_key_file", "secret_access_key_env"], around);
    let bucket_in_host = s.boolean("bucket_in_host").unwrap_or(false);
    let authorities = s.parsed("ca_file", |path| certificates(around.path(path))).unwrap_or_default();
    let connect_timeout = s.duration("connect_timeout", SECOND / 10..=MINUTE).unwrap_or(5 * SECOND);
    let request_timeout = s.duration("request_timeout", SECOND / 10..=15 * MINUTE).unwrap_or(MINUTE);
    let retry_for = s.duration("retry_for", Duration::ZERO..=5 * MINUTE).unwrap_or(MINUTE);
    let lease = s.duration("lease", 5 * SECOND..=10 * MINUTE).unwrap_or(30 * SECOND);
    let allow_plaintext = s.boolean("allow_plaintext").unwrap_or(false);
    if let Some(host) = endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix("http://"))
        && !is_loopback(host.rsplit_once(':').map_or(host, |(host, _)| host))
        && !allow_plaintext
    {
        s.refuse(
            "endpoint",
            format_args!(
                "is {host}, to which readings would go unencrypted: say `https://`, or `allow_plaintext = true` where the \
                 network itself is protected"
            ),
        );
    }
    if bucket.is_empty() {
        return None;
    }
    let credentials = match kind {
        Kind::Machine => {
            for key in ["access_key_id", "secret_access_key_file", "secret_access_key_env"] {
                if s.has(key) {
                    s.refuse(key, "stands beside `credentials = \"machine\"`; one of them is enough");
                }
            }
            S3Credentials::Machine
        }
        Kind::Keys => {
            let id = s.required("access_key_id", access_key_id);
            if !(s.has("secret_access_key_file") || s.has("secret_access_key_env")) {
                s.refuse("secret_access_key_file", "or `secret_access_key_env` is missing");
            }
            S3Credentials::Keys { access_key_id: id?, secret_access_key: secret? }
        }
    };
    Some(S3Config {
        bucket,
        prefix,
        endpoint,
        region,
        credentials,
        bucket_in_host,
        authorities,
        connect_timeout,
        request_timeout,
        retry_for,
        lease,
    })
}

/// `http` or `https` to a host and port, and nothing besides: a user or a path would be passed over in silence.
fn endpoint(text: &str) -> Result<String, String> {
    let wanted = || "is not \"https://HOST\" or \"https://HOST:PORT\"".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '[' | ']' | ':');
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !matches!(scheme, "http" | "https") || host.is_empty() || !host.chars().all(plain) || !port {
        return Err(wanted());
    }
    Ok(format!("{scheme}://{rest}"))
}
