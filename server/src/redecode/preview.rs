//! What would stand if the messages had been decoded with the present configuration: meter by meter, time by time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use datafusion::physical_plan::SendableRecordBatchStream;
use meterlake_config::Config;
use meterlake_model::{Channel, Commodity, MeterId, Timestamp, revision};
use meterlake_store::Lake;
use meterlake_store::query::{LakeSession, ReadOptions};
use meterlake_store::schema::readings_name;
use parquet::arrow::ArrowWriter;
use sha2::{Digest, Sha256};

use super::compare::{Change, Outcome, Stored, compare};
use super::decode::{Counts, Scan, properties, scan};
use super::groups::{Groups, Key};
use super::rows::{Written, decoded_rows, stored_rows, written_batch};
use super::select::Selection;
use super::tally::Tallies;
use crate::{progress, rows};

/// Rows of changes that are gathered before they are written.
const ROWS: usize = 16_384;
/// Up to so many meters are named one by one when their readings are looked for.
const NAMED_METERS: usize = 1_000;

/// What a re-decode would do.
pub(super) struct Preview {
    /// Names what is seen here: the newest commit that was looked at and the digest of every row that is to be written.
    pub(super) id: String,
    /// The newest commit that was looked at.
    pub(super) pin: i64,
    pub(super) counts: Counts,
    pub(super) tallies: Tallies,
    /// Rows that came in these days of these sources and that no kept message explains.
    pub(super) unexplained: u64,
    /// By commodity: rows to be written that are not there yet.
    pub(super) changes: Vec<Changes>,
    /// The times of what changes.
    pub(super) span: Option<(Timestamp, Timestamp)>,
}

/// Rows to be written of one commodity, in a file in order of meter and time.
pub(super) struct Changes {
    pub(super) commodity: Commodity,
    pub(super) path: String,
    /// Rows by meter.
    pub(super) meters: BTreeMap<MeterId, u64>,
}

/// The first part of a preview's name.
pub(super) fn pin_of(id: &str) -> anyhow::Result<i64> {
    let pin = id.split_once('-').and_then(|(pin, _)| pin.parse().ok());
    pin.with_context(|| format!("`{id}` is no preview: `redecode preview` ends with its name"))
}

/// Computes a preview. `pin`: as it was computed before; what was written since is taken for what is there.
pub(super) async fn preview(
    config: &Config,
    lake: &Lake,
    selection: &Selection,
    pin: Option<i64>,
    folder: &Path,
) -> anyhow::Result<Preview> {
    selection.check(config, Timestamp::now())?;
    let session = lake.open_session(ReadOptions::default()).await?;
    let pin = match pin {
        Some(pin) => pin,
        None => newest_commit(&session).await?,
    };
    let scan = scan(config, &session, selection, pin, folder).await?;
    let mut digest = Sha256::new();
    digest.update(selection.to_json());
    let mut preview = Preview {
        id: String::new(),
        pin,
        counts: scan.counts,
        tallies: Tallies::default(),
        unexplained: 0,
        changes: Vec::new(),
        span: None,
    };
    for commodity in Commodity::ALL {
        let of = Comparing { config, session: &session, selection, scan: &scan, commodity, pin };
        let changes = of.run(folder, &mut preview, &mut digest).await?;
        preview.changes.extend(Some(changes).filter(|c| !c.meters.is_empty()));
    }
    let hash: String = digest.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    preview.id = format!("{pin}-{hash}");
    Ok(preview)
}

/// The newest commit that every table of what came in holds.
async fn newest_commit(session: &LakeSession) -> anyhow::Result<i64> {
    let mut newest = 0;
    for table in Commodity::ALL.map(readings_name).into_iter().chain(["raw_messages"]) {
        if session.versions.contains_key(table) {
            let of = rows::count(&session.context, &format!("SELECT max(commit_seq) FROM {table}")).await?;
            newest = newest.max(i64::try_from(of).unwrap_or(i64::MAX));
        }
    }
    Ok(newest)
}

