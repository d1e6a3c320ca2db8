//! Where a lake is: a folder on a local disk, or a prefix in a bucket of an object store.
//!
//! Tables are named by their place alone; everything else of the store reads and writes through [`ObjectStore`] and does
//! not know which it is.

mod probe;
mod s3;

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::try_join_all;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use crate::durable::DurableFileSystem;
use crate::error::StoreError;

pub(crate) use probe::prove_conditional_puts;
pub use s3::{Credentials, S3Location};

/// Where a lake is, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder on a local disk.
    Local(PathBuf),
    /// A prefix in a bucket.
    S3(Box<S3Location>),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => dir.display().fmt(f),
            Self::S3(location) => location.fmt(f),
        }
    }
}

/// Where the tables are, and the store that serves them.
#[derive(Debug)]
pub(crate) struct Place {
    /// Serves the whole file system or bucket.
    store: Arc<dyn ObjectStore>,
    /// With a slash at its end.
    url: Url,
    root: Root,
}

#[derive(Debug)]
enum Root {
    Directory(PathBuf),
    /// The prefix, and its URL as people write it.
    Prefix(Path, PathBuf),
}

impl Place {
    /// A directory, created when it is not there, over a store of the whole file system.
    pub(crate) fn directory(root: &FilePath, store: Arc<dyn ObjectStore>) -> Result<Self, StoreError> {
        let wrap = |source| StoreError::Directory { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(wrap)?;
        let root = root.canonicalize().map_err(wrap)?;
        let url = Url::from_directory_path(&root);
        let url = url.map_err(|()| StoreError::place(root.display(), "it has no absolute path"))?;
        Ok(Self { store, url, root: Root::Directory(root) })
    }

    /// A prefix of the bucket that the store serves.
    pub(crate) fn bucket(bucket: &str, prefix: &str, store: Arc<dyn ObjectStore>) -> Result<Self, StoreError> {
        let name = s3::url_text(bucket, prefix);
        let url = Url::parse(&format!("{name}/")).map_err(|e| StoreError::place(&name, e))?;
        let prefix = Path::parse(prefix).map_err(|e| StoreError::place(&name, e))?;
        Ok(Self { store, url, root: Root::Prefix(prefix, name.into()) })
    }

    pub(crate) fn connect(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Local(dir) => Self::directory(dir, Arc::new(DurableFileSystem::default())),
            Location::S3(s3) => Self::bucket(&s3.bucket, &s3.prefix, s3::store(s3)?),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The directory; of an object store the URL in its stead, which names no file.
    pub(crate) fn root(&self) -> &FilePath {
        match &self.root {
            Root::Directory(root) | Root::Prefix(_, root) => root,
        }
    }

    pub(crate) fn local_root(&self) -> Option<&FilePath> {
        match &self.root {
            Root::Directory(root) => Some(root),
            Root::Prefix(..) => None,
        }
    }

    pub(crate) fn table_url(&self, table: &str) -> Result<Url, StoreError> {
        self.url.join(&format!("{table}/")).map_err(|e| StoreError::place(self.root().display(), e))
    }

    /// Where everything below the root begins within the store; `None`: it is all that the store has.
    pub(crate) fn beginning(&self) -> Result<Option<Path>, StoreError> {
        match &self.root {
            Root::Directory(root) => Path::from_absolute_path(root)
                .map(Some)
                .map_err(|e| StoreError::storage(format!("name {}", root.display()), e.into())),
            Root::Prefix(prefix, _) => Ok(Some(prefix.clone()).filter(|prefix| prefix.parts().next().is_some())),
        }
    }

    /// Where something below the root is within the store.
    pub(crate) fn key(&self, name: &str) -> Result<Path, StoreError> {
        match &self.root {
            Root::Directory(root) => Path::from_absolute_path(root.join(name))
                .map_err(|e| StoreError::storage(format!("name {}", root.join(name).display()), e.into())),
            Root::Prefix(prefix, _) => Ok(prefix.clone().join(name)),
        }
    }

    /// Whether a table of this name is there.
    pub(crate) async fn has_table(&self, table: &str) -> Result<bool, StoreError> {
        if !is_name(table) {
            return Ok(false);
        }
        match &self.root {
            Root::Directory(root) => Ok(root.join(table).join("_delta_log").is_dir()),
            Root::Prefix(prefix, _) => {
                let log = prefix.clone().join(table).join("_delta_log");
                match self.store.list(Some(&log)).next().await {
                    None => Ok(false),
                    Some(Ok(_)) => Ok(true),
                    Some(Err(source)) => Err(StoreError::storage(format!("list {}", self.shown(&log)), source)),
                }
            }
        }
    }

    /// The names of all tables, in order.
    pub(crate) async fn tables(&self) -> Result<Vec<String>, StoreError> {
        let mut names = match &self.root {
            Root::Directory(root) => tables_in(root)?,
            Root::Prefix(prefix, _) => {
                let prefix = Some(prefix).filter(|prefix| prefix.parts().next().is_some());
                let listed = self.store.list_with_delimiter(prefix).await;
                let what = || format!("list {}", self.root().display());
                let listed = listed.map_err(|source| StoreError::storage(what(), source))?;
                let names = listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned));
                let found = names.map(async |name| Ok(self.has_table(&name).await?.then_some(name)));
                try_join_all(found).await?.into_iter().flatten().collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// A key for people.
    pub(crate) fn shown(&self, key: &Path) -> String {
        match &self.root {
            Root::Directory(_) => format!("/{key}"),
            Root::Prefix(..) => format!("{}://{}/{key}", self.url.scheme(), self.url.host_str().unwrap_or_default()),
        }
    }
}

fn tables_in(root: &FilePath) -> Result<Vec<String>, StoreError> {
    let wrap = |source| StoreError::Directory { path: root.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        if entry.path().join("_delta_log").is_dir() {
            names.extend(entry.file_name().to_str().map(str::to_owned));
        }
    }
    Ok(names)
}

fn is_name(table: &str) -> bool {
    !table.is_empty() && table.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn tables_of_a_bucket_are_those_with_a_log_below_the_prefix() {
        for prefix in ["", "a", "a/b"] {
            let place = Place::bucket("bucket", prefix, Arc::new(InMemory::new())).unwrap();
            for key in ["water/_delta_log/0.json", "power/_delta_log/0.json", "notes/x", "_leases/collector.json"] {
                let (first, rest) = key.split_once('/').unwrap();
                let key = rest.split('/').fold(place.key(first).unwrap(), |key, part| key.join(part));
                place.store().put(&key, "x".into()).await.unwrap();
            }
            place.store().put(&Path::from("elsewhere/t/_delta_log/0.json"), "x".into()).await.unwrap();
            assert_eq!(place.tables().await.unwrap(), ["power", "water"], "prefix {prefix:?}");
            assert!(place.has_table("water").await.unwrap());
            assert!(!place.has_table("../water").await.unwrap());
            assert!(!place.has_table("absent").await.unwrap());
        }
    }

    #[test]
    fn a_place_is_shown_as_it_is_written() {
        let place = Place::bucket("bucket", "a/b", Arc::new(InMemory::new())).unwrap();
        assert_eq!(place.root(), FilePath::new("s3://bucket/a/b"));
        assert_eq!(place.table_url("t").unwrap().as_str(), "s3://bucket/a/b/t/");
        assert_eq!(place.shown(&place.key("t").unwrap()), "s3://bucket/a/b/t");
        assert_eq!(place.local_root(), None);
    }
}
