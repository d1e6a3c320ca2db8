//! Logs: events with fields on standard error, as text for people or JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Installs the log for the life of the process. A filter that cannot be read is replaced by `info`, and said so.
pub fn init(filter: &str, format: LogFormat) {
    let (parsed, problem) = match EnvFilter::try_new(directives(filter)) {
        Ok(parsed) => (parsed, None),
        Err(error) => (EnvFilter::new(directives("info")), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%filter, %error, "log filter not understood, using info");
    }
}

/// A mere level is meant for this program: its libraries tell their business at `info` a hundred times a second.
fn directives(filter: &str) -> String {
    match filter {
        "info" | "debug" | "trace" => format!("warn,meterlake={filter}"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mere_level_leaves_libraries_at_warnings() {
        for (filter, expected) in
            [("info", "warn,meterlake=info"), ("error", "error"), ("debug,rumqttc=info", "debug,rumqttc=info")]
        {
            assert_eq!(directives(filter), expected);
            assert!(EnvFilter::try_new(expected).is_ok());
        }
    }
}
