//! What is sent: which message at which place of the run, to which entity, and its body. A pure function of the seed, so that
//! a message can be made again byte for byte (that is what a duplicate is) without keeping what was sent.

use std::str::FromStr;

use bytes::Bytes;

/// A duplicate repeats one of this many messages before it, as a sender does that missed an answer.
const DUPLICATE_REACH: u64 = 1000;

/// How messages are spread over entities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Distribution {
    /// All alike.
    #[default]
    Uniform,
    /// The n-th most popular entity gets a share that goes with `1 / n^exponent` (Zipf, 1949).
    Zipf(f64),
}

/// All messages of a run.
#[derive(Debug)]
pub(super) struct Traffic {
    seed: u64,
    entities: u32,
    /// Share of the entities up to each one, for [`Distribution::Zipf`]; empty when uniform.
    shares: Vec<f64>,
    /// Fraction of messages that were sent before.
    duplicates: f64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its number in the run: two with the same number are the same message.
    pub number: u64,
    /// The business key of its entity.
    pub key: String,
    /// JSON, about 500 bytes.
    pub body: Bytes,
}

impl Traffic {
    /// Messages for `entities` entities, of which the fraction `duplicates` was sent before. Memory is O(entities) for Zipf.
    ///
    /// # Errors
    /// Says what is out of range, and what to write.
    pub(super) fn new(
        seed: u64,
        entities: u32,
        distribution: Distribution,
        duplicates: f64,
    ) -> Result<Self, String> {
        if entities == 0 {
            return Err("there must be at least one entity; write e.g. `--entities 10000`".to_owned());
        }
        if !(0.0..=1.0).contains(&duplicates) {
            return Err(format!(
                "{duplicates} is no share of duplicates; write 0 to 1, e.g. 0.01 for one in a hundred"
            ));
        }
        let shares = match distribution {
            Distribution::Uniform => Vec::new(),
            Distribution::Zipf(exponent) => zipf(entities, exponent),
        };
        Ok(Self { seed, entities, shares, duplicates })
    }

    /// The message at the `place`-th place of the run: a new one, or one of those before it again.
    pub(super) fn at(&self, place: u64) -> Message {
        let number = self.number(place);
        let entity = self.entity(number);
        let key = format!("LOAD-{entity:07}");
        let body = body(number, &key);
        Message { number, key, body }
    }

    /// The number of the message at a place; less than `place` for a duplicate.
    pub(super) fn number(&self, mut place: u64) -> u64 {
        while place > 0 && unit(self.chance(place, 1)) < self.duplicates {
            place -= 1 + below(self.chance(place, 2), place.min(DUPLICATE_REACH));
        }
        place
    }

    /// The entity of a message, from 0.
    fn entity(&self, number: u64) -> u64 {
        let chance = self.chance(number, 3);
        if self.shares.is_empty() {
            return below(chance, self.entities.into());
        }
        let chance = unit(chance);
        let rank = self.shares.partition_point(|share| *share <= chance);
        u64::try_from(rank).expect("a rank is below 2^32").min(u64::from(self.entities) - 1)
    }

    /// Chance number `of` about one place of the run.
    fn chance(&self, place: u64, of: u64) -> u64 {
        mix(mix(self.seed ^ of.rotate_left(48)) ^ place)
    }
}

/// The running sum of shares, by rank.
fn zipf(entities: u32, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let mut shares: Vec<f64> = (1..=entities)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    for share in &mut shares {
        *share /= sum;
    }
    shares
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): each bit of the result hangs on all of `state`.
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// From 0 to below `end`.
fn below(chance: u64, end: u64) -> u64 {
    let scaled = (u128::from(chance) * u128::from(end)) >> 64;
    u64::try_from(scaled).expect("it is below `end`")
}

/// From 0 to below 1.
fn unit(chance: u64) -> f64 {
    f64::from_bits(0x3FF0_0000_0000_0000 | (chance >> 12)) - 1.0
}

