//! A setting in a request that changes something.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a request does to an optional setting. In a struct it needs
/// `#[serde(default, skip_serializing_if = "Change::is_keep")]`: left out, the setting stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// The setting stays as it is: the key is left out.
    #[default]
    Keep,
    /// The setting is taken away, or goes back to its default: `null`.
    Clear,
    /// The setting has this value from now on.
    Set(T),
}

impl<T> Change<T> {
    /// Whether the setting stays as it is.
    #[must_use]
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// A change to what is given, if anything is; `clear` takes the setting away where nothing is given.
    #[must_use]
    pub fn of(given: Option<T>, clear: bool) -> Self {
        match given {
            Some(value) => Self::Set(value),
            None if clear => Self::Clear,
            None => Self::Keep,
        }
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::deserialize(deserializer)? {
            Some(value) => Self::Set(value),
            None => Self::Clear,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Body {
        #[serde(default, skip_serializing_if = "Change::is_keep")]
        setting: Change<u32>,
    }

    #[test]
    fn each_change_is_written_and_read_back() {
        for (setting, text) in [
            (Change::Keep, "{}"),
            (Change::Clear, r#"{"setting":null}"#),
            (Change::Set(7), r#"{"setting":7}"#),
        ] {
            let body = Body { setting };
            assert_eq!(serde_json::to_string(&body).unwrap(), text);
            assert_eq!(serde_json::from_str::<Body>(text).unwrap(), body);
        }
    }
}
