//! CloudEvents 1.0 over HTTP: binary, structured and batch.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use syncline_actors::id::{EntityId, check_text};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

/// Longest attribute, in bytes.
const ATTRIBUTE_MAX: usize = 512;

/// Attributes that are understood, with our extensions. Others are allowed and kept only in the evidence.
const READ: [&str; 9] =
    ["specversion", "id", "source", "type", "subject", "time", "correlationid", "causationid", "traceparent"];

/// An event as its sender meant it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CloudEvent {
    pub(super) id: Arc<str>,
    pub(super) source: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) subject: EntityId,
    pub(super) time: Option<Timestamp>,
    pub(super) correlation_id: Option<Arc<str>>,
    pub(super) causation_id: Option<Arc<str>>,
    pub(super) traceparent: Option<Arc<str>>,
    pub(super) data: Value,
}

/// The events of a request, in order. The error says which attribute of which event is wrong.
pub(super) fn read(headers: &HeaderMap, body: &[u8], max: usize) -> Result<Vec<CloudEvent>, String> {
    let json = || Value::from_json(body, max).map_err(|error| error.to_string());
    match media_type(headers).as_str() {
        "application/cloudevents+json" => Ok(vec![structured(&json()?)?]),
        "application/cloudevents-batch+json" => {
            let batch = json()?;
            let events = batch.as_list().ok_or("a batch is a JSON array of events")?;
            let named =
                |(index, event)| structured(event).map_err(|problem| format!("event {index}: {problem}"));
            events.iter().enumerate().map(named).collect()
        }
        other if other.starts_with("application/cloudevents") => {
            Err(format!("`{other}` is not read here: send application/cloudevents+json or -batch+json"))
        }
        _ if headers.contains_key("ce-specversion") => Ok(vec![binary(headers, body, max)?]),
        _ => Err("this is no CloudEvent: send `ce-*` headers, or application/cloudevents+json".to_owned()),
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn binary(headers: &HeaderMap, body: &[u8], max: usize) -> Result<CloudEvent, String> {
    let attribute = |name: &str| {
        let mut values = headers.get_all(format!("ce-{name}")).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(format!("`ce-{name}` is there twice")),
            (value, _) => value.map(|value| decoded(name, value)).transpose(),
        }
    };
    let media_type = media_type(headers);
    if !(body.is_empty() || is_json(&media_type)) {
        return Err(format!("the data are `{media_type}`: send application/json"));
    }
    let data =
        if body.is_empty() { Value::Null } else { Value::from_json(body, max).map_err(|e| e.to_string())? };
    event(attribute, data)
}

fn is_json(media_type: &str) -> bool {
    media_type.is_empty() || media_type == "application/json" || media_type.ends_with("+json")
}

/// Header values are percent-encoded where they are not plain ASCII.
fn decoded(name: &str, value: &HeaderValue) -> Result<String, String> {
    let text =
        value.to_str().map_err(|_odd| format!("`ce-{name}` is not visible ASCII: percent-encode it"))?;
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_odd| format!("`ce-{name}` is not UTF-8"))?.into_owned())
}

fn structured(json: &Value) -> Result<CloudEvent, String> {
    let members = json.as_map().ok_or("an event is a JSON object")?;
    let attribute = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_text().map(|text| Some(text.to_owned())).ok_or_else(|| format!("`{name}` must be text"))
        }
    };
    let media_type = attribute("datacontenttype")?.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !is_json(&media_type) {
        return Err(format!("the data are `{media_type}`: send application/json"));
    }
    let data = match (members.get("data"), attribute("data_base64")?) {
        (Some(_), Some(_)) => return Err("`data` and `data_base64` exclude each other".to_owned()),
        (Some(data), None) => data.clone(),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(&text).map_err(|error| format!("`data_base64`: {error}"))?;
            Value::from_json(&bytes, bytes.len()).map_err(|error| format!("`data_base64`: {error}"))?
        }
        (None, None) => Value::Null,
    };
    event(attribute, data)
}

