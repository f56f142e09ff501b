//! The environment variables: those that the program knows, and the administrator token.

use super::fault::Faults;

/// What the environment says, as far as it is about Ringback.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    /// The names of all variables that begin with `RINGBACK_`.
    names: Vec<String>,
    /// The administrator token; empty: none.
    admin_token: String,
}

impl Environment {
    /// That of this process.
    pub(super) fn of_process() -> Self {
        let mut names: Vec<String> = std::env::vars_os()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with("RINGBACK_"))
            .collect();
        names.sort();
        let admin_token = std::env::var_os(ADMIN_TOKEN).unwrap_or_default();
        Self {
            names,
            admin_token: admin_token.to_string_lossy().trim().to_owned(),
        }
    }

    /// A warning for each variable that means nothing.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.names
            .iter()
            .filter(|name| !KNOWN.contains(&name.as_str()))
            .map(|name| format!("the variable {name} is unknown and ignored"))
            .collect()
    }

    /// The administrator token, where there is one.
    pub(super) fn admin_token(self, faults: &mut Faults<'_>) -> Option<String> {
        if self.admin_token.is_empty() {
            return None;
        }
        if let Err(problem) = check_admin_token(&self.admin_token) {
            faults.add_outside(ADMIN_TOKEN, problem);
        }
        Some(self.admin_token)
    }
}

/// Says why an administrator token cannot be used: it could be guessed, or cannot be sent in a header.
pub(crate) fn check_admin_token(token: &str) -> Result<(), String> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token has characters that cannot be sent in a header".to_owned());
    }
    if token.len() < SHORTEST_TOKEN {
        return Err(format!(
            "the token has {} characters and needs at least {SHORTEST_TOKEN}, or it could be guessed",
            token.len()
        ));
    }
    Ok(())
}

/// The variable that gives the administrator token.
const ADMIN_TOKEN: &str = "RINGBACK_ADMIN_TOKEN";

/// The fewest characters of an administrator token.
const SHORTEST_TOKEN: usize = 32;

/// Every variable that the program reads.
pub(crate) const KNOWN: [&str; 12] = [
    ADMIN_TOKEN,
    "RINGBACK_CA",
    "RINGBACK_CONFIG",
    "RINGBACK_DATA_DIR",
    "RINGBACK_HEP",
    "RINGBACK_HTTP",
    "RINGBACK_HTTPS",
    "RINGBACK_SIP_TCP",
    "RINGBACK_SIP_TLS",
    "RINGBACK_SIP_UDP",
    "RINGBACK_TOKEN",
    "RINGBACK_URL",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variables_are_named() {
        let environment = Environment {
            names: ["RINGBACK_HTPP", "RINGBACK_HTTP"].map(str::to_owned).into(),
            admin_token: String::new(),
        };
        assert_eq!(
            environment.warnings(),
            ["the variable RINGBACK_HTPP is unknown and ignored"]
        );
    }

    #[test]
    fn a_token_that_could_be_guessed_is_refused() {
        for bad in ["x", &"x".repeat(31), "thirty-two characters, with spaces"] {
            assert!(check_admin_token(bad).is_err(), "{bad}");
            let environment = Environment {
                names: Vec::new(),
                admin_token: bad.to_owned(),
            };
            let mut faults = Faults::new(None, &[]);
            environment.admin_token(&mut faults);
            let faults = faults.into_list();
            assert!(faults[0].to_string().starts_with("RINGBACK_ADMIN_TOKEN: "));
        }
        assert_eq!(check_admin_token(&"x".repeat(32)), Ok(()));
    }
}
