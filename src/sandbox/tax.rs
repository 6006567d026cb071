//! The simulated tax engine, shaped like Avalara: a document per code, exact cents per line.
//!
//! The rate is that of the country shipped to: DE 19 %, GB 20 %, FR 20 %, NL 21 %, ES 21 %, IT 22 %, CH 8.1 %, US 8.25 %, others
//! 0 %. A line whose tax code is `REFUSED` is refused; so is a country that is not two letters.

use std::collections::BTreeMap;

use http::Method;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::json;
use syncline_actors::value::Value;

use super::access::is_basic;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug)]
struct Document {
    /// What was asked, to see whether a repetition says something else.
    asked: Value,
    voided: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tax {
    documents: BTreeMap<String, Document>,
}

/// The rate of a country, as a fraction.
fn rate(country: &str) -> Decimal {
    let (digits, scale) = match country {
        "DE" => (19, 2),
        "GB" | "FR" => (20, 2),
        "NL" | "ES" => (21, 2),
        "IT" => (22, 2),
        "CH" => (81, 3),
        "US" => (825, 4),
        _ => (0, 0),
    };
    Decimal::new(digits, scale)
}

impl Tax {
    fn calculate(&mut self, call: &Call) -> Done {
        let Some(model) = call.body.get("createTransactionModel") else {
            return Done::only(self.refuse(400, "createTransactionModel is required"));
        };
        let code = model.get("code").map(Value::to_plain_text).unwrap_or_default();
        match priced(model) {
            Err(why) => Done::only(self.refuse(400, &why)),
            Ok(_) if code.is_empty() => Done::only(self.refuse(400, "Field 'code' is required")),
            Ok((amount, tax, lines)) => {
                let document = Document { asked: model.clone(), voided: false };
                let before = self.documents.insert(code.clone(), document);
                let altered = before.is_none_or(|before| before.asked != *model || before.voided);
                let body = Value::map([
                    ("code", Value::from(&*code)),
                    ("companyCode", model.get("companyCode").cloned().unwrap_or_default()),
                    ("status", Value::from("Saved")),
                    ("totalAmount", Value::Decimal(amount)),
                    ("totalTax", Value::Decimal(tax)),
                    ("lines", Value::list(lines)),
                ]);
                Done::applied(Reply::exact(201, body), code).altered(altered)
            }
        }
    }

    fn void(&mut self, code: &str) -> Done {
        let Some(document) = self.documents.get_mut(code) else {
            return Done::only(self.refuse(404, &format!("Transaction {code} was not found")));
        };
        let altered = !std::mem::replace(&mut document.voided, true);
        let reply = Reply::json(200, json!({"code": code, "status": "Cancelled"}));
        Done::applied(reply, code).altered(altered)
    }
}

/// Amount, tax and lines of a document.
fn priced(model: &Value) -> Result<(Decimal, Decimal, Vec<Value>), String> {
    let country = model.path("addresses.shipTo.country").and_then(Value::as_text).unwrap_or_default();
    if country.len() != 2 {
        return Err(format!("Country '{country}' is unknown"));
    }
    let lines = model.get("lines").and_then(Value::as_list).unwrap_or_default();
    if lines.is_empty() {
        return Err("Field 'lines' is required".to_owned());
    }
    let (mut amount, mut tax, mut priced) = (Decimal::ZERO, Decimal::ZERO, Vec::new());
    for line in lines {
        let number = line.get("number").cloned().unwrap_or_default();
        let named = number.to_plain_text();
        match line.get("taxCode").and_then(Value::as_text).unwrap_or_default() {
            "" => return Err(format!("Tax code is missing on line {named}")),
            "REFUSED" => return Err(format!("Tax code 'REFUSED' is invalid on line {named}")),
            _ => {}
        }
        let Some(of) = line.get("amount").and_then(Value::as_decimal) else {
            return Err(format!("Amount is missing on line {named}"));
        };
        let mut of_line =
            (of * rate(country)).round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
        of_line.rescale(2);
        amount += of;
        tax += of_line;
        priced.push(Value::map([
            ("lineNumber", number),
            ("lineAmount", Value::Decimal(of)),
            ("tax", Value::Decimal(of_line)),
        ]));
    }
    Ok((amount, tax, priced))
}

impl System for Tax {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name| Some(Operation { name, kind: Kind::Natural });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["api", "v2", "transactions", "createoradjust"]) => of("calculate"),
            (&Method::POST, ["api", "v2", "companies", _, "transactions", _, "void"]) => of("void"),
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if is_basic(call) { Ok(()) } else { Err(self.refuse(401, "Authentication failed.")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        match operation {
            "calculate" => self.calculate(call),
            _ => self.void(&call.path.get(5).cloned().unwrap_or_default()),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let (code, fault) = match status {
            400 => ("ValueRequiredError", "Client"),
            401 => ("AuthenticationException", "Client"),
            403 => ("PermissionRequired", "Client"),
            404 => ("EntityNotFoundError", "Client"),
            429 => ("TooManyRequests", "Client"),
            _ => ("ServerError", "Server"),
        };
        let details = json!([{"code": code, "description": why, "faultCode": fault, "severity": "Error"}]);
        Reply::json(status, json!({"error": {"code": code, "message": why, "details": details}}))
    }

    fn held(&self) -> Held {
        let document = |(code, found): (&String, &Document)| {
            let mut fields = found.asked.clone();
            fields.set_path("voided", Value::Bool(found.voided));
            (code.clone(), fields)
        };
        Held::from([("document", self.documents.iter().map(document).collect())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(country: &str, amounts: &[&str]) -> Value {
        let lines = amounts
            .iter()
            .map(|amount| format!(r#"{{"number":"A","amount":{amount},"taxCode":"P0"}}"#))
            .collect::<Vec<_>>();
        let text = format!(
            r#"{{"addresses":{{"shipTo":{{"country":"{country}"}}}},"lines":[{}]}}"#,
            lines.join(",")
        );
        Value::from_json(text.as_bytes(), text.len()).unwrap()
    }

    #[test]
    fn tax_is_rounded_to_cents_on_every_line() {
        let total = |country, amounts: &[&str]| priced(&model(country, amounts)).unwrap().1.to_string();
        assert_eq!(total("DE", &["100.00", "50.00"]), "28.50");
        assert_eq!(total("DE", &["0.03", "0.03"]), "0.02", "0.0057 each, not 0.0114 together");
        assert_eq!(total("US", &["10.00"]), "0.83", "half a cent goes up");
        assert_eq!(total("JP", &["10.00"]), "0.00");
    }
}
