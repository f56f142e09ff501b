//! Names in place of ids: whatever is named uniquely may be written by its name.

use serde_json::Value;
use uuid::Uuid;

use crate::client::{ApiPath, Client, ClientError};
use crate::output::cell;

/// The id of an agent that is given by id, name or label.
pub(crate) fn agent(client: &Client, text: &str) -> Result<String, ClientError> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let found = client.get_all(&ApiPath::new(["agents"]).query("search", Some(text)))?;
    pick("agent", text, &found.value, &["name", "label"])
}

/// The same of several agents.
pub(crate) fn agents(client: &Client, texts: &[String]) -> Result<Vec<String>, ClientError> {
    texts.iter().map(|text| agent(client, text)).collect()
}

/// The id of an environment that is given by id or name.
pub(crate) fn environment(client: &Client, text: &str) -> Result<String, ClientError> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let listed = client.get(&ApiPath::new(["environments"]))?;
    pick("environment", text, &listed.value, &["name"])
}

/// The id of an environment's token that is given by id or name.
pub(crate) fn token(client: &Client, environment: &str, text: &str) -> Result<String, ClientError> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    let listed = client.get(&ApiPath::new(["environments", environment, "tokens"]))?;
    pick("token", text, &listed.value, &["name"])
}

/// Whether a text is an id already.
pub(crate) fn is_id(text: &str) -> bool {
    text.parse::<Uuid>().is_ok()
}

/// The id of the one thing in a list that has this text under the first key by which any has it.
fn pick(
    kind: &'static str,
    text: &str,
    list: &Value,
    keys: &[&str],
) -> Result<String, ClientError> {
    let items = || list.as_array().into_iter().flatten();
    for key in keys {
        let named: Vec<&Value> = items()
            .filter(|item| item.get(*key).and_then(Value::as_str) == Some(text))
            .collect();
        match named.as_slice() {
            [] => {}
            [one] => return Ok(cell(one.get("id"))),
            several => {
                return Err(ClientError::Ambiguous {
                    kind,
                    name: text.to_owned(),
                    ids: several.iter().map(|item| cell(item.get("id"))).collect(),
                });
            }
        }
    }
    Err(ClientError::NotFound(format!(
        "no {kind} is named `{text}`"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_unique_name_is_taken_and_another_is_refused() {
        let list = json!([
            {"id": "1", "name": "Sales", "label": "Desk"},
            {"id": "2", "name": "Desk", "label": "x"},
            {"id": "3", "name": "Twice", "label": "y"},
            {"id": "4", "name": "Twice", "label": "y"},
        ]);
        let pick = |text| pick("agent", text, &list, &["name", "label"]);
        assert_eq!(pick("Sales").unwrap(), "1");
        assert_eq!(pick("Desk").unwrap(), "2", "a name goes before a label");
        assert_eq!(pick("x").unwrap(), "2");
        assert!(matches!(pick("sales"), Err(ClientError::NotFound(_))));
        let Err(error @ ClientError::Ambiguous { .. }) = pick("Twice") else {
            panic!("two agents have this name");
        };
        let message = error.to_string();
        assert!(message.contains('3') && message.contains('4'), "{message}");
    }
}
