//! `ringback environment`: tenants, their settings and their tokens.

use clap::{Args, Subcommand};
use ringback_api::{
    Change, Environment, EnvironmentNew, EnvironmentPatch, EnvironmentSettings, Token, TokenNew,
    TokenShown,
};
use ringback_routing::{EnvironmentId, NumberForm};

use super::name;
use super::value::{TargetArg, number_form, said, seconds, targets};
use crate::client::{Answer, ApiPath, ClientError};
use crate::exit::Failure;
use crate::output::{Column, Session, SessionArgs, record, table};
use crate::show::Show;

/// `ringback environment`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EnvironmentArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Verb {
    /// List all environments
    List,
    /// Make an environment
    Create {
        /// Its name
        #[arg(long)]
        name: String,
        /// Its settings.
        #[command(flatten)]
        settings: Settings,
    },
    /// Show one environment
    Show {
        /// The environment, by id or name
        id: String,
    },
    /// Change the settings that are given, leave the others
    Update {
        /// The environment, by id or name
        id: String,
        /// The new name
        #[arg(long)]
        name: Option<String>,
        /// The settings.
        #[command(flatten)]
        settings: Settings,
        /// Forget the default country
        #[arg(long, conflicts_with = "default_country")]
        no_default_country: bool,
        /// Forget the target template
        #[arg(long, conflicts_with = "target_template")]
        no_target_template: bool,
        /// Empty the list of fallback targets
        #[arg(long, conflicts_with = "fallback_target")]
        no_fallback_targets: bool,
    },
    /// Delete an environment that has no agents and numbers left
    Delete {
        /// The environment, by id or name
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make, list and end the environment's tokens
    Token {
        /// What to do.
        #[command(subcommand)]
        verb: TokenVerb,
    },
}

/// The settings of an environment.
#[derive(Debug, Args)]
struct Settings {
    /// Country in which numbers without + are read (ISO 3166-1 alpha-2), such as `BR`
    #[arg(long, value_name = "COUNTRY")]
    default_country: Option<String>,
    /// What digits without + are: a number as dialed within the country, or E.164 [server default: national]
    #[arg(long, value_name = "FORM", value_parser = number_form())]
    number_form: Option<NumberForm>,
    /// How old a call may be and still be returned: seconds, or 90m, 12h, 30d [server default: 30d]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    recency_window: Option<u64>,
    /// SIP URI for agents without targets of their own, such as `sip:{agent_id}@agents.example.com`; also {dialed}, {caller}, {source_agent_id}
    #[arg(long, value_name = "URI")]
    target_template: Option<String>,
    /// Where calls go that no agent takes, as `"URI PRIORITY WEIGHT"`; repeat for several
    #[arg(long, value_name = "TARGET")]
    fallback_target: Vec<TargetArg>,
}

impl Settings {
    /// The settings of a request; what is not given stays, or is cleared.
    fn body(&self, cleared: Cleared) -> EnvironmentSettings {
        EnvironmentSettings {
            default_country: Change::of(self.default_country.clone(), cleared.default_country),
            number_form: Change::of(self.number_form, false),
            recency_window_seconds: Change::of(self.recency_window, false),
            target_template: Change::of(self.target_template.clone(), cleared.target_template),
            fallback_targets: targets(&self.fallback_target, cleared.fallback_targets),
        }
    }
}

