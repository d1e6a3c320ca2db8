//! Which line is asked: one of the configuration, or one that the arguments describe.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use meterlake_config::{Config, ModbusLine, duration_text, parse_duration};
use meterlake_ingest::modbus::LineClient;
use meterlake_model::Timestamp;

use crate::cli::Global;
use crate::{setup, status};

/// The line: one of --host, --serial and --line.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct LineArgs {
    /// Modbus TCP gateway or device: host name or address
    #[arg(long, value_name = "HOST", required_unless_present_any = ["serial", "line"], conflicts_with_all = ["serial", "line"])]
    host: Option<String>,
    /// Its TCP port
    #[arg(long, default_value_t = 502, requires = "host", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The device behind --host speaks RTU frames over TCP, as transparent serial servers do
    #[arg(long, requires = "host")]
    rtu_over_tcp: bool,
    /// Serial line, such as /dev/ttyUSB0
    #[arg(long, value_name = "DEVICE", conflicts_with = "line")]
    serial: Option<String>,
    /// Bits per second of the serial line
    #[arg(long, default_value_t = 9600, requires = "serial", value_parser = clap::value_parser!(u32).range(300..=4_000_000))]
    baud: u32,
    /// Parity of the serial line
    #[arg(long, value_enum, default_value_t = Parity::None, requires = "serial")]
    parity: Parity,
    /// Stop bits of the serial line
    #[arg(long, default_value_t = 1, requires = "serial", value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// A line of the configuration, by its name
    #[arg(long, value_name = "NAME")]
    line: Option<String>,
    /// How long an answer may take [default: 1s, or the configured line's]
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
    /// Rest before each request, such as 50ms [default: none, or the configured line's]
    #[arg(long, value_parser = duration)]
    pause: Option<Duration>,
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Parity {
    None,
    Even,
    Odd,
}

impl Parity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a number with its unit is allowed, such as 300ms or 2s".to_owned())
}

/// A line to ask.
pub(super) struct Line {
    pub(super) client: LineClient,
    /// As configured, or as it would be.
    pub(super) config: ModbusLine,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// For messages: where it is.
    pub(super) place: String,
    /// Whether it is one of the configuration, with its devices.
    pub(super) is_configured: bool,
}

impl LineArgs {
    /// Opens the line.
    ///
    /// # Errors
    /// When the configuration is refused or has no such line.
    pub(super) fn open(&self, global: &Global) -> anyhow::Result<Line> {
        let mut line = match &self.line {
            Some(name) => configured(global, name)?,
            None => self.described()?,
        };
        line.pause = self.pause.unwrap_or(line.pause);
        let place = match (&self.line, &self.host, &self.serial) {
            (Some(name), ..) => format!("line `{name}`"),
            (_, Some(host), _) => format!("{host}:{}", self.port),
            (_, _, device) => device.clone().unwrap_or_default(),
        };
        let timeout = self.timeout.unwrap_or(line.timeout);
        Ok(Line { client: LineClient::new(&line), timeout, place, is_configured: self.line.is_some(), config: line })
    }

    /// Whether the person said how long an answer may take.
    pub(super) fn states_timeout(&self) -> bool {
        self.timeout.is_some()
    }

    /// The arguments again, for a command to try next.
    pub(super) fn words(&self) -> String {
        match (&self.line, &self.host, &self.serial) {
            (Some(name), ..) => format!("--line {name}"),
            (_, Some(host), _) => {
                let over = if self.rtu_over_tcp { " --rtu-over-tcp" } else { "" };
                format!("--host {host} --port {}{over}", self.port)
            }
            (_, _, device) => format!(
                "--serial {} --baud {} --parity {} --stop-bits {}",
                device.as_deref().unwrap_or_default(),
                self.baud,
                self.parity.as_str(),
                self.stop_bits
            ),
        }
    }

    /// The line's table as a configuration file would have it: it is read by the same code.
    fn table(&self, name: &str) -> String {
        // A text in JSON is one in TOML.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut table = format!("[[modbus]]\nname = {}\n", quoted(name));
        match (&self.host, &self.serial) {
            (Some(host), _) => {
                if self.rtu_over_tcp {
                    table += "transport = \"rtu_over_tcp\"\n";
                }
                table += &format!("host = {}\nport = {}\n", quoted(host), self.port);
            }
            (None, device) => {
                let device = quoted(device.as_deref().unwrap_or_default());
                let (baud, parity, stop_bits) = (self.baud, self.parity.as_str(), self.stop_bits);
                table += &format!("transport = \"rtu\"\nserial = {device}\nbaud = {baud}\nparity = \"{parity}\"\n");
                table += &format!("stop_bits = {stop_bits}\n");
            }
        }
        for (key, value) in [("timeout", self.timeout), ("pause", self.pause)] {
            if let Some(value) = value {
                table += &format!("{key} = \"{}\"\n", duration_text(value));
            }
        }
        table
    }

    fn described(&self) -> anyhow::Result<ModbusLine> {
        // A line has a device; which ones are asked is the command's to know.
        let device = "[[modbus.device]]\nunit = 1\nmeter_id = \"asked\"\nprofile = \"pulse-water\"\n";
        let text = self.table("asked") + device;
        let config =
            Config::parse(&text, std::path::Path::new("")).context("the line cannot be as the arguments say")?;
        config.modbus.into_iter().next().context("the arguments describe no line")
    }
}

fn configured(global: &Global, name: &str) -> anyhow::Result<ModbusLine> {
    let config = setup::load_config(global)?;
    let line = config.modbus.iter().find(|line| line.name == name).cloned();
    let Some(line) = line else {
        ensure!(global.config.is_some(), "--line names a line of the configuration: give the file with --config");
        ensure!(
            !config.modbus_lines().any(|line| line.name == name),
            "line `{name}` connects to us: only the collector, whose port it calls, can ask its devices"
        );
        let names: Vec<_> = config.modbus.iter().map(|line| line.name.as_str()).collect();
        match names.len() {
            0 => bail!("the configuration has no Modbus line"),
            _ => bail!("there is no Modbus line `{name}`; the configuration has {}", names.join(", ")),
        }
    };
    let now_s = Timestamp::now().unix_seconds();
    let report = status::read_report(&config.collect.journal).ok().flatten();
    if report.is_some_and(|report| report.is_fresh(now_s) && report.lines.iter().any(|(line, _)| line == name)) {
        eprintln!(
            "a collector polls this line now: its questions and these wait for each other, if the line allows both"
        );
    }
    Ok(line)
}
