//! Which rows of an account the billing system is told of, and what it has.
//!
//! Materiality belongs to the notice and not to the data: the best value is always kept, and what is little is told once
//! enough of it has gathered.

use std::collections::BTreeSet;

use meterlake_model::Amount;

use super::account::Account;

/// From which change on the billing system is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materiality {
    /// Energy, in kWh, kvarh, kVAh and kW.
    pub energy: Amount,
    /// Water, in m³.
    pub water: Amount,
    /// Thousandths of the present value.
    pub permille: i64,
}

impl Default for Materiality {
    fn default() -> Self {
        let micros = |n| Amount::from_micros(n).unwrap_or_default();
        Self { energy: micros(1_000_000), water: micros(100_000), permille: 5 }
    }
}

impl Materiality {
    /// The limit for a value of this unit: the larger of the absolute one and the share. A register as read has only the
    /// absolute one; what has no unit (a power factor) has none.
    pub fn limit(&self, unit: &str, value: Amount, is_register: bool) -> Amount {
        let absolute = match unit {
            "m3" => self.water,
            "" => return Amount::ZERO,
            _ => self.energy,
        };
        if is_register {
            return absolute;
        }
        let magnitude = Amount::from_micros(value.micros().saturating_abs()).unwrap_or_default();
        magnitude.proportion(self.permille, 1000).unwrap_or_default().max(absolute)
    }
}

/// Rows of an account that went out in one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Number of the list.
    pub number: i64,
    /// The first row in it.
    pub first_seq: i32,
    /// The last row in it.
    pub last_seq: i32,
}

/// What became of a row's notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeState {
    /// It is due and has not gone out.
    None,
    /// It is too little, with all else that was not told.
    BelowLimit,
    /// It went out and nobody has answered.
    Sent,
    /// The billing system has it.
    Acked,
    /// It came too late to be billed.
    TimeBarred,
}

impl NoticeState {
    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BelowLimit => "below_limit",
            Self::Sent => "sent",
            Self::Acked => "acked",
            Self::TimeBarred => "time_barred",
        }
    }
}

/// Rows that are to go out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The first row.
    pub first_seq: i32,
    /// The last row.
    pub last_seq: i32,
    /// The sum of their deltas.
    pub delta: Amount,
}

/// Where an account stands with the billing system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The state of each row, in order.
    pub rows: Vec<NoticeState>,
    /// What is to go out.
    pub due: Vec<Due>,
    /// What the billing system has: the sum of what it acknowledged. `None`: nothing.
    pub acked: Option<Amount>,
}

/// Compares an account with what went out and what was answered. A rejected list is as if it had not gone out; an answer
/// that comes twice counts once. After `barred` nothing more is told; what was issued for the first time always is.
pub fn standing(
    account: &Account,
    sent: &[Sent],
    (acked, rejected): (&BTreeSet<i64>, &BTreeSet<i64>),
    limit: Amount,
    barred: bool,
) -> Standing {
    let covers = |seq: i32, numbers: &dyn Fn(i64) -> bool| {
        sent.iter().any(|s| s.first_seq <= seq && seq <= s.last_seq && numbers(s.number))
    };
    let is_acked = |seq| covers(seq, &|n| acked.contains(&n));
    let is_out = |seq| covers(seq, &|n| !rejected.contains(&n));
    let untold = || account.rows().iter().filter(|row| !is_acked(row.seq) && !is_out(row.seq));
    let sum: i128 = untold().map(|row| i128::from(row.delta.micros())).sum();
    let always = untold().any(|row| row.cause.is_always_told());
    let enough = sum != 0 && sum.unsigned_abs() >= u128::from(limit.micros().unsigned_abs());
    let first = untold().any(|row| row.seq == 0);
    let due_now = first || (!barred && (always || enough));
    let states = account.rows().iter().map(|row| match row.seq {
        seq if is_acked(seq) => NoticeState::Acked,
        seq if is_out(seq) => NoticeState::Sent,
        _ if due_now => NoticeState::None,
        _ if barred => NoticeState::TimeBarred,
        _ => NoticeState::BelowLimit,
    });
    let rows: Vec<NoticeState> = states.collect();
    let mut due: Vec<Due> = Vec::new();
    for (row, state) in account.rows().iter().zip(&rows) {
        if *state != NoticeState::None {
            continue;
        }
        match due.last_mut() {
            Some(last) if last.last_seq + 1 == row.seq => {
                last.last_seq = row.seq;
                last.delta = last.delta.checked_add(row.delta).unwrap_or(last.delta);
            }
            _ => due.push(Due { first_seq: row.seq, last_seq: row.seq, delta: row.delta }),
        }
    }
    let told: Vec<Amount> = account.rows().iter().filter(|r| is_acked(r.seq)).map(|r| r.delta).collect();
    let acked = if told.is_empty() { None } else { Amount::sum(told) };
    Standing { rows, due, acked }
}