/// One commodity.
struct Comparing<'a> {
    config: &'a Config,
    session: &'a LakeSession,
    selection: &'a Selection,
    scan: &'a Scan,
    commodity: Commodity,
    pin: i64,
}

impl Comparing<'_> {
    async fn run(&self, folder: &Path, preview: &mut Preview, digest: &mut Sha256) -> anyhow::Result<Changes> {
        let path = folder.join(format!("changes-{}.parquet", self.commodity));
        let mut changes =
            Changes { commodity: self.commodity, path: path.display().to_string(), meters: BTreeMap::new() };
        let mut out = Out { commodity: self.commodity, pin: self.pin, path, writer: None, rows: Vec::new() };
        let mut decoded = Groups::new(self.scan.sorted(self.commodity).await?, decoded_rows);
        let mut stored = Groups::new(self.stored().await?, stored_rows);
        let kept_back = kept_back(self.config);
        let spinner = progress::spinner("comparing with what is stored");
        loop {
            let key: Key = match (decoded.peek().await?, stored.peek().await?) {
                (Some(a), Some(b)) => a.min(b),
                (Some(key), None) | (None, Some(key)) => key,
                (None, None) => break,
            };
            let now = decoded.take(&key).await?;
            let mut was = stored.take(&key).await?;
            for row in &mut was {
                row.may_be_asked = self.may_be_asked(row, &kept_back);
            }
            let then: Vec<Stored> = was.iter().filter(|row| row.commit_seq <= self.pin).cloned().collect();
            let (cells, change) = match compare(&then, &now) {
                Outcome::Passed => {
                    preview.unexplained += self.unexplained(&then, now.is_empty());
                    continue;
                }
                Outcome::Equal(cells) => (cells, None),
                Outcome::Changed(cells, change) => (cells, Some(change)),
            };
            preview.tallies.add(&key.0, key.1, &cells);
            let Some(change) = change else { continue };
            for (header, values) in &change.rows {
                digest.update(format!("{} {} {:?} {values:?}\n", key.0, key.1, header.flags));
            }
            let span = preview.span.get_or_insert((key.1, key.1));
            *span = (span.0.min(key.1), span.1.max(key.1));
            // What is there since the preview was made is not written again; what came since is taken in.
            let change = match then.len() == was.len() {
                true => Some(change),
                false => match compare(&was, &now) {
                    Outcome::Changed(_, change) => Some(change),
                    Outcome::Passed | Outcome::Equal(_) => None,
                },
            };
            if let Some(change) = change {
                *changes.meters.entry(key.0).or_default() += change.rows.len() as u64;
                out.take(change)?;
            }
        }
        spinner.finish_and_clear();
        out.close()?;
        Ok(changes)
    }

    /// The stored rows that messages of the selection may have brought, or that lie where they say something now.
    async fn stored(&self) -> anyhow::Result<Option<SendableRecordBatchStream>> {
        let table = readings_name(self.commodity);
        if !self.session.versions.contains_key(table) {
            return Ok(None);
        }
        let (from, to) = self.selection.span();
        let mut came = format!("received_at >= '{from}' AND received_at < '{to}'");
        if let Some(source) = self.selection.source_column(self.config) {
            came.push_str(&format!(" AND source = '{}'", source.replace('\'', "''")));
        }
        let mut meters = BTreeSet::new();
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        let mut bounds = |meter: &MeterId, first: i64, last: i64| {
            (low, high) = (low.min(first), high.max(last));
            if meters.len() <= NAMED_METERS {
                meters.insert(meter.clone());
            }
        };
        let text = format!(
            "SELECT meter_id, CAST(min(ts) AS BIGINT), CAST(max(ts) AS BIGINT) FROM {table} WHERE {came} GROUP BY meter_id"
        );
        for row in rows::fetch(&self.session.context, &text).await? {
            if let [Some(meter), Some(first), Some(last)] = row.as_slice() {
                bounds(&MeterId::new(meter)?, first.parse()?, last.parse()?);
            }
        }
        let mut decoded = Groups::new(self.scan.sorted(self.commodity).await?, decoded_rows);
        while let Some(key) = decoded.peek().await? {
            decoded.take(&key).await?;
            bounds(&key.0, key.1.micros(), key.1.micros());
        }
        if low > high {
            return Ok(None);
        }
        let (low, high) = (Timestamp::from_micros(low)?, Timestamp::from_micros(high)?);
        let mut text = format!(
            "SELECT meter_id, ts, revision, received_at, source, profile, flags, commit_seq, {} FROM {table}
             WHERE ts >= '{low}' AND ts <= '{high}'",
            Channel::of(self.commodity).map(|c| c.name()).collect::<Vec<_>>().join(", ")
        );
        if meters.len() <= NAMED_METERS {
            let names: Vec<_> = meters.iter().map(|m| format!("'{}'", m.as_str().replace('\'', "''"))).collect();
            text.push_str(&format!(" AND meter_id IN ({})", names.join(", ")));
        }
        text.push_str(" ORDER BY meter_id, ts, revision");
        Ok(Some(self.session.context.sql(&text).await?.execute_stream().await?))
    }

    /// Whether a row came from a message of the selection, if no message says otherwise.
    fn may_be_asked(&self, row: &Stored, kept_back: &BTreeSet<String>) -> bool {
        let header = &row.header;
        let name = header.profile.rsplit_once('@').map_or(&*header.profile, |(name, _)| name);
        self.scan.arrivals.has(&header.source, header.received_at_s)
            && !kept_back.contains(name)
            && self.selection.takes_meter(header.meter_id.as_str())
    }

    /// Rows that came when it was asked for and of which no message is kept.
    fn unexplained(&self, rows: &[Stored], silent: bool) -> u64 {
        let (from, to) = self.selection.span();
        let of_source = self.selection.source_column(self.config);
        let is_asked = |row: &&Stored| {
            let at = row.header.received_at_s;
            from.unix_seconds() <= at
                && at < to.unix_seconds()
                && of_source.as_ref().is_none_or(|source| **source == *row.header.source)
                && self.selection.takes_map(&row.header.profile)
                && self.selection.takes_meter(row.header.meter_id.as_str())
                && !revision::is_void(row.revision)
        };
        if silent { rows.iter().filter(is_asked).count() as u64 } else { 0 }
    }
}

