//! `simulate check-ledger`: what was sent beside what the lake holds.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use arrow::array::{Array, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use clap::Args;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use meterlake_device_sim::ledger::LedgerContents;
use meterlake_model::ledger::TableValue;
use meterlake_model::{Channel, Commodity, MeterId, Timestamp};
use meterlake_store::query::ReadOptions;
use meterlake_store::schema::readings_name;

use crate::cli::Global;
use crate::{progress, rows, setup};

/// Which ledger.
#[derive(Debug, Clone, Args)]
pub struct CheckLedgerArgs {
    /// The ledger that --ledger wrote
    ledger: PathBuf,
    /// Committed rows only, without the journal's tail
    #[arg(long)]
    committed: bool,
}

/// Says what the comparison found.
pub(super) async fn run(global: &Global, args: &CheckLedgerArgs) -> anyhow::Result<ExitCode> {
    let config = setup::load_config(global)?;
    let lake = setup::open_lake(&config)?;
    let spinner = progress::spinner("comparing ledger and lake");
    let ledger = LedgerContents::read(&args.ledger)?;
    let hot = !args.committed && config.collect.journal.is_dir();
    let options = ReadOptions { journal: hot.then(|| config.collect.journal.clone()), ..ReadOptions::default() };
    let session = lake.session(options).await?;
    let mut values = Vec::new();
    for commodity in Commodity::ALL {
        read(&session, commodity, &mut values).await?;
    }
    let checked = ledger.check(values);
    spinner.finish_and_clear();
    println!("{checked}");
    Ok(if checked.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every value of a readings table.
async fn read(session: &SessionContext, commodity: Commodity, values: &mut Vec<TableValue>) -> anyhow::Result<()> {
    let channels: Vec<_> = Channel::of(commodity).collect();
    let names: Vec<_> = channels.iter().map(|channel| channel.name()).collect();
    let text = format!("SELECT meter_id, ts, {} FROM {}", names.join(", "), readings_name(commodity));
    let mut stream = rows::stream(session, &text).await?;
    while let Some(batch) = stream.next().await.transpose()? {
        take(&batch, &channels, values)?;
    }
    Ok(())
}

fn take(batch: &RecordBatch, channels: &[Channel], values: &mut Vec<TableValue>) -> anyhow::Result<()> {
    let meters = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8)?;
    let meters = meters.as_any().downcast_ref::<StringArray>().context("meter_id is no text")?;
    let times = batch.column(1).as_any().downcast_ref::<TimestampMicrosecondArray>().context("ts is no time")?;
    let columns = channels
        .iter()
        .zip(&batch.columns()[2..])
        .map(|(channel, column)| {
            let decimals = column.as_any().downcast_ref::<Decimal128Array>();
            Ok((*channel, decimals.with_context(|| format!("{channel} is no decimal"))?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        let (meter_id, ts) = (MeterId::new(meters.value(row))?, Timestamp::from_micros(times.value(row))?);
        for (channel, column) in columns.iter().filter(|(_, column)| column.is_valid(row)) {
            let value = i64::try_from(column.value(row)).with_context(|| format!("{channel} is too large"))?;
            values.push(TableValue { meter_id: meter_id.clone(), ts, channel: *channel, value });
        }
    }
    Ok(())
}
