//! What a sender puts into a message, held against what its receiver looks at: what it cannot do without must be there, and what nobody
//! reads is often a slip.

use syncline_actors::document::{Place, Problem, suggest};
use syncline_actors::mapping::Mapping;
use syncline_actors::process::{Process, check};

use super::Loader;

impl Loader<'_> {
    /// Tells what `map`, at `path`, lacks of what `receiver` needs of `message`, and what it misspells.
    pub(super) fn check_gives(
        &self,
        (place, path): (&Place, &str),
        map: &Mapping,
        receiver: &Process,
        message: &str,
    ) {
        let (Some(given), Some(read)) = (map.keys(), check::reads(receiver, message)) else { return };
        let unread = || given.keys().copied().filter(|key| !read.contains_key(*key));
        let note = |message: String, fix: String| {
            self.reader.note(Problem::warning(place.clone(), path, message).fix(fix));
        };
        for (name, needed) in &read {
            let near = suggest(name, unread());
            match (given.get(name.as_str()), near) {
                (Some(may_be_absent), _) if *may_be_absent && *needed => note(
                    format!(
                        "`{name}` may be absent here, and process `{}` cannot do without it in `{message}`",
                        receiver.name
                    ),
                    format!("write `{name}:`, or `default(data.{name}, …)` in the process"),
                ),
                (Some(_), _) => {}
                (None, Some(near)) => note(
                    format!(
                        "process `{}` reads no `{near}` of `{message}`, and `{name}`, which is not given",
                        receiver.name
                    ),
                    format!("write `{name}` instead of `{near}`"),
                ),
                (None, None) if *needed => note(
                    format!(
                        "process `{}` cannot do without `{name}` in `{message}`, and it is not given",
                        receiver.name
                    ),
                    format!("add `{name}: …`, or write `default(data.{name}, …)` in the process"),
                ),
                (None, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::integration::{read, shipped};

    /// The problems of the shipped integration with `from` written as `to` in one of its files.
    fn problems(file: &str, from: &str, to: &str) -> String {
        let mut files = shipped();
        let text = files.get_mut(file).expect("it is shipped");
        assert!(text.contains(from), "{from}");
        *text = text.replacen(from, to, 1);
        read(&files, "config").problems.to_string()
    }

    #[test]
    fn what_a_receiver_needs_and_does_not_get_is_told() {
        let crm = "sources/crm.yaml";
        for (file, from, to, told) in [
            (
                crm,
                "          currency: \"body.data.CurrencyIsoCode\"\n",
                "",
                "process `order` cannot do without `currency` in `order.confirmed`, and it is not given",
            ),
            (
                crm,
                "          currency: ",
                "          curency: ",
                "process `order` reads no `curency` of `order.confirmed`, and `currency`, which is not given\n    fix: write `currency` instead of `curency`",
            ),
            (
                crm,
                "          currency: ",
                "          currency?: ",
                "`currency` may be absent here, and process `order` cannot do without it",
            ),
            (
                "processes/order.yaml",
                "\"data.currency\"",
                "\"data.curency\"",
                "process `order` reads no `currency` of `order.confirmed`, and `curency`, which is not given",
            ),
            (
                "processes/amendment.yaml",
                "with: {amendment: \"entity.key\"",
                "with: {amendmet: \"entity.key\"",
                "process `subscription` reads no `amendmet` of",
            ),
        ] {
            let seen = problems(file, from, to);
            assert!(seen.contains(told), "{told}\n---\n{seen}");
        }
    }

    #[test]
    fn what_a_receiver_can_do_without_need_not_be_given() {
        let without = [
            (
                "sources/crm.yaml",
                "          reason: \"default(body.data.Reason__c, 'cancelled in the CRM')\"\n",
                "          other: \"1\"\n",
            ),
            ("sources/crm.yaml", "          phone?: \"body.data.Phone\"\n", ""),
        ];
        for (file, from, to) in without {
            assert_eq!(problems(file, from, to), "", "{from}");
        }
    }
}