fn event(
    attribute: impl Fn(&str) -> Result<Option<String>, String>,
    data: Value,
) -> Result<CloudEvent, String> {
    let read = |name: &str| {
        debug_assert!(READ.contains(&name), "{name}");
        let Some(text) = attribute(name)? else { return Ok::<_, String>(None) };
        check_text("it", &text, ATTRIBUTE_MAX).map_err(|error| format!("`{name}`: {error}"))?;
        Ok(Some(Arc::<str>::from(text)))
    };
    let needed = |name: &str| read(name)?.ok_or_else(|| format!("`{name}` is missing"));
    let version = needed("specversion")?;
    if &*version != "1.0" {
        return Err(format!("`specversion` is {version}: only 1.0 is read here"));
    }
    let subject = needed("subject")
        .and_then(|text| EntityId::parse(&text).map_err(|error| format!("`subject`: {error}")))
        .map_err(|problem| format!("{problem}; it is the entity, e.g. `order/SO-1001`"))?;
    let time = match read("time")? {
        None => None,
        Some(text) => Some(Timestamp::parse(&text).ok_or_else(|| format!("`time`: {text} is not RFC 3339"))?),
    };
    Ok(CloudEvent {
        id: needed("id")?,
        source: needed("source")?,
        name: needed("type")?,
        subject,
        time,
        correlation_id: read("correlationid")?,
        causation_id: read("causationid")?,
        traceparent: read("traceparent")?,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRUCTURED: &str = r#"{"specversion": "1.0", "id": "e-1", "source": "/crm", "type": "order.confirmed",
        "subject": "order/SO-1", "time": "2026-11-23T10:00:00Z", "correlationid": "flow-1", "data": {"amount": 1.10}}"#;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn of_type(media_type: &str) -> HeaderMap {
        headers(&[("content-type", media_type)])
    }

    fn one(events: Result<Vec<CloudEvent>, String>) -> CloudEvent {
        let [event] = &events.unwrap()[..] else { panic!("not one event") };
        event.clone()
    }

    #[test]
    fn an_event_is_the_same_in_all_three_modes() {
        let structured =
            one(read(&of_type("application/cloudevents+json; charset=utf-8"), STRUCTURED.as_bytes(), 1000));
        let batch = format!("[{STRUCTURED}]");
        assert_eq!(
            one(read(&of_type("application/cloudevents-batch+json"), batch.as_bytes(), 1000)),
            structured
        );
        let binary = headers(&[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "e%2D1"),
            ("ce-source", "/crm"),
            ("ce-type", "order.confirmed"),
            ("ce-subject", "order/SO-1"),
            ("ce-time", "2026-11-23T11:00:00+01:00"),
            ("ce-correlationid", "flow-1"),
        ]);
        assert_eq!(one(read(&binary, br#"{"amount": 1.10}"#, 1000)), structured);
        assert_eq!(structured.data.to_json(), r#"{"amount":1.10}"#);
        let encoded =
            STRUCTURED.replace(r#""data": {"amount": 1.10}"#, r#""data_base64": "eyJhbW91bnQiOjEuMTB9""#);
        assert_eq!(one(read(&of_type("application/cloudevents+json"), encoded.as_bytes(), 1000)), structured);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let batch = |from: &str, to: &str| {
            let events = format!("[{STRUCTURED}, {}]", STRUCTURED.replace(from, to));
            read(&of_type("application/cloudevents-batch+json"), events.as_bytes(), 2000).unwrap_err()
        };
        assert_eq!(batch(r#""id": "e-1", "#, ""), "event 1: `id` is missing");
        assert_eq!(batch(r#""1.0""#, r#""0.3""#), "event 1: `specversion` is 0.3: only 1.0 is read here");
        assert!(batch("order/SO-1", "SO-1").starts_with("event 1: `subject`"));
        assert!(batch("2026-11-23T10:00:00Z", "yesterday").contains("not RFC 3339"));
        assert!(batch(r#""e-1""#, "7").contains("`id` must be text"));
        let plain = read(&of_type("application/json"), STRUCTURED.as_bytes(), 1000).unwrap_err();
        assert!(plain.starts_with("this is no CloudEvent"), "{plain}");
    }
}
