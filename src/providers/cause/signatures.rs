//! The table: which status and which words of a provider mean which cause. The first row that matches decides, so
//! precise rows stand before general ones and rows without words last.
//!
//! Words are parts of the provider's text in lower case; `*` stands for anything in between, `?` for a space, `_` or `-`. A wording that is missing
//! is added as a row here and as a sample in `samples.rs`, which proves that every row is needed.

use super::Cause;
use std::ops::RangeInclusive;

/// Where the words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The body of an error response.
    Response,
    /// The output of an agent, which also talks about its work: only words that mean the same everywhere count.
    Agent,
    /// An error of the connection.
    Connection,
}

/// One row.
#[derive(Debug)]
pub struct Signature {
    /// What it means.
    pub cause: Cause,
    /// Source for which it counts.
    pub(super) place: Place,
    /// Statuses for which it counts, if the status is known.
    pub(super) status: RangeInclusive<u16>,
    /// The words; empty = any.
    pub(super) words: &'static str,
}

/// Sources for which a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Responses only: the words are too common elsewhere.
    Response,
    /// Responses and agents.
    Both,
    /// Agents only.
    Agent,
    /// Errors of the connection, whoever reports them.
    Connection,
}

impl Signature {
    /// Returns whether the row describes these words. A row without words needs a status.
    pub fn matches(&self, status: Option<u16>, words: &str, source: Source) -> bool {
        let place = match self.place {
            Place::Response => source == Source::Response,
            Place::Both => source != Source::Connection,
            Place::Agent => source == Source::Agent,
            Place::Connection => source != Source::Response,
        };
        let status = match status {
            Some(status) => self.status.contains(&status),
            None => !self.words.is_empty(),
        };
        place && status && contains(words, self.words)
    }
}