/// Which settings are taken away.
#[derive(Clone, Copy, Default)]
struct Cleared {
    /// The default country.
    default_country: bool,
    /// The target template.
    target_template: bool,
    /// All fallback targets.
    fallback_targets: bool,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Make a token; it is shown this once
    Create {
        /// The environment, by id or name
        environment: String,
        /// What to call the token
        #[arg(long)]
        name: Option<String>,
        /// Hide numbers of callers and contacts from the token, but for their last two digits
        #[arg(long)]
        masked: bool,
    },
    /// List the tokens, without what is secret
    List {
        /// The environment, by id or name
        environment: String,
    },
    /// End a token at once
    Delete {
        /// The environment, by id or name
        environment: String,
        /// The token, by id or name
        // Not `token`: arguments with one name share one value, and `--token` is another.
        token_id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs the verb that was given.
pub(crate) fn run(args: &EnvironmentArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    let path = |environment: &str| -> Result<ApiPath, ClientError> {
        let id = name::environment(client, environment)?;
        Ok(ApiPath::new(["environments", &id.to_string()]))
    };
    let answer: Answer<Environment> = match &args.verb {
        Verb::List => {
            let answer = client.get(&ApiPath::new(["environments"]))?;
            session.print(&answer, |list: &Vec<_>| table(list, COLUMNS))?;
            return Ok(());
        }
        Verb::Create { name, settings } => {
            let body = EnvironmentNew {
                name: name.clone(),
                settings: settings.body(Cleared::default()),
            };
            client.post(&ApiPath::new(["environments"]), &body)?
        }
        Verb::Show { id } => client.get(&path(id)?)?,
        Verb::Update {
            id,
            name,
            settings,
            no_default_country,
            no_target_template,
            no_fallback_targets,
        } => {
            let body = EnvironmentPatch {
                name: name.clone(),
                settings: settings.body(Cleared {
                    default_country: *no_default_country,
                    target_template: *no_target_template,
                    fallback_targets: *no_fallback_targets,
                }),
            };
            client.patch(&path(id)?, &body)?
        }
        Verb::Delete { id, yes } => {
            session.confirm(*yes, &format!("Delete the environment {id}?"))?;
            session.print(&client.delete(&path(id)?)?, said)?;
            return Ok(());
        }
        Verb::Token { verb } => return token(&session, verb),
    };
    session.print(&answer, |environment| record(environment, FIELDS))?;
    Ok(())
}

/// Makes, lists and ends tokens.
fn token(session: &Session, verb: &TokenVerb) -> Result<(), Failure> {
    let client = &session.client;
    let tokens_of =
        |id: EnvironmentId| ApiPath::new(["environments", &id.to_string()]).join("tokens");
    match verb {
        TokenVerb::Create {
            environment,
            name,
            masked,
        } => {
            let path = tokens_of(name::environment(client, environment)?);
            let new = TokenNew {
                name: name.clone(),
                masked: *masked,
            };
            let answer = client.post(&path, &new)?;
            session.print(&answer, |token| record(token, NEW_TOKEN))?;
        }
        TokenVerb::List { environment } => {
            let path = tokens_of(name::environment(client, environment)?);
            let answer = client.get(&path)?;
            session.print(&answer, |list: &Vec<_>| table(list, TOKEN_COLUMNS))?;
        }
        TokenVerb::Delete {
            environment,
            token_id,
            yes,
        } => {
            let question = format!("End the token {token_id} of {environment} at once?");
            session.confirm(*yes, &question)?;
            let environment = name::environment(client, environment)?;
            let token = name::token(client, environment, token_id)?;
            let path = tokens_of(environment).join(&token.to_string());
            session.print(&client.delete(&path)?, said)?;
        }
    }
    Ok(())
}

/// The columns of the list.
const COLUMNS: &[Column<Environment>] = &[
    ("ID", |environment| environment.id.show()),
    ("NAME", |environment| environment.name.show()),
    ("COUNTRY", |environment| environment.default_country.show()),
    ("WINDOW (S)", |environment| {
        environment.recency_window_seconds.show()
    }),
    ("CREATED", |environment| environment.created_at.show()),
];

/// The lines of one environment.
const FIELDS: &[Column<Environment>] = &[
    ("id", |environment| environment.id.show()),
    ("name", |environment| environment.name.show()),
    ("default country", |environment| {
        environment.default_country.show()
    }),
    ("number form", |environment| environment.number_form.show()),
    ("recency window (s)", |environment| {
        environment.recency_window_seconds.show()
    }),
    ("target template", |environment| {
        environment.target_template.show()
    }),
    ("fallback targets", |environment| {
        environment.fallback_targets.show()
    }),
    ("created", |environment| environment.created_at.show()),
];

/// The columns of the list of tokens.
const TOKEN_COLUMNS: &[Column<Token>] = &[
    ("ID", |token| token.id.show()),
    ("NAME", |token| token.name.show()),
    ("MASKED", |token| token.masked.show()),
    ("CREATED", |token| token.created_at.show()),
];

/// The lines of a new token.
const NEW_TOKEN: &[Column<TokenShown>] = &[
    ("id", |token| token.id.show()),
    ("name", |token| token.name.show()),
    ("token (shown this once)", |token| token.token.show()),
    ("masked", |token| token.masked.show()),
    ("created", |token| token.created_at.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  export RINGBACK_TOKEN=$(cat ringback-data/admin.token)
  ringback environment create --name acme --default-country BR \\
    --target-template 'sip:{agent_id}@agents.example.com'
  ringback environment token create acme --name ci";