/// Names of maps and profiles whose messages are not kept: rows of theirs are never taken for those of others.
fn kept_back(config: &Config) -> BTreeSet<String> {
    let maps = config.mqtt.iter().flat_map(|broker| &broker.maps).filter(|map| !map.keep_raw);
    let profiles = config.modbus_lines().flat_map(|line| &line.devices).map(|device| &device.profile);
    let profiles = profiles.filter(|profile| !profile.keep_raw).map(|profile| profile.name.clone());
    maps.map(|map| map.name.clone()).chain(profiles).collect()
}

/// The file of changes.
struct Out {
    commodity: Commodity,
    pin: i64,
    path: std::path::PathBuf,
    writer: Option<ArrowWriter<std::fs::File>>,
    rows: Vec<Written>,
}

impl Out {
    fn take(&mut self, change: Change) -> anyhow::Result<()> {
        let voids = change.rows.len() > 1 && change.rows.first().is_some_and(|(_, values)| values.is_empty());
        let first = if voids { change.revision - 1 } else { change.revision };
        let numbered = (first..).zip(change.rows);
        self.rows.extend(numbered.map(|(revision, (header, values))| Written { header, revision, values }));
        if self.rows.len() >= ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batch = written_batch(self.commodity, &self.rows, self.pin)?;
        self.rows.clear();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let file = std::fs::File::create(&self.path)
                    .with_context(|| format!("cannot create {}", self.path.display()))?;
                none.insert(ArrowWriter::try_new(file, batch.schema(), Some(properties()))?)
            }
        };
        Ok(writer.write(&batch)?)
    }

    fn close(mut self) -> anyhow::Result<()> {
        self.write()?;
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(())
    }
}