/// Returns whether all parts of a pattern occur in this order.
fn contains(text: &str, pattern: &str) -> bool {
    let mut rest = text.as_bytes();
    pattern.split('*').all(|part| match position(rest, part.as_bytes()) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    let same = |(t, p): (&u8, &u8)| t == p || (*p == b'?' && b" _-".contains(t));
    (0..=text.len().checked_sub(part.len())?).find(|at| text[*at..].iter().zip(part).all(same))
}

/// Any status.
const ANY: RangeInclusive<u16> = 0..=999;
/// Statuses of a refused request.
const REFUSED: RangeInclusive<u16> = 400..=499;

const fn both(cause: Cause, words: &'static str) -> Signature {
    Signature { cause, place: Place::Both, status: ANY, words }
}
const fn response(cause: Cause, status: RangeInclusive<u16>, words: &'static str) -> Signature {
    Signature { cause, place: Place::Response, status, words }
}
const fn agent(cause: Cause, words: &'static str) -> Signature {
    Signature { cause, place: Place::Agent, status: ANY, words }
}
const fn connection(cause: Cause, words: &'static str) -> Signature {
    Signature { cause, place: Place::Connection, status: ANY, words }
}
const fn by_status(cause: Cause, status: RangeInclusive<u16>) -> Signature {
    Signature { cause, place: Place::Both, status, words: "" }
}

use Cause::{
    Address, Credit, DataPolicy, Firewall, Key, Limit, Login, Memory, Model, Moderation, NotLoaded, OutputLimit,
    Overloaded, Parameter, Permission, Proxy, Redirect, Region, ServerFault, Tls, TooLong, Tools, Unclassified,
};

/// The table.
#[rustfmt::skip]
pub const SIGNATURES: &[Signature] = &[
    // The connection.
    connection(Tls, "invalid peer certificate"),
    connection(Tls, "unknownissuer"),
    connection(Tls, "self-signed certificate"),
    connection(Tls, "self signed certificate"),
    connection(Tls, "unable to get local issuer certificate"),
    connection(Tls, "certificate verify failed"),
    connection(Tls, "certificate has expired"),
    connection(Tls, "invalidcontenttype"),
    connection(Tls, "wrong version number"),
    connection(Proxy, "proxy authentication required"),
    connection(Proxy, "proxy authorization required"),
    connection(Proxy, "unsuccessful tunnel"),
    connection(Proxy, "tunnel error"),
    by_status(Proxy, 407..=407),
    response(Address, REFUSED, "plain http request was sent to https port"),
    response(Address, REFUSED, "http request to an https server"),
    by_status(Redirect, 300..=399),

    // Content, before anything else: such an answer may talk about any topic.
    both(Moderation, "content management policy"),
    both(Moderation, "content filtering policy"),
    both(Moderation, "flagged as potentially violating"),
    both(Moderation, "your input was flagged"),
    both(Moderation, "content was flagged"),
    both(Moderation, "content_policy_violation"),
    both(Moderation, "content exists risk"),
    both(Moderation, "data_inspection_failed"),
    both(Moderation, "considered high risk"),
    both(Moderation, "violates usage guidelines"),
    both(Moderation, "violate our usage policy"),
    both(Moderation, "prohibited_content"),
    response(Moderation, REFUSED, "content_filter"),
    response(Moderation, REFUSED, "flagged_input"),

    // Countries.
    both(Region, "unsupported_country_region_territory"),
    both(Region, "country, region, or territory not supported"),
    both(Region, "unsupported countries, regions, or territories"),
    both(Region, "user location is not supported"),
    both(Region, "not available in your country"),
    both(Region, "not available in your region"),
    both(Region, "unavailable in region"),
    response(Region, 403..=403, "request not allowed"),
    both(Region, "api error: 403*request not allowed"),

    // Somebody else answered.
    response(Firewall, 400..=599, "just a moment..."),
    response(Firewall, 400..=599, "attention required! | cloudflare"),
    response(Firewall, 403..=403, "error code: 10"),
    response(Firewall, 403..=403, "you have been blocked"),
    response(Firewall, 403..=403, "<title>403 forbidden"),
    response(Firewall, 403..=403, "access denied. please check your network settings"),
    response(Firewall, 403..=403, "<!doctype html"),
    response(Firewall, 403..=403, "<html"),

    // Limits that end by themselves, before credit: both speak of a quota.
    both(Limit, "usage limit reached"),
    both(Limit, "usage_limit_reached"),
    both(Limit, "usage limit has been reached"),
    both(Limit, "hit your usage limit"),
    both(Limit, "hit your limit"),
    both(Limit, "hit your session limit"),
    both(Limit, "hit your weekly limit"),
    both(Limit, "hit your opus limit"),
    both(Limit, "hit your sonnet limit"),
    both(Limit, "hour limit reached"),
    both(Limit, "weekly limit reached"),
    both(Limit, "opus limit reached"),
    both(Limit, "session limit reached"),
    both(Limit, "reached your weekly limit"),
    both(Limit, "reached your session limit"),
    both(Limit, "api usage limits. you will regain access"),
    both(Limit, "daily quota"),
    both(Limit, "quota will reset"),
    both(Limit, "exhausted your capacity on this model"),

    // Credit.
    both(Credit, "insufficient_quota"),
    both(Credit, "billing_hard_limit_reached"),
    both(Credit, "billing_not_active"),
    both(Credit, "credit balance is too low"),
    both(Credit, "credit balance too low"),
    both(Credit, "insufficient balance"),
    both(Credit, "insufficient credits"),
    both(Credit, "insufficient funds"),
    both(Credit, "requires more credits"),
    both(Credit, "does not have any credits"),
    both(Credit, "used all available credits"),
    both(Credit, "credit limit exceeded"),
    both(Credit, "key limit exceeded"),
    both(Credit, "spend limit reached"),
    both(Credit, "credits are depleted"),
    both(Credit, "extra usage is required"),
    both(Credit, "exceeded_current_quota_error"),
    both(Credit, "requires billing to be enabled"),
    response(Credit, REFUSED, "code=1113"),
    both(Credit, "余额不足"),
    both(Credit, "欠费"),
    both(Credit, "payment?required"),
    both(Credit, "out of credits"),
    by_status(Credit, 402..=402),

    // A key for other models, before the words about wrong keys.
    both(Model, "model_access_denied"),
    both(Model, "key not allowed to access model"),

    // Keys and logins.
    agent(Login, "run /login"),
    agent(Login, "use /login"),
    agent(Login, "not logged in"),
    agent(Login, "please log in"),
    agent(Login, "login required"),
    agent(Login, "requires a login"),
    agent(Login, "log out and sign in again"),
    agent(Login, "please set an auth method"),
    agent(Login, "no auth type is selected"),
    agent(Login, "auth type"),
    agent(Login, "auth method"),
    agent(Login, "oauth token has expired"),
    agent(Login, "failed to refresh token"),
    agent(Login, "authentication required"),
    both(Key, "incorrect api key"),
    both(Key, "invalid?api?key"),
    both(Key, "invalid x-api-key"),
    both(Key, "api key not valid"),
    both(Key, "api key expired"),
    both(Key, "api key was reported as leaked"),
    both(Key, "no auth credentials found"),
    both(Key, "missing_api_key"),
    both(Key, "didn't provide an api key"),
    both(Key, "no api key"),
    agent(Key, "missing environment variable*api_key"),
    agent(Key, "api_key environment variable not found"),
    agent(Key, "could not resolve authentication method"),
    both(Key, "invalid subscription key"),
    both(Key, "security token included in the request is"),
    both(Key, "invalid authentication credentials"),
    both(Key, "ide token expired"),
    both(Key, "bad credentials"),
    both(Key, "authentication fails"),
    both(Key, "authentication_error"),
    both(Key, "authenticationerror"),
    both(Key, "make sure your api key is valid"),
    response(Key, ANY, "unauthenticated"),
    response(Key, 403..=403, "unregistered callers"),
    agent(Key, "unauthorized"),
    agent(Key, "authentication failed"),

    // The model, before permission: "does not have access to model".
    both(Model, "model_not_found"),
    both(Model, "model not found"),
    both(Model, "unknown model"),
    both(Model, "model_not_supported"),
    both(Model, "model_decommissioned"),
    both(Model, "model_not_available"),
    both(Model, "deploymentnotfound"),
    both(Model, "model not exist"),
    both(Model, "is not a valid model id"),
    both(Model, "does not have access to model"),
    both(Model, "access to the model with the specified model id"),
    both(Model, "provided model identifier is invalid"),
    response(Model, REFUSED, "with on-demand throughput isn't supported"),
    response(Model, REFUSED, "invalid model"),
    response(Model, REFUSED, "the model*does not exist"),
    response(Model, REFUSED, "model*not found"),
    response(Model, REFUSED, "model*has been decommissioned"),
    response(Model, REFUSED, "unable to access model"),
    response(Model, REFUSED, "unable to access non-serverless model"),
    response(Model, REFUSED, "not found the model"),
    response(Model, REFUSED, "requested model is not supported"),
    response(NotLoaded, ANY, "no models loaded"),
    response(NotLoaded, ANY, "no model loaded"),
    response(NotLoaded, ANY, "model is not loaded"),

    // Tools.
    both(Tools, "does not support tools"),
    both(Tools, "support tool use"),
    response(Tools, ANY, "--enable-auto-tool-choice"),
    response(Tools, ANY, "tools param requires --jinja"),
    response(Tools, ANY, "tool calling*is not supported"),
    response(Tools, ANY, "does not support function calling"),
    response(Tools, ANY, "function calling is not enabled"),
    response(Tools, ANY, "function calling is not supported"),
    response(Tools, ANY, "tools is not supported"),
    response(Tools, ANY, "'tools' is not supported"),
    response(Tools, ANY, "tools are not supported"),
    both(DataPolicy, "matching your data policy"),
    both(DataPolicy, "no allowed providers are available"),
    response(Model, 404..=404, "no endpoints found"),

    // Sizes: the output limit first, as its wording may name the context window, too.
    both(OutputLimit, "maximum allowed number of output tokens"),
    both(OutputLimit, "supports at most*completion tokens"),
    both(OutputLimit, "invalid max_tokens value"),
    both(OutputLimit, "maxoutputtokens value of"),
    both(OutputLimit, "max_tokens` must be less than or equal to"),
    both(TooLong, "context?length?exceeded"),
    both(TooLong, "exceed_context_size"),
    both(TooLong, "maximum context length"),
    both(TooLong, "max context length"),
    both(TooLong, "available context size"),
    both(TooLong, "prompt too long"),
    both(TooLong, "prompt is too long"),
    both(TooLong, "input is too long"),
    both(TooLong, "exceeds the context window"),
    both(TooLong, "exceeds the model's context window"),
    both(TooLong, "context window exceeds limit"),
    both(TooLong, "model_context_window_exceeded"),
    both(TooLong, "input token count*exceed"),
    both(TooLong, "prompt token count*exceeds the limit"),
    both(TooLong, "requested token count exceeds"),
    both(TooLong, "maximum prompt length"),
    both(TooLong, "exceeded model token limit"),
    both(TooLong, "longer than the model's context length"),
    both(TooLong, "longer than the maximum model length"),
    both(TooLong, "greater than the context length"),
    both(TooLong, "exceeds the context length"),
    both(TooLong, "when context the overflows"),
    both(TooLong, "prompt exceeds max length"),
    both(TooLong, "range of input length should be"),
    both(TooLong, "`inputs` tokens + `max_new_tokens` must be"),
    both(TooLong, "`inputs` must have less than"),
    both(TooLong, "too large for model with*maximum context"),
    both(TooLong, "exceed context limit"),
    both(TooLong, "cannot truncate prompt with n_keep"),
    both(TooLong, "exceeds the maximum allowed input length"),
    both(TooLong, "exceeds the context size"),
    // No waiting helps: the request alone is larger than the limit.
    both(TooLong, "request too large for*tokens per min"),
    both(TooLong, "reduce the length of the messages"),
    both(TooLong, "too many tokens: size limit exceeded"),
    both(TooLong, "request_too_large"),
    response(TooLong, 400..=422, "context window"),
    response(TooLong, 400..=422, "too many tokens"),
    by_status(TooLong, 413..=413),

    // Other refusals of the request itself.
    both(Permission, "must be verified"),
    both(Permission, "insufficient permissions"),
    both(Permission, "missing scopes"),
    both(Permission, "service_disabled"),
    both(Permission, "is not authorized to perform"),
    both(Permission, "ip_not_authorized"),
    response(Permission, REFUSED, "permission?denied"),
    both(Permission, "permission?error"),
    both(Permission, "api_key_ip_address_blocked"),
    both(Permission, "access to this endpoint is forbidden"),
    response(Parameter, REFUSED, "unsupported?parameter"),
    response(Parameter, REFUSED, "unsupported?value"),
    response(Parameter, REFUSED, "unrecognized request argument"),
    response(Parameter, REFUSED, "extra inputs are not permitted"),
    response(Parameter, REFUSED, "does not support thinking"),
    response(Parameter, REFUSED, "does not support parameter"),
    response(Parameter, REFUSED, "thinking*is not supported"),
    response(Parameter, REFUSED, "reasoning*is not supported"),

    // Memory of a local server.
    response(Memory, ANY, "requires more system memory"),
    response(Memory, ANY, "out?of?memory"),
    response(Memory, ANY, "due to resource limitations"),
    response(Memory, ANY, "memory layout cannot be allocated"),
    response(Memory, ANY, "insufficient system resources"),
    response(Memory, ANY, "insufficient memory"),
    response(Memory, ANY, "not enough memory"),
    response(Memory, ANY, "unable to allocate"),
    response(Memory, ANY, "failed to allocate"),
    response(Memory, ANY, "no available memory for the cache blocks"),
    response(Memory, ANY, "runner process has terminated: signal: killed"),
    response(Memory, ANY, "runner process has terminated: exit status 2"),
    response(Memory, ANY, "error loading model*exit code: 137"),
    // Not "loading model", which passes.
    response(NotLoaded, ANY, "failed to load model"),
    response(NotLoaded, ANY, "error loading model"),

    // The address.
    response(Address, ANY, "unexpected endpoint or method"),
    response(Address, REFUSED, "invalid url"),
    response(Address, REFUSED, "cannot post /"),
    response(Address, 404..=404, "no route matched"),
    response(Address, 404..=404, "<html"),
    response(Address, 404..=404, "<!doctype html"),
    response(Address, 404..=404, "not found"),
    by_status(Address, 405..=405),

    // Not now.
    both(Overloaded, "overloaded"),
    both(Overloaded, "service tier capacity exceeded"),
    both(Overloaded, "flex tier capacity exceeded"),
    both(Overloaded, "experiencing high traffic"),
    both(Overloaded, "no instances available"),
    both(Overloaded, "maximum pending requests exceeded"),
    both(Overloaded, "service unavailable"),
    response(Overloaded, ANY, "loading model"),
    response(Overloaded, ANY, "model unloaded"),
    response(Overloaded, ANY, "is currently loading"),
    both(Limit, "rate?limit"),
    both(Limit, "ratelimit"),
    both(Limit, "too many requests"),
    both(Limit, "resource_exhausted"),
    both(Limit, "throttlingexception"),
    both(Limit, "quota?exceeded"),
    both(Limit, "exceeded your current quota"),
    agent(Limit, "usage limit"),
    agent(ServerFault, "api error: 5"),
    agent(Overloaded, "econnrefused"),
    agent(Overloaded, "fetch failed"),
    agent(Overloaded, "connection error"),
    agent(Overloaded, "stream disconnected"),
    agent(Overloaded, "getaddrinfo eai_again"),

    // The status alone.
    by_status(Key, 401..=401),
    by_status(Limit, 429..=429),
    by_status(Overloaded, 498..=498),
    by_status(Overloaded, 503..=503),
    by_status(Overloaded, 529..=529),
    response(Model, 404..=404, ""),
    response(Unclassified, REFUSED, "invalid_request_error"),
    response(Unclassified, REFUSED, "invalid_argument"),
    response(ServerFault, 408..=408, ""),
    response(ServerFault, 425..=425, ""),
    response(ServerFault, 500..=599, ""),
];
