//! A serial line of this machine.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use meterlake_config::{Parity, SerialPort};
use tokio_serial::{ClearBuffer, DataBits, SerialPort as _, SerialPortBuilderExt, StopBits};

use super::dial::{AfterFailure, Dial, Habits, Idle, Transport};
use super::frame::MOST_RTU;

/// Above this rate the silence around frames has a fixed length.
const FIXED_SILENCE_ABOVE: u32 = 19_200;
const FIXED_SILENCE: Duration = Duration::from_micros(1_750);

/// Opens a serial line, for nobody else meanwhile.
#[derive(Debug)]
pub(super) struct SerialDial(SerialPort);

impl SerialDial {
    pub(super) fn new(port: SerialPort) -> Self {
        Self(port)
    }
}

#[async_trait]
impl Dial for SerialDial {
    async fn dial(&self) -> io::Result<Box<dyn Transport>> {
        let port = &self.0;
        let parity = match port.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stream = tokio_serial::new(port.device.to_string_lossy(), port.baud)
            .data_bits(DataBits::Eight)
            .parity(parity)
            .stop_bits(if port.stop_bits == 2 { StopBits::Two } else { StopBits::One })
            .open_native_async()?;
        stream.clear(ClearBuffer::All)?;
        Ok(Box::new(stream))
    }
}

/// The habits of a serial line. An answer that is late may come at any time; one that has begun is over after the longest
/// answer's time, and the silence of three and a half characters tells its end.
pub(super) fn habits(port: &SerialPort) -> Habits {
    let silence = silence(port);
    let longest = port.character() * u32::try_from(MOST_RTU).unwrap_or(u32::MAX);
    Habits {
        after_failure: AfterFailure { keep: true, drain: Some((longest + silence, silence)) },
        idle: Idle::Keep,
        gap: silence,
        character: port.character(),
    }
}

/// Between two frames: three and a half characters.
fn silence(port: &SerialPort) -> Duration {
    if port.baud > FIXED_SILENCE_ABOVE { FIXED_SILENCE } else { port.character() * 7 / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_drained_for_the_longest_answer_and_the_silence_behind_it() {
        for (baud, parity, drain_ms, gap_us) in [
            (1_200, Parity::None, 2_162, 29_166),
            (9_600, Parity::None, 270, 3_645),
            (9_600, Parity::Even, 297, 4_010),
            (115_200, Parity::None, 23, 1_750),
        ] {
            let port = SerialPort { device: "/dev/null".into(), baud, parity, data_bits: 8, stop_bits: 1 };
            let habits = habits(&port);
            let Some((at_least, quiet)) = habits.after_failure.drain else { panic!("{habits:?}") };
            assert_eq!((at_least.as_millis(), quiet.as_micros(), habits.gap), (drain_ms, gap_us, quiet), "{port:?}");
        }
    }
}