/// A confirmed opportunity, as a CRM tells it.
fn body(number: u64, key: &str) -> Bytes {
    let quantity = number % 9 + 1;
    let (unit, cents) = (number % 997 + 1, number % 100);
    let total = (unit * 100 + cents) * quantity;
    format!(
        concat!(
            r#"{{"type":"opportunity.confirmed","timestamp":"2026-01-05T08:30:00Z","schema_version":1,"data":{{"#,
            r#""Id":"006{:012}","OrderNumber__c":"{}","AccountId":"001{:012}","CurrencyIsoCode":"EUR","Amount":{}.{:02},"#,
            r#""ContactEmail__c":"ap@example.com","RequestedDate__c":"2026-02-01","#,
            r#""BillingAddress":{{"street":"1 Quay","city":"Cork","postalCode":"T12","countryCode":"IE"}},"#,
            r#""ShippingAddress":{{"street":"9 Dock","city":"Cork","postalCode":"T23","countryCode":"IE"}},"#,
            r#""OpportunityLineItems":[{{"ProductCode":"SKU-{:04}","Quantity":{},"UnitPrice":{}.{:02},"TaxClass__c":"S"}}]}}}}"#,
        ),
        number,
        key,
        number % 5000,
        total / 100,
        total % 100,
        number % 400,
        quantity,
        unit,
        cents
    )
    .into()
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let exponent = |text: &str| text.parse().ok().filter(|exponent| (0.0..=10.0).contains(exponent));
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            Some(("zipf", of)) if exponent(of).is_some() => Ok(Self::Zipf(exponent(of).unwrap_or_default())),
            _ => Err(format!(
                "{text:?} is no distribution; write `uniform`, or `zipf:1.1` with an exponent of 0 to 10"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn traffic(distribution: &str, duplicates: f64) -> Traffic {
        let distribution = distribution.parse().expect("a distribution");
        Traffic::new(7, 1000, distribution, duplicates).expect("in range")
    }

    /// How often each entity comes in a hundred thousand messages, most popular first.
    fn counts(traffic: &Traffic) -> Vec<u32> {
        let mut counts = BTreeMap::<String, u32>::new();
        (0..100_000).for_each(|place| *counts.entry(traffic.at(place).key).or_default() += 1);
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn zipf_is_skewed_as_said() {
        // The sum of 1 / n^1.1 for n to 1000 is 5.572: the first gets 17.9 %, the second 8.4 %, the tenth 1.43 %.
        let counts = counts(&traffic("zipf:1.1", 0.0));
        for (rank, expected) in [(1, 17_945), (2, 8_372), (10, 1_425)] {
            let count = counts[rank - 1];
            assert!(count.abs_diff(expected) < expected / 10, "rank {rank}: {count}, expected {expected}");
        }
    }

    #[test]
    fn uniform_favours_none() {
        let counts = counts(&traffic("uniform", 0.0));
        assert_eq!(counts.len(), 1000);
        assert!(counts[0] < 150 && counts[999] > 60, "{} to {}", counts[999], counts[0]);
    }

    #[test]
    fn duplicates_repeat_a_message_byte_for_byte_and_come_as_often_as_said() {
        let traffic = traffic("zipf:1.1", 0.05);
        let again: Vec<u64> = (0..100_000).filter(|place| traffic.number(*place) != *place).collect();
        assert!(again.len().abs_diff(5000) < 300, "{}", again.len());
        for place in again {
            let number = traffic.number(place);
            assert_eq!(traffic.at(place), traffic.at(number), "place {place}");
        }
    }

    #[test]
    fn two_seeds_are_two_runs_and_one_seed_is_one() {
        let of = |seed| Traffic::new(seed, 1000, Distribution::Uniform, 0.1).expect("in range");
        let run = |seed| (0..100).map(|place| of(seed).at(place)).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_body_is_json_of_about_500_bytes() {
        for place in [0, 9, 12_345, 1_000_000_000] {
            let message = traffic("uniform", 0.0).at(place);
            let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
            assert_eq!(body["data"]["OrderNumber__c"], *message.key);
            assert!((450..700).contains(&message.body.len()), "{}", message.body.len());
        }
    }

    #[test]
    fn a_body_is_what_the_crm_source_expects() {
        let schema = include_str!("../../config/schemas/crm/opportunity.confirmed.v1.json");
        let schema = serde_json::from_str(schema).expect("JSON");
        let body = serde_json::from_slice(&traffic("uniform", 0.0).at(42).body).expect("JSON");
        jsonschema::validate(&schema, &body).expect("it fits the schema");
    }

    #[test]
    fn what_is_no_distribution_is_told_how_one_is_written() {
        for wrong in ["", "zipf", "zipf:", "zipf:-1", "zipf:NaN", "normal:1", "uniform:1"] {
            assert!(wrong.parse::<Distribution>().expect_err(wrong).contains("zipf:1.1"));
        }
        assert!(Traffic::new(1, 0, Distribution::Uniform, 0.0).is_err());
        assert!(Traffic::new(1, 1, Distribution::Uniform, 1.1).is_err());
    }
}
