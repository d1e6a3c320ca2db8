//! Why a collector gives up. What passes by itself (a lost connection, a silent device) is retried and counted instead.

/// Why a collector gives up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The broker will not let us read a topic: it needs a person.
    #[error("broker {broker} refused the subscription to `{topic}`: {reason}")]
    SubscriptionRefused {
        /// The broker's name in the configuration.
        broker: String,
        /// The topic filter.
        topic: String,
        /// What the broker answered.
        reason: String,
    },
    /// The broker grants less than at-least-once delivery: readings could be lost unseen.
    #[error("broker {broker} grants only QoS {granted} for `{topic}`, QoS 1 is needed")]
    LowerQos {
        /// The broker's name in the configuration.
        broker: String,
        /// The topic filter.
        topic: String,
        /// The quality of service that was granted.
        granted: u8,
    },
    /// The broker turned the very first connection down, for a reason that waiting does not mend.
    #[error("broker {broker} refused the connection: {reason}")]
    ConnectionRefused {
        /// The broker's name in the configuration.
        broker: String,
        /// What the broker answered.
        reason: String,
    },
    /// The port that device servers connect to cannot be had.
    #[error("listener {listener} cannot listen at {bind}: {reason}")]
    Listen {
        /// The listener's name in the configuration.
        listener: String,
        /// Address and port.
        bind: std::net::SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// Nobody takes what is collected.
    #[error("{source_name} has nobody to hand its readings to: the receiver is gone")]
    ReceiverGone {
        /// The broker's or line's name.
        source_name: String,
    },
    /// The collector's own work ended unexpectedly.
    #[error("{source_name} stopped by a fault of its own: {detail}")]
    Internal {
        /// The broker's or line's name.
        source_name: String,
        /// What is known of it.
        detail: String,
    },
}
