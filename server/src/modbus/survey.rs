//! Many registers of a device of which nothing is known: what answers is taken, what does not is left.

use meterlake_ingest::modbus::{BlockRequest, Image};

use super::line::Line;
use super::read::Asked;
use crate::progress;

/// Requests without any answer after which the rest is not asked for: some devices do not answer at all where they have
/// no registers, and each costs a time-out.
const MOST_SILENCES: usize = 24;
/// As many in a row while nothing was answered yet: nobody is there.
const NOBODY: usize = 4;

/// Asks for each once, the longest first; what an answer already brought is not asked for.
pub(super) async fn survey(line: &mut Line, unit: u8, requests: &[BlockRequest]) -> Asked {
    let mut order = requests.to_vec();
    order.sort_by_key(|request| (std::cmp::Reverse(request.registers()), *request));
    let bar = progress::bar(u64::try_from(order.len()).unwrap_or(0), &format!("registers of unit {unit}"));
    let (mut asked, mut known, mut silences) = (Asked::default(), Image::new(), 0);
    for request in order {
        bar.inc(1);
        if known.block(request).is_some() {
            continue;
        }
        match line.client.read(unit, request, line.timeout).await {
            Ok(words) => {
                known.set(request.function, request.range.first, &words);
                asked.take(request, words);
            }
            Err(failure) => {
                silences += usize::from(failure.silent);
                asked.failed.push((request, failure.to_string()));
            }
        }
        if silences >= MOST_SILENCES || (asked.blocks.is_empty() && silences >= NOBODY) {
            break;
        }
    }
    bar.finish_and_clear();
    asked
}

/// All that was answered.
pub(super) fn image(asked: &Asked) -> Image {
    let mut image = Image::new();
    asked.blocks.iter().for_each(|block| image.add(block));
    image
}
