//! What a person does about a fault of a provider, in one sentence per cause.

use super::{Cause, Reaction};
use crate::providers::settings::{Api, Provider};
use crate::secrets::redact_all;

/// Circumstances of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Advice<'a> {
    /// Provider.
    pub provider: &'a Provider,
    /// Model, fit for display.
    pub model: &'a str,
    /// Role that made the call; `None` = a driven agent, whose engine names the model.
    pub role: Option<&'static str>,
}

/// How the source of a provider without a key begins.
const NO_KEY: &str = "none is configured";

impl Advice<'_> {
    /// Returns what to do; `None` = nothing, because waiting or a shorter conversation helps.
    pub fn fix(&self, cause: Cause) -> Option<String> {
        let (name, model, key) = (&self.provider.name, self.model, &self.provider.key_source);
        let url = redact_all(&self.provider.base_url);
        let another = self.another_model();
        Some(match cause {
            _ if cause.reaction() != Reaction::AskPerson => return None,
            Cause::Key | Cause::Login => match &self.provider.key {
                Some(_) => format!("put a working key into {key}"),
                // A source that is named and has nothing yet, such as a secret of the vault.
                None if !key.is_empty() && !key.starts_with(NO_KEY) => format!("put a working key into {key}"),
                None => format!(
                    "{name} requires a key, and none is configured: name its source in providers.{name}.key_env, key_file or key_secret"
                ),
            },
            Cause::Permission => format!(
                "grant what the message asks for in the account at {name}, or use a key of an account that has it"
            ),
            Cause::Credit => match &self.provider.key {
                Some(_) => format!("add credit to, or raise the limit of, the account of the key in {key}"),
                None => format!("add credit to, or raise the limit of, the account at {name}"),
            },
            Cause::Region => format!("{name} does not serve this country or region: choose another provider"),
            Cause::Moderation => {
                format!("{name} blocked the content of the request: reword the goal or the task, or {another}")
            }
            Cause::DataPolicy => format!(
                "allow a provider of the model {model} in the privacy and routing settings of the account at {name}, or {another}"
            ),
            Cause::Firewall => format!(
                "a firewall or content delivery network answered instead of {name}: check that this machine may call {url} (network, VPN, proxy), and that providers.{name}.base_url is right"
            ),
            Cause::Model => format!(
                "{name} does not serve the model {model} at {url}: {another} that it serves, or correct providers.{name}.base_url"
            ),
            Cause::NotLoaded => format!("load the model {model} in the server, or {another} that is loaded"),
            Cause::Address => {
                let usual = match self.provider.api {
                    Api::OpenAi | Api::OpenAiResponses | Api::Anthropic => "; it usually ends with /v1/",
                    Api::Gemini => "; it usually ends with /v1beta/",
                    Api::Ollama => "; it usually has no path",
                };
                format!("correct providers.{name}.base_url: {url} does not serve this API{usual}")
            }
            Cause::Redirect => format!("correct providers.{name}.base_url: the address redirects"),
            Cause::Tools => format!(
                "{another} that can call tools, or enable tool calls in the server (vLLM: --enable-auto-tool-choice and --tool-call-parser, llama.cpp: --jinja)"
            ),
            Cause::OutputLimit => format!("lower providers.{name}.max_output_tokens to what the model can write"),
            Cause::Parameter => format!(
                "{another} that accepts the request; if the message names reasoning or thinking, remove the effort from the engine"
            ),
            Cause::Memory => format!(
                "free memory on the server, or {another} that is smaller; a smaller providers.{name}.context_window takes less memory, too"
            ),
            Cause::Tls => format!(
                "make this machine trust the certificate of {url} (add its authority to the system's certificates, or name it in SSL_CERT_FILE), or correct providers.{name}.base_url: a server without TLS needs http://"
            ),
            Cause::Proxy => {
                "the proxy in between refused the connection: correct HTTPS_PROXY and NO_PROXY in Skep's environment"
                    .to_owned()
            }
            Cause::Limit | Cause::Overloaded | Cause::ServerFault | Cause::TooLong | Cause::Unclassified => format!(
                "check the provider's message, which Skep does not know; correct providers.{name}, or {another} that accepts such requests"
            ),
        })
    }

    fn another_model(&self) -> String {
        match self.role {
            Some(role) => format!("set role.{role}.model to one"),
            None => "change the engine's model to one".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;
    use std::time::Duration;

    fn provider(key: Option<Secret>) -> Provider {
        Provider {
            name: "acme".to_owned(),
            api: Api::OpenAi,
            base_url: "https://models.example/".to_owned(),
            key,
            key_source: "environment variable ACME_KEY".to_owned(),
            concurrency: 1,
            requests_per_minute: None,
            idle_timeout: Duration::from_secs(1),
            context_window: 1000,
            max_output_tokens: 100,
        }
    }

    #[test]
    fn a_cause_has_advice_exactly_if_a_person_has_to_act() {
        let provider = provider(Some(Secret::new("k")));
        let advice = Advice { provider: &provider, model: "m1", role: Some("dev") };
        for signature in super::super::SIGNATURES {
            let asks = signature.cause.reaction() == Reaction::AskPerson;
            assert_eq!(advice.fix(signature.cause).is_some(), asks, "{:?}", signature.cause);
        }
        assert!(advice.fix(Cause::Model).is_some_and(|fix| fix.contains("role.dev.model")));
        assert!(advice.fix(Cause::Address).is_some_and(|fix| fix.contains("/v1/")));
    }

    #[test]
    fn the_key_is_named_only_where_there_is_one() {
        let advice = |provider: &Provider| Advice { provider, model: "m1", role: None }.fix(Cause::Key);
        assert_eq!(
            advice(&provider(Some(Secret::new("k")))).as_deref(),
            Some("put a working key into environment variable ACME_KEY")
        );
        let keyless = Provider { key_source: format!("{NO_KEY} (key_env)"), ..provider(None) };
        assert!(advice(&keyless).is_some_and(|fix| fix.contains("requires a key") && fix.contains("key_env")));
        let in_vault = Provider { key_source: "the secret acme of the vault".to_owned(), ..provider(None) };
        assert!(advice(&in_vault).is_some_and(|fix| fix.contains("into the secret acme")));
    }
}
