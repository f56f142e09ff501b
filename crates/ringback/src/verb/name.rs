//! Names in place of ids: whatever is named uniquely may be written by its name.

use ringback_api::{Agent, Environment, Token};
use ringback_routing::{AgentId, EnvironmentId, TokenId};

use crate::client::{ApiPath, Client, ClientError};
use crate::show::Identified;

/// The id of an agent that is given by id, name or label.
pub(crate) fn agent(client: &Client, text: &str) -> Result<AgentId, ClientError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let found = client.get_all(&ApiPath::new(["agents"]).query("search", Some(text)))?;
    let by_name = |agent: &Agent| agent.name == text;
    let by_label = |agent: &Agent| agent.label == text;
    let agent = pick("agent", text, &found.data, &[&by_name, &by_label])?;
    Ok(agent.id)
}

/// The same of several agents.
pub(crate) fn agents(client: &Client, texts: &[String]) -> Result<Vec<AgentId>, ClientError> {
    texts.iter().map(|text| agent(client, text)).collect()
}

/// The id of an environment that is given by id or name.
pub(crate) fn environment(client: &Client, text: &str) -> Result<EnvironmentId, ClientError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let listed: Vec<Environment> = client.get(&ApiPath::new(["environments"]))?.data;
    let by_name = |environment: &Environment| environment.name == text;
    Ok(pick("environment", text, &listed, &[&by_name])?.id)
}

/// The id of an environment's token that is given by id or name.
pub(crate) fn token(
    client: &Client,
    environment: EnvironmentId,
    text: &str,
) -> Result<TokenId, ClientError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let path = ApiPath::new(["environments", &environment.to_string(), "tokens"]);
    let listed: Vec<Token> = client.get(&path)?.data;
    let by_name = |token: &Token| token.name.as_deref() == Some(text);
    Ok(pick("token", text, &listed, &[&by_name])?.id)
}

/// The one thing in a list to which the first test applies that applies to any.
fn pick<'a, T: Identified>(
    kind: &'static str,
    text: &str,
    list: &'a [T],
    tests: &[&dyn Fn(&T) -> bool],
) -> Result<&'a T, ClientError> {
    for test in tests {
        let named: Vec<&T> = list.iter().filter(|item| test(item)).collect();
        match named.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => {
                return Err(ClientError::Ambiguous {
                    kind,
                    name: text.to_owned(),
                    ids: several.iter().flat_map(|item| item.ids()).collect(),
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
    use super::*;

    /// Something with a name and a label.
    struct Thing(&'static str, &'static str, &'static str);

    impl Identified for Thing {
        fn ids(&self) -> Vec<String> {
            vec![self.0.to_owned()]
        }
    }

    #[test]
    fn a_unique_name_is_taken_and_another_is_refused() {
        let list = [
            Thing("1", "Sales", "Desk"),
            Thing("2", "Desk", "x"),
            Thing("3", "Twice", "y"),
            Thing("4", "Twice", "y"),
        ];
        let pick = |text: &str| {
            let by_name = |thing: &Thing| thing.1 == text;
            let by_label = |thing: &Thing| thing.2 == text;
            pick("agent", text, &list, &[&by_name, &by_label]).map(|thing| thing.0)
        };
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
