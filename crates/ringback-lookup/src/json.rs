//! Fields of JSON bodies.

use serde_json::Value;

/// The body as JSON.
pub(crate) fn read(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// The text or number at this path, unless it is empty.
pub(crate) fn text(value: &Value, path: &[&str]) -> Option<String> {
    let mut found = value;
    for name in path {
        found = found.as_object()?.get(*name)?;
    }
    match found {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
