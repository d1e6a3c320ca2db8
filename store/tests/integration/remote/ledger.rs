//! What was handed over, and a collector that starts, commits and dies.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};
use meterlake_model::ReadingBatch;
use meterlake_store::{Committer, Holder, Lake, Ownership, Role, StoreError};
use object_store::ObjectStoreExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::faults::record;

pub(crate) const TABLE: &str = "electricity_readings";
const E: &str = "energy_import_kwh";
/// Two months, so that a commit has two files now and then.
const OCTOBER: i64 = 1_793_491_200 - 5 * 86_400;

/// A journal in memory, and the truth about its readings.
pub(crate) struct Ledger {
    records: Vec<Arc<ReadingBatch>>,
    /// Value by meter and seconds.
    truth: BTreeMap<(String, i64), i64>,
    dice: Dice,
}

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        Self { records: Vec::new(), truth: BTreeMap::new(), dice: Dice(seed) }
    }

    /// One more record: new readings, late ones, and some that came before.
    pub(crate) fn hear(&mut self) {
        let mut said = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let meter = format!("m{:02}", self.dice.below(20));
            let slot = i64::try_from(self.records.len() as u64 * 3 + self.dice.below(40)).unwrap();
            let at = OCTOBER + slot * 900;
            let value = *self.truth.entry((meter.clone(), at)).or_insert(1000 + slot);
            said.push((meter, at, [(E, value)]));
        }
        let rows: Vec<_> = said.iter().map(|(m, at, values)| (m.as_str(), *at, values.as_slice())).collect();
        self.records.push(record(&rows));
    }

    pub(crate) fn records(&self) -> u64 {
        self.records.len() as u64
    }

    /// Hands over what a committer lacks.
    pub(crate) fn push(&self, committer: &mut Committer, pushed: u64) -> u64 {
        let from = committer.position().max(pushed);
        for position in from + 1..=self.records() {
            let at = usize::try_from(position - 1).unwrap();
            committer.push(position, self.records[at].clone());
        }
        self.records()
    }

    /// Reads the table whole: every reading is there, once, with its value.
    pub(crate) async fn check(&self, lake: &Lake) {
        let found = read(lake).await;
        assert_eq!(found.len(), self.truth.len(), "no reading twice, none missing");
        let found: BTreeMap<_, _> = found.into_iter().collect();
        assert!(found == self.truth, "each reading has its value");
    }

    pub(crate) fn readings(&self) -> usize {
        self.truth.len()
    }
}

/// All rows: meter and seconds, value.
async fn read(lake: &Lake) -> Vec<((String, i64), i64)> {
    let found = lake.snapshot(TABLE).await.unwrap();
    let (store, table) = (lake.object_store(), lake.table_key(TABLE).unwrap());
    let mut rows = Vec::new();
    for file in &found.files {
        let key = file.path.split('/').fold(table.clone(), |key, part| key.join(part));
        let bytes = store.get(&key).await.unwrap().bytes().await.unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap();
            let (meters, times) = (column("meter_id").as_string::<i32>(), column("ts"));
            let times = times.as_primitive::<TimestampMicrosecondType>();
            let values = column(E).as_primitive::<Decimal128Type>();
            rows.extend((0..batch.num_rows()).map(|row| {
                let value = i64::try_from(values.value(row)).unwrap();
                ((meters.value(row).to_owned(), times.value(row) / 1_000_000), value)
            }));
        }
    }
    rows
}

/// A collector from its start to its end.
pub(crate) struct Process {
    pub(crate) committer: Committer,
    pub(crate) ownership: Ownership,
    pushed: u64,
}

impl Process {
    /// Starts, as the owner of the stream.
    pub(crate) async fn start(lake: &Lake, holder: &Holder) -> Result<Self, StoreError> {
        let ownership = lake.own(Role::Collector, holder).await?;
        let committer = Committer::open(lake).await?;
        Ok(Self { pushed: committer.position(), committer, ownership })
    }

    /// Commits everything that was heard.
    pub(crate) async fn commit(&mut self, ledger: &Ledger) -> Result<u64, StoreError> {
        self.pushed = ledger.push(&mut self.committer, self.pushed);
        Ok(self.committer.flush().await?.position)
    }
}

/// Numbers by a seed.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
