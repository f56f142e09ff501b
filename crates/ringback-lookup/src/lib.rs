//! The dialects in which platforms ask where a call goes.
//!
//! A connector gives a platform an address of its own. What comes there is a [`Request`]; [`read`] makes it a
//! [`Question`], in the same form for every platform, and [`answer`] writes a decision as the platform wants it.
//! [`is_proven`] checks the proof by which a platform shows who it is. Each dialect is a file in `dialect/`, each
//! kind of proof one in `proof/`.
//!
//! This crate is pure: no runtime, socket, file, clock or entropy. Nothing that a caller has dialed becomes markup, a
//! header line or an argument of a dialplan: answers are made of values that are escaped as a whole, of the targets of
//! agents, and of our own words.

mod answer;
mod dial_string;
mod dialect;
mod form;
mod json;
mod proof;
mod question;
mod request;
mod routing;
mod settings;
mod xml;

pub use answer::Answer;
pub use dialect::{Occasion, answer, read};
pub use proof::{is_proven, is_secret};
pub use question::{Asked, DialEnd, Question, StepQuestion};
pub use request::{Method, Request, methods};
pub use routing::{RoutedAgent, Routing};
pub use settings::{Settings, SettingsProblem};
