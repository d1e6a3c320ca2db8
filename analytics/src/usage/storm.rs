//! Storm mode: where many meters of an area fall silent at once, their readings will come, and nothing is estimated there
//! until they do, or for some days.
//!
//! A pure machine over how many meters of an area reported in each hour. It knows one thing of the past, the share that is
//! usual, and forgets what lies further back.

use std::collections::VecDeque;

/// The limits. The defaults are the domain's; nothing is ever suspended unless it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StormRules {
    /// Whether anything is ever suspended.
    pub enabled: bool,
    /// It begins with a drop of more than so many thousandths of the meters below what is usual.
    pub drop_permille: i64,
    /// It ends when less than so many thousandths are missing.
    pub resume_permille: i64,
    /// Areas of fewer meters are never suspended.
    pub min_meters: u32,
    /// After so many hours there are estimates again, whatever is missing.
    pub release_hours: usize,
    /// What is usual is the mean of so many hours before.
    pub usual_hours: usize,
}

impl Default for StormRules {
    fn default() -> Self {
        Self {
            enabled: false,
            drop_permille: 300,
            resume_permille: 50,
            min_meters: 100,
            release_hours: 72,
            usual_hours: 7 * 24,
        }
    }
}

/// Fewer hours than a day do not tell what is usual.
const LEAST_HOURS: usize = 24;
const MILLION: i64 = 1_000_000;

/// What was heard of an area in an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hour {
    /// Meters that reported.
    pub reporting: u32,
    /// Meters that hung there.
    pub meters: u32,
}

impl Hour {
    /// In millionths.
    fn share(self) -> Option<i64> {
        (self.meters > 0).then(|| i64::from(self.reporting) * MILLION / i64::from(self.meters))
    }
}

/// An area whose estimates wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspended {
    /// The hour that it began with, counted as the hours are given.
    pub since: usize,
    /// What is usual, in millionths of the meters.
    pub usual_ppm: i64,
    /// What reported in the last hour.
    pub now_ppm: i64,
    /// Meters of the area.
    pub meters: u32,
}

/// Whether the estimates of an area wait after the last of these hours, oldest first.
pub fn suspended(hours: impl IntoIterator<Item = Hour>, rules: &StormRules) -> Option<Suspended> {
    if !rules.enabled {
        return None;
    }
    let mut usual: VecDeque<i64> = VecDeque::with_capacity(rules.usual_hours + 1);
    let mut sum = 0;
    let mut begun: Option<Suspended> = None;
    let mut last = 0;
    for (at, hour) in hours.into_iter().enumerate() {
        last = at;
        let Some(share) = hour.share() else { continue };
        let norm = i64::try_from(usual.len()).ok().filter(|n| *n > 0).map_or(share, |n| sum / n);
        let missing = norm - share;
        begun = match begun {
            // It is over: this hour is a usual one again.
            Some(_) if missing < rules.resume_permille * 1000 => None,
            Some(storm) => Some(Suspended { now_ppm: share, meters: hour.meters, ..storm }),
            None => {
                let told = usual.len() >= LEAST_HOURS.min(rules.usual_hours) && hour.meters >= rules.min_meters;
                let begins = told && missing > rules.drop_permille * 1000;
                begins.then_some(Suspended { since: at, usual_ppm: norm, now_ppm: share, meters: hour.meters })
            }
        };
        if begun.is_none() {
            usual.push_back(share);
            sum += share;
            if usual.len() > rules.usual_hours
                && let Some(oldest) = usual.pop_front()
            {
                sum -= oldest;
            }
        }
    }
    begun.filter(|storm| last - storm.since < rules.release_hours)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> StormRules {
        StormRules { enabled: true, ..StormRules::default() }
    }

    /// Shares in per cent, after a week at 98 %.
    fn after_a_week(meters: u32, shares: &[u32]) -> Vec<Hour> {
        let week = std::iter::repeat_n(&98, 168).chain(shares);
        week.map(|percent| Hour { reporting: meters * percent / 100, meters }).collect()
    }

    #[test]
    fn e15_estimates_of_an_area_wait_while_much_of_it_is_silent() {
        let storm = |meters, shares: &[u32]| suspended(after_a_week(meters, shares), &rules());
        let begun = storm(150, &[60]).unwrap();
        assert_eq!(
            (begun.since, begun.usual_ppm, begun.now_ppm, begun.meters),
            (168, 980_000, 600_000, 150),
            "38 > 30"
        );
        assert_eq!(storm(150, &[69]), None, "29 is no storm");
        assert_eq!(storm(150, &[60, 92]).unwrap().since, 168, "6 are still missing");
        assert_eq!(storm(150, &[60, 94]), None, "4 < 5: it goes on");
        assert_eq!(storm(80, &[60]), None, "80 meters never are");
        assert_eq!(storm(150, &[60, 94, 94, 60]).unwrap().since, 171, "another one");
        assert_eq!(suspended(after_a_week(150, &[60]), &StormRules::default()), None, "unless it is asked for");
    }

    #[test]
    fn e15_after_three_days_there_are_estimates_again() {
        let dark = |hours| suspended(after_a_week(200, &vec![40; hours]), &rules()).map(|storm| storm.since);
        assert_eq!([dark(1), dark(71), dark(72), dark(73), dark(500)], [Some(168), Some(168), Some(168), None, None]);
        let mut shares = vec![40; 100];
        shares.push(98);
        shares.push(20);
        assert_eq!(suspended(after_a_week(200, &shares), &rules()).unwrap().since, 269, "a new storm counts anew");
    }

    #[test]
    fn what_is_usual_is_not_learned_within_a_storm_nor_from_less_than_a_day() {
        assert_eq!(suspended(after_a_week(200, &[30; 60]), &rules()).unwrap().usual_ppm, 980_000);
        let short: Vec<Hour> = after_a_week(200, &[30]).split_off(168 - 23);
        assert_eq!(suspended(short, &rules()), None);
        let nobody = std::iter::repeat_n(Hour::default(), 300);
        assert_eq!(suspended(nobody, &rules()), None, "an area without meters");
    }

    proptest! {
        #[test]
        fn one_that_waits_began_with_a_drop_and_not_too_long_ago(
            shares in prop::collection::vec(0_u32..=100, 0..400), meters in 0_u32..300
        ) {
            let hours: Vec<Hour> = shares.iter().map(|s| Hour { reporting: meters * s / 100, meters }).collect();
            let found = suspended(hours.clone(), &rules());
            if let Some(storm) = found {
                prop_assert!(meters >= 100 && hours.len() - 1 - storm.since < 72);
                let share = hours[storm.since].share().unwrap();
                prop_assert!(storm.usual_ppm - share > 300_000);
                prop_assert!(storm.usual_ppm - storm.now_ppm >= 50_000);
            }
            // The same hours in more meters of the same shares say the same.
            let twice = hours.iter().map(|h| Hour { reporting: h.reporting * 2, meters: h.meters * 2 });
            if meters >= 100 {
                prop_assert_eq!(suspended(twice, &rules()).map(|s| s.since), found.map(|s| s.since));
            }
        }
    }
}
