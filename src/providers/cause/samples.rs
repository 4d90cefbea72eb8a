//! Real wordings of providers, servers and agents, and what each means. Every row of the table decides at least one.

use super::signatures::{SIGNATURES, Source};
use super::{Cause, words};
use Cause::{
    Address, Credit, DataPolicy, Firewall, Key, Limit, Login, Memory, Model, Moderation, NotLoaded, OutputLimit,
    Overloaded, Parameter, Permission, Proxy, Redirect, Region, ServerFault, Tls, TooLong, Tools, Unclassified,
};

/// How the words arrive.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// As a response with this status.
    Http(u16, &'static str),
    /// As an error within a stream.
    Stream(&'static str),
    /// As the error of an agent.
    Agent(&'static str),
    /// As an error of the connection.
    Connection(&'static str),
}
use Sent::{Agent, Connection, Http, Stream};

#[rustfmt::skip]
const SAMPLES: &[(&str, Sent, Cause)] = &[
    // The connection.
    ("rustls", Connection("(invalid peer certificate: UnknownIssuer)"), Tls),
    ("rustls", Connection("(received fatal alert: UnknownIssuer)"), Tls),
    ("rustls", Connection("(received corrupt message of type InvalidContentType)"), Tls),
    ("node", Agent("Error: self-signed certificate in certificate chain"), Tls),
    ("node", Agent("Error: self signed certificate"), Tls),
    ("node", Agent("unable to get local issuer certificate"), Tls),
    ("python", Agent("ssl.SSLCertVerificationError: certificate verify failed: x"), Tls),
    ("node", Agent("Error: certificate has expired"), Tls),
    ("openssl", Agent("SSL routines: wrong version number"), Tls),
    ("hyper", Connection("(proxy authentication required)"), Proxy),
    ("hyper", Connection("(proxy authorization required)"), Proxy),
    ("hyper", Connection("(unsuccessful tunnel)"), Proxy),
    ("hyper", Connection("(tunnel error: failed to create)"), Proxy),
    ("squid", Http(407, "<html>cache access denied</html>"), Proxy),
    ("nginx", Http(400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"), Address),
    ("go", Http(400, "Client sent an HTTP request to an HTTPS server."), Address),
    ("any", Http(301, ""), Redirect),

    // Content.
    ("azure", Http(400, r#"{"error":{"code":"content_filter","message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy."}}"#), Moderation),
    ("anthropic", Http(400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#), Moderation),
    ("openai", Http(400, r#"{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy.","code":"invalid_prompt"}}"#), Moderation),
    ("openrouter", Http(403, r#"{"error":{"message":"Your input was flagged","code":403,"metadata":{"reasons":["violence"],"flagged_input":"..."}}}"#), Moderation),
    ("openai", Http(400, r#"{"error":{"message":"This content was flagged for possible cybersecurity risk."}}"#), Moderation),
    ("openai", Http(400, r#"{"error":{"code":"content_policy_violation"}}"#), Moderation),
    ("deepseek", Http(400, r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error"}}"#), Moderation),
    ("dashscope", Http(400, r#"{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content."}}"#), Moderation),
    ("moonshot", Http(400, r#"{"error":{"type":"content_filter","message":"The request was rejected because it was considered high risk"}}"#), Moderation),
    ("xai", Http(403, r#"{"code":"forbidden","error":"Content violates usage guidelines."}"#), Moderation),
    ("claude-code", Agent("API Error: Claude Code is unable to respond to this request, which appears to violate our Usage Policy"), Moderation),
    ("gemini", Stream(r#"{"error":{"message":"blocked","status":"PROHIBITED_CONTENT"}}"#), Moderation),
    ("vercel", Http(400, r#"{"error":{"type":"content_filter","message":"blocked"}}"#), Moderation),
    ("gateway", Http(400, r#"{"error":{"message":"see flagged_input"}}"#), Moderation),

    // Countries.
    ("openai", Http(403, r#"{"error":{"code":"unsupported_country_region_territory","message":"not here"}}"#), Region),
    ("openai", Agent("403 Country, region, or territory not supported"), Region),
    ("bedrock", Http(400, r#"{"message":"Access to Anthropic models is not allowed from unsupported countries, regions, or territories."}"#), Region),
    ("gemini", Http(400, r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#), Region),
    ("gemini", Http(400, r#"{"error":{"message":"Gemini API free tier is not available in your country."}}"#), Region),
    ("openrouter", Http(403, r#"{"error":{"message":"This model is not available in your region.","code":403}}"#), Region),
    ("claude-code", Agent("App unavailable in region"), Region),
    ("anthropic", Http(403, r#"{"error":{"type":"forbidden","message":"Request not allowed"}}"#), Region),
    ("claude-code", Agent(r#"API Error: 403 {"error":{"type":"forbidden","message":"Request not allowed"}}"#), Region),

    // Somebody else.
    ("cloudflare", Http(403, "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"), Firewall),
    ("cloudflare", Http(403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"), Firewall),
    ("cloudflare", Http(403, "error code: 1020"), Firewall),
    ("cloudflare", Http(403, "Sorry, you have been blocked"), Firewall),
    ("groq", Http(403, r#"{"error":{"message":"Access denied. Please check your network settings."}}"#), Firewall),
    ("nginx", Http(403, "<center><title>403 Forbidden</title></center>"), Firewall),
    ("any", Http(403, "<!DOCTYPE html><body>no</body>"), Firewall),
    ("any", Http(403, "<html><body>no</body></html>"), Firewall),

    // Limits that end.
    ("claude-code", Agent("Claude AI usage limit reached|1760004000"), Limit),
    ("codex", Agent(r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":1}}"#), Limit),
    ("codex", Agent("The usage limit has been reached"), Limit),
    ("codex", Agent("You've hit your usage limit. Try again in 4 days 20 hours 9 minutes."), Limit),
    ("claude-code", Agent("You've hit your limit · resets 3pm (Europe/Berlin)"), Limit),
    ("claude-code", Agent("You've hit your session limit · resets 8:30pm (Asia/Tokyo)"), Limit),
    ("claude-code", Agent("You've hit your weekly limit · resets Oct 6, 1pm"), Limit),
    ("claude-code", Agent("You've hit your Opus limit · resets 9am"), Limit),
    ("claude-code", Agent("You've hit your Sonnet limit · resets 9am"), Limit),
    ("claude-code", Agent("5-hour limit reached ∙ resets 4am"), Limit),
    ("claude-code", Agent("Weekly limit reached ∙ resets Oct 6 at 1pm"), Limit),
    ("claude-code", Agent("Opus limit reached"), Limit),
    ("claude-code", Agent("Session limit reached ∙ resets 6pm"), Limit),
    ("claude-code", Agent("You've reached your weekly limit"), Limit),
    ("claude-code", Agent("You've reached your session limit"), Limit),
    ("anthropic", Http(400, r#"{"error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#), Limit),
    ("gemini-cli", Agent("You have exhausted your daily quota on this model."), Limit),
    ("gemini-cli", Agent("Your quota will reset after 13h12m3s."), Limit),
    ("gemini-cli", Agent("You have exhausted your capacity on this model."), Limit),

    // Credit.
    ("openai", Http(429, r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","code":"insufficient_quota"}}"#), Credit),
    ("openai", Http(400, r#"{"error":{"code":"billing_hard_limit_reached"}}"#), Credit),
    ("openai", Http(429, r#"{"error":{"code":"billing_not_active","message":"Your account is not active"}}"#), Credit),
    ("anthropic", Http(400, r#"{"error":{"message":"Your credit balance is too low to access the Anthropic API."}}"#), Credit),
    ("claude-code", Agent("Credit balance too low"), Credit),
    ("deepseek", Http(402, r#"{"error":{"message":"Insufficient Balance"}}"#), Credit),
    ("openrouter", Http(402, r#"{"error":{"message":"Insufficient credits. Add more using https://openrouter.ai/credits"}}"#), Credit),
    ("vercel", Http(403, r#"{"error":{"message":"Insufficient funds"}}"#), Credit),
    ("openrouter", Http(402, r#"{"error":{"message":"This request requires more credits, or fewer max_tokens."}}"#), Credit),
    ("xai", Http(403, r#"{"code":"forbidden","error":"Your team does not have any credits or licenses yet."}"#), Credit),
    ("xai", Http(429, r#"{"error":"Your team has either used all available credits or reached its monthly spending limit."}"#), Credit),
    ("together", Http(402, r#"{"error":{"message":"Credit limit exceeded, please add credits"}}"#), Credit),
    ("openrouter", Http(403, r#"{"error":{"message":"Key limit exceeded (monthly limit)."}}"#), Credit),
    ("groq", Http(400, r#"{"error":{"code":"blocked_api_access","message":"Organization spend limit reached"}}"#), Credit),
    ("gemini", Http(429, r#"{"error":{"message":"Your prepayment credits are depleted."}}"#), Credit),
    ("anthropic", Http(429, r#"{"error":{"message":"Extra usage is required for long context requests."}}"#), Credit),
    ("moonshot", Http(429, r#"{"error":{"type":"exceeded_current_quota_error"}}"#), Credit),
    ("gemini", Http(403, r#"{"error":{"message":"This API method requires billing to be enabled."}}"#), Credit),
    ("zhipu", Http(429, r#"{"error":{"code":"1113","message":"请充值后重试"}}"#), Credit),
    ("zhipu", Agent("您的账户已欠费,请充值后重试。"), Credit),
    ("moonshot", Http(429, r#"{"error":{"message":"账户余额不足"}}"#), Credit),
    ("zhipu", Http(429, r#"{"error":{"code":"1302","message":"rate limit: 1113 of 1000 requests"}}"#), Limit),
    ("any", Agent("402 Payment Required"), Credit),
    ("any", Agent("you are out of credits"), Credit),
    ("any", Http(402, ""), Credit),

    // A key for other models.
    ("litellm", Http(401, r#"{"error":{"message":"no","type":"key_model_access_denied","param":"model","code":"401"}}"#), Model),
    ("litellm", Agent("401 key not allowed to access model. This key can only access models=['a']. Tried to access b"), Model),
    ("litellm", Http(401, r#"{"error":{"message":"Authentication Error, team not allowed","type":"team_model_access_denied","code":"401"}}"#), Model),

    // Keys and logins.
    ("claude-code", Agent("Invalid session. Please run /login"), Login),
    ("codex", Agent("use /login to sign in"), Login),
    ("codex", Agent("Not logged in"), Login),
    ("opencode", Agent("please log in first"), Login),
    ("kilo", Agent("Login required"), Login),
    ("acp", Agent("the agent requires a login"), Login),
    ("codex", Agent("Your refresh token was revoked. Please log out and sign in again."), Login),
    ("gemini-cli", Agent("Please set an Auth method in your settings.json"), Login),
    ("qwen-code", Agent("No auth type is selected"), Login),
    ("qwen-code", Agent("Invalid auth type"), Login),
    ("gemini-cli", Agent("choose an auth method"), Login),
    ("claude-code", Agent("OAuth token has expired"), Login),
    ("codex", Agent("Failed to refresh token"), Login),
    ("openhands", Agent("Authentication required"), Login),
    ("openai", Http(401, r#"{"error":{"message":"Incorrect API key provided: sk-x"}}"#), Key),
    ("xai", Http(400, r#"{"code":"invalid argument","error":"Incorrect API key provided: xa***."}"#), Key),
    ("groq", Http(401, r#"{"error":{"message":"Invalid API Key"}}"#), Key),
    ("anthropic", Http(401, r#"{"error":{"message":"invalid x-api-key"}}"#), Key),
    ("gemini", Http(400, r#"{"error":{"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}"#), Key),
    ("gemini", Http(400, r#"{"error":{"message":"API key expired. Please renew the API key."}}"#), Key),
    ("gemini", Http(403, r#"{"error":{"message":"Your API key was reported as leaked.","status":"PERMISSION_DENIED"}}"#), Key),
    ("openrouter", Http(401, r#"{"error":{"message":"No auth credentials found"}}"#), Key),
    ("cohere", Http(400, r#"{"code":"missing_api_key"}"#), Key),
    ("openai", Http(401, r#"{"error":{"message":"You didn't provide an API key."}}"#), Key),
    ("any", Agent("no API key found for the model"), Key),
    ("codex", Agent("Missing environment variable: `OPENAI_API_KEY`."), Key),
    ("gemini-cli", Agent("GEMINI_API_KEY environment variable not found"), Key),
    ("anthropic-sdk", Agent("Could not resolve authentication method"), Key),
    ("azure", Http(401, r#"{"error":{"message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#), Key),
    ("bedrock", Http(403, r#"{"message":"The security token included in the request is expired"}"#), Key),
    ("vertex", Http(401, r#"{"error":{"message":"Request had invalid authentication credentials."}}"#), Key),
    ("copilot", Http(401, "IDE token expired: unauthorized: token expired"), Key),
    ("github", Http(401, r#"{"message":"Bad credentials"}"#), Key),
    ("deepseek", Http(401, r#"{"error":{"message":"Authentication Fails, Your api key is wrong"}}"#), Key),
    ("anthropic", Stream(r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#), Key),
    ("litellm", Agent("litellm.AuthenticationError: nope"), Key),
    ("bedrock", Http(403, r#"{"Message":"Please make sure your API Key is valid."}"#), Key),
    ("vertex", Stream(r#"{"error":{"message":"x","status":"UNAUTHENTICATED"}}"#), Key),
    ("gemini", Http(403, r#"{"error":{"message":"Method doesn't allow unregistered callers","status":"PERMISSION_DENIED"}}"#), Key),
    ("any", Agent("Error: Unauthorized"), Key),
    ("any", Agent("authentication failed"), Key),
    ("mistral", Http(401, r#"{"message":"Unauthorized"}"#), Key),

    // The model.
    ("openai", Http(404, r#"{"error":{"message":"gone","code":"model_not_found"}}"#), Model),
    ("any", Agent("unknown model: gpt-9"), Model),
    ("copilot", Http(400, r#"{"error":{"code":"model_not_supported"}}"#), Model),
    ("groq", Http(400, r#"{"error":{"code":"model_decommissioned"}}"#), Model),
    ("together", Http(404, r#"{"error":{"code":"model_not_available"}}"#), Model),
    ("azure", Http(404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#), Model),
    ("deepseek", Http(400, r#"{"error":{"message":"Model Not Exist"}}"#), Model),
    ("openrouter", Http(400, r#"{"error":{"message":"foo/bar is not a valid model ID","code":400}}"#), Model),
    ("openai", Http(403, r#"{"error":{"message":"Project `proj_1` does not have access to model `gpt-9`"}}"#), Model),
    ("bedrock", Http(403, r#"{"message":"You don't have access to the model with the specified model ID."}"#), Model),
    ("bedrock", Http(400, r#"{"message":"The provided model identifier is invalid."}"#), Model),
    ("bedrock", Http(400, r#"{"message":"Invocation of model ID x with on-demand throughput isn't supported."}"#), Model),
    ("mistral", Http(400, r#"{"message":"Invalid model: foo","type":"invalid_model"}"#), Model),
    ("vllm", Http(404, r#"{"object":"error","message":"The model `foo` does not exist.","type":"NotFoundError"}"#), Model),
    ("ollama", Http(404, r#"{"error":"model 'foo' not found"}"#), Model),
    ("any", Agent("Error: model not found"), Model),
    ("groq", Http(400, r#"{"error":{"message":"The model `x` has been decommissioned and is no longer supported."}}"#), Model),
    ("together", Http(404, r#"{"error":{"message":"Unable to access model foo."}}"#), Model),
    ("together", Http(400, r#"{"error":{"message":"Unable to access non-serverless model foo."}}"#), Model),
    ("moonshot", Http(404, r#"{"error":{"message":"Not found the model foo or Permission denied"}}"#), Model),
    ("vertex", Http(404, r#"{"error":{"message":"Publisher Model `projects/p/models/x` was not found"}}"#), Model),
    ("gemini", Http(404, r#"{"error":{"message":"models/gemini-9 is not found for API version v1beta"}}"#), Model),
    ("copilot", Http(400, r#"{"error":{"message":"The requested model is not supported."}}"#), Model),
    ("anthropic", Http(404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#), Model),
    ("openrouter", Http(404, r#"{"error":{"message":"No endpoints found for foo/bar.","code":404}}"#), Model),
    ("any", Http(404, "nope"), Model),
    ("lmstudio", Http(404, r#"{"error":{"message":"No models loaded. Please load a model in the developer page."}}"#), NotLoaded),
    ("koboldcpp", Http(503, r#"{"error":"no model loaded"}"#), NotLoaded),
    ("lmstudio", Http(400, r#"{"error":"Model is not loaded"}"#), NotLoaded),

    // Tools.
    ("ollama", Http(400, r#"{"error":"registry.ollama.ai/library/gemma:2b does not support tools"}"#), Tools),
    ("openrouter", Http(404, r#"{"error":{"message":"No endpoints found that support tool use.","code":404}}"#), Tools),
    ("bedrock", Http(400, r#"{"message":"This model doesn't support tool use in streaming mode."}"#), Tools),
    ("vllm", Http(400, r#"{"message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set"}"#), Tools),
    ("llama.cpp", Http(500, r#"{"error":{"code":500,"message":"tools param requires --jinja flag"}}"#), Tools),
    ("groq", Http(400, r#"{"error":{"message":"`tool calling` is not supported with this model"}}"#), Tools),
    ("deepseek", Http(400, r#"{"error":{"message":"deepseek-reasoner does not support Function Calling"}}"#), Tools),
    ("gemini", Http(400, r#"{"error":{"message":"Function calling is not enabled for models/gemma-3-27b-it"}}"#), Tools),
    ("any", Http(400, r#"{"error":{"message":"function calling is not supported"}}"#), Tools),
    ("any", Http(400, r#"{"error":{"message":"tools is not supported in this model"}}"#), Tools),
    ("openai", Http(400, r#"{"error":{"message":"Unsupported: 'tools' is not supported with this model."}}"#), Tools),
    ("any", Http(400, r#"{"error":{"message":"tools are not supported"}}"#), Tools),
    ("openrouter", Http(404, r#"{"error":{"message":"No endpoints found matching your data policy (Free model publication)."}}"#), DataPolicy),
    ("openrouter", Http(404, r#"{"error":{"message":"No allowed providers are available for the selected model."}}"#), DataPolicy),

    // Sizes.
    ("anthropic", Http(400, r#"{"error":{"message":"max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet"}}"#), OutputLimit),
    ("openai", Http(400, r#"{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 completion tokens."}}"#), OutputLimit),
    ("deepseek", Http(400, r#"{"error":{"message":"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"}}"#), OutputLimit),
    ("gemini", Http(400, r#"{"error":{"message":"Unable to submit request because it has a maxOutputTokens value of 90000"}}"#), OutputLimit),
    ("groq", Http(400, r#"{"error":{"message":"`max_tokens` must be less than or equal to `8192`"}}"#), OutputLimit),
    ("openai", Http(400, r#"{"error":{"code":"context_length_exceeded","message":"too big"}}"#), TooLong),
    ("llama.cpp", Http(400, r#"{"error":{"type":"exceed_context_size_error","message":"too big"}}"#), TooLong),
    ("vllm", Http(400, r#"{"message":"This model's maximum context length is 32768 tokens. However, you requested 40000 tokens"}"#), TooLong),
    ("ollama", Http(400, r#"{"error":"exceeded max context length by 12 tokens"}"#), TooLong),
    ("llama.cpp", Http(400, r#"{"error":{"message":"the request exceeds the available context size, try increasing it"}}"#), TooLong),
    ("ollama", Http(400, r#"{"error":"prompt too long"}"#), TooLong),
    ("anthropic", Http(400, r#"{"error":{"message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#), TooLong),
    ("bedrock", Http(400, r#"{"message":"Input is too long for requested model."}"#), TooLong),
    ("openai", Http(400, r#"{"error":{"message":"Your input exceeds the context window of this model."}}"#), TooLong),
    ("litellm", Http(400, r#"{"error":{"message":"it exceeds the model's context window"}}"#), TooLong),
    ("minimax", Http(400, r#"{"error":{"message":"invalid params, context window exceeds limit"}}"#), TooLong),
    ("zai", Http(400, r#"{"error":{"code":"model_context_window_exceeded"}}"#), TooLong),
    ("gemini", Http(400, r#"{"error":{"message":"The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."}}"#), TooLong),
    ("copilot", Http(400, r#"{"error":{"message":"prompt token count of 140000 exceeds the limit of 128000"}}"#), TooLong),
    ("sglang", Http(400, r#"{"message":"Requested token count exceeds the model's maximum."}"#), TooLong),
    ("xai", Http(400, r#"{"error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#), TooLong),
    ("moonshot", Http(400, r#"{"error":{"message":"Your request exceeded model token limit: 131072 (requested: 190121)"}}"#), TooLong),
    ("sglang", Http(400, r#"{"message":"The input (41210 tokens) is longer than the model's context length (32768 tokens)."}"#), TooLong),
    ("vllm", Http(400, r#"{"message":"The decoder prompt (length 9) is longer than the maximum model length of 8"}"#), TooLong),
    ("lmstudio", Stream(r#"{"error":{"message":"The number of tokens to keep from the initial prompt is greater than the context length"}}"#), TooLong),
    ("mistral", Http(400, r#"{"message":"the prompt exceeds the context length"}"#), TooLong),
    ("lmstudio", Http(400, r#"{"error":"Trying to keep the first 5000 tokens when context the overflows."}"#), TooLong),
    ("zai", Http(400, r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#), TooLong),
    ("dashscope", Http(400, r#"{"error":{"message":"Range of input length should be [1, 129024]"}}"#), TooLong),
    ("tgi", Http(422, r#"{"error":"`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens"}"#), TooLong),
    ("tgi", Http(422, r#"{"error":"`inputs` must have less than 4096 tokens. Given: 5000"}"#), TooLong),
    ("mistral", Http(400, r#"{"message":"Prompt contains 9 tokens, too large for model with 8 maximum context"}"#), TooLong),
    ("anthropic", Http(400, r#"{"error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again"}}"#), TooLong),
    ("lmstudio", Http(400, r#"{"error":"Cannot truncate prompt with n_keep (13575) >= n_ctx (4096)"}"#), TooLong),
    ("poolside", Http(400, r#"{"error":{"message":"Input length 131393 exceeds the maximum allowed input length of 131040 tokens."}}"#), TooLong),
    ("llama.cpp", Http(500, r#"{"error":{"code":500,"message":"the input exceeds the context size"}}"#), TooLong),
    ("openai", Http(429, r#"{"error":{"message":"Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 40000. The input or output tokens must be reduced in order to run successfully.","type":"tokens","code":"rate_limit_exceeded"}}"#), TooLong),
    ("openai", Http(429, r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 20000, Requested 15000.","code":"rate_limit_exceeded"}}"#), Limit),
    ("groq", Http(400, r#"{"error":{"message":"Please reduce the length of the messages or completion."}}"#), TooLong),
    ("cohere", Http(400, r#"{"message":"too many tokens: size limit exceeded by 12 tokens"}"#), TooLong),
    ("anthropic", Http(413, r#"{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#), TooLong),
    ("any", Http(400, r#"{"error":{"message":"bigger than the context window"}}"#), TooLong),
    ("any", Http(400, r#"{"error":{"message":"too many tokens"}}"#), TooLong),
    ("nginx", Http(413, "<html><title>413 Request Entity Too Large</title></html>"), TooLong),

    // Permissions and parameters.
    ("openai", Http(400, r#"{"error":{"message":"Your organization must be verified to stream this model."}}"#), Permission),
    ("openai", Http(403, r#"{"error":{"message":"You have insufficient permissions for this operation."}}"#), Permission),
    ("openai", Http(403, r#"{"error":{"message":"Missing scopes: model.request"}}"#), Permission),
    ("gemini", Http(403, r#"{"error":{"message":"Generative Language API has not been used","details":[{"reason":"SERVICE_DISABLED"}]}}"#), Permission),
    ("bedrock", Http(403, r#"{"message":"User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:InvokeModel"}"#), Permission),
    ("vertex", Http(403, r#"{"error":{"message":"no","status":"PERMISSION_DENIED"}}"#), Permission),
    ("anthropic", Http(403, r#"{"error":{"type":"permission_error","message":"Your API key does not have permission"}}"#), Permission),
    ("openai", Http(403, r#"{"error":{"code":"ip_not_authorized"}}"#), Permission),
    ("gemini", Http(403, r#"{"error":{"details":[{"reason":"API_KEY_IP_ADDRESS_BLOCKED"}]}}"#), Permission),
    ("copilot", Http(403, "Access to this endpoint is forbidden. Please review our Terms of Service."), Permission),
    ("openai", Http(400, r#"{"error":{"message":"Unsupported parameter: 'max_tokens'","code":"unsupported_parameter"}}"#), Parameter),
    ("openai", Http(400, r#"{"error":{"message":"Unsupported value: 'temperature'","code":"unsupported_value"}}"#), Parameter),
    ("openai", Http(400, r#"{"error":{"message":"Unrecognized request argument supplied: reasoning_effort"}}"#), Parameter),
    ("anthropic", Http(400, r#"{"error":{"message":"thinking.type: Extra inputs are not permitted"}}"#), Parameter),
    ("ollama", Http(400, r#"{"error":"\"gemma\" does not support thinking"}"#), Parameter),
    ("xai", Http(400, r#"{"error":"Model grok-4 does not support parameter reasoningEffort"}"#), Parameter),
    ("gemini", Http(400, r#"{"error":{"message":"Thinking level is not supported for this model."}}"#), Parameter),
    ("groq", Http(400, r#"{"error":{"message":"`reasoning_effort` is not supported with this model"}}"#), Parameter),

    // Memory.
    ("ollama", Http(500, r#"{"error":"model requires more system memory (9.5 GiB) than is available (5.2 GiB)"}"#), Memory),
    ("ollama", Http(500, r#"{"error":"llama runner process has terminated: cudaMalloc failed: out of memory"}"#), Memory),
    ("lmstudio", Http(500, r#"{"error":"Model loading was stopped due to insufficient system resources."}"#), Memory),
    ("mlx", Http(500, r#"{"error":"Insufficient Memory"}"#), Memory),
    ("localai", Http(500, r#"{"error":"not enough memory"}"#), Memory),
    ("ollama", Http(500, r#"{"error":"unable to allocate CUDA0 buffer"}"#), Memory),
    ("llama.cpp", Http(500, r#"{"error":{"message":"failed to allocate buffer for kv cache"}}"#), Memory),
    ("vllm", Http(500, r#"{"message":"No available memory for the cache blocks."}"#), Memory),
    ("ollama", Http(500, r#"{"error":"llama runner process has terminated: signal: killed"}"#), Memory),
    ("lmstudio", Http(400, r#"{"error":"Error loading model. (Exit code: 137)"}"#), Memory),

    ("ollama", Http(500, r#"{"error":"model failed to load, this may be due to resource limitations or an internal error, check ollama server logs for details"}"#), Memory),
    ("ollama", Http(500, r#"{"error":"llama runner process has terminated: exit status 2"}"#), Memory),
    ("llama.cpp", Http(500, r#"{"error":"backend is out-of-memory"}"#), Memory),
    ("ollama", Http(500, r#"{"error":"memory layout cannot be allocated"}"#), Memory),
    ("lmstudio", Http(400, r#"{"error":{"message":"Failed to load model \"qwen\". Error: Error loading model."}}"#), NotLoaded),
    ("lmstudio", Http(500, r#"{"error":"Error loading model."}"#), NotLoaded),

    // The address.
    ("lmstudio", Stream(r#"{"error":"Unexpected endpoint or method. (POST /chat/completions)"}"#), Address),
    ("openai", Http(404, r#"{"error":{"message":"Invalid URL (POST /v1/v1/chat/completions)"}}"#), Address),
    ("express", Http(404, "<pre>Cannot POST /chat/completions</pre>"), Address),
    ("kong", Http(404, r#"{"message":"no Route matched with those values"}"#), Address),
    ("any", Http(404, "<html><body>where?</body></html>"), Address),
    ("any", Http(404, "<!DOCTYPE html><p>where?</p>"), Address),
    ("fastapi", Http(404, r#"{"detail":"Not Found"}"#), Address),
    ("go", Http(404, "404 page not found"), Address),
    ("fastapi", Http(405, r#"{"detail":"Method Not Allowed"}"#), Address),

    // Not now.
    ("anthropic", Stream(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#), Overloaded),
    ("mistral", Http(429, r#"{"message":"Service tier capacity exceeded for this model."}"#), Overloaded),
    ("groq", Http(498, r#"{"error":{"message":"Flex tier capacity exceeded"}}"#), Overloaded),
    ("cerebras", Http(429, r#"{"message":"We're experiencing high traffic right now!"}"#), Overloaded),
    ("openrouter", Http(404, r#"{"error":{"message":"No instances available (yet)"}}"#), Overloaded),
    ("ollama", Http(503, r#"{"error":"server busy, please try again. maximum pending requests exceeded"}"#), Overloaded),
    ("codex", Agent("unexpected status: Service Unavailable"), Overloaded),
    ("llama.cpp", Http(503, r#"{"error":{"message":"Loading model","type":"unavailable_error"}}"#), Overloaded),
    ("lmstudio", Http(404, r#"{"error":"Model unloaded."}"#), Overloaded),
    ("hf", Http(503, r#"{"error":"Model x is currently loading"}"#), Overloaded),
    ("openai", Http(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#), Limit),
    ("litellm", Agent("litellm.RateLimitError: nope"), Limit),
    ("bedrock", Http(429, r#"{"message":"Too many requests, please wait before trying again."}"#), Limit),
    ("gemini", Http(429, r#"{"error":{"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota, please check your plan and billing details."}}"#), Limit),
    ("bedrock", Http(400, r#"{"__type":"ThrottlingException"}"#), Limit),
    ("copilot", Http(400, r#"{"error":{"code":"quota_exceeded"}}"#), Limit),
    ("gemini", Agent("You exceeded your current quota"), Limit),
    ("any", Agent("the usage limit of this key"), Limit),
    ("claude-code", Agent(r#"API Error: 500 {"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#), ServerFault),
    ("node", Agent("connect ECONNREFUSED 127.0.0.1:443"), Overloaded),
    ("node", Agent("TypeError: fetch failed"), Overloaded),
    ("claude-code", Agent("Connection error."), Overloaded),
    ("codex", Agent("stream disconnected before completion"), Overloaded),
    ("node", Agent("getaddrinfo EAI_AGAIN"), Overloaded),
    ("any", Http(401, ""), Key),
    ("any", Http(429, ""), Limit),
    ("any", Http(498, ""), Overloaded),
    ("any", Http(503, ""), Overloaded),
    ("any", Http(529, ""), Overloaded),
    ("any", Http(408, ""), ServerFault),
    ("any", Http(425, ""), ServerFault),
    ("any", Http(500, r#"{"error":{"message":"something happened"}}"#), ServerFault),
    ("any", Stream(r#"{"error":{"type":"invalid_request_error","message":"no"}}"#), Unclassified),
    ("gemini", Stream(r#"{"error":{"status":"INVALID_ARGUMENT","message":"no"}}"#), Unclassified),
];

/// Texts that mean nothing, though they hold words of the table.
const UNCLASSIFIED: &[Sent] = &[
    Http(400, r#"{"error":{"message":"no tools, please"}}"#),
    Http(403, "{}"),
    Http(422, "bad"),
    Http(409, r#"{"error":{"message":"conflict"}}"#),
];

/// Words of agents about their work.
const WORK: &[&str] = &[
    "the tests fail: expected 401 tests, 429 ran",
    "could not find the function in the file",
    "error[E0425]: cannot find value `model` in this scope",
    "404 page not found",
    "File not found: src/model.rs",
    "the reviewer's request was refused",
    "out of memory in test allocator",
    "assertion failed: content_filter(&input)",
];

fn decided(sent: Sent) -> (Cause, Option<usize>) {
    let (cause, status, text, source) = match sent {
        Http(status, body) => (Cause::of_response(Some(status), body.as_bytes()), Some(status), body, Source::Response),
        Stream(body) => (Cause::of_response(None, body.as_bytes()), None, body, Source::Response),
        Agent(text) => (Cause::of_agent(text).unwrap_or(Unclassified), super::status_in(text), text, Source::Agent),
        Connection(text) => (Cause::of_connection(text).unwrap_or(Unclassified), None, text, Source::Connection),
    };
    let json = serde_json::from_str::<serde_json::Value>(text).ok().filter(|_| source == Source::Response);
    let words = json.as_ref().map_or_else(|| text.to_owned(), words).to_lowercase();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let status = status.or_else(|| json.as_ref().and_then(super::code));
    (cause, SIGNATURES.iter().position(|row| row.matches(status, &words, source)))
}

#[test]
fn every_wording_means_its_cause_and_every_row_decides_one() {
    let mut rows = vec![false; SIGNATURES.len()];
    let mut wrong = Vec::new();
    for (from, sent, cause) in SAMPLES {
        let (found, row) = decided(*sent);
        if found != *cause {
            wrong.push(format!(
                "{from}: {found:?} instead of {cause:?} for {sent:?}, by {:?}",
                row.map(|n| &SIGNATURES[n])
            ));
        }
        row.into_iter().for_each(|row| rows[row] = true);
    }
    wrong.extend(
        rows.iter().zip(SIGNATURES).filter(|(used, _)| !**used).map(|(_, row)| format!("decides nothing: {row:?}")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_no_row_describes_is_left_to_its_own_words() {
    for sent in UNCLASSIFIED {
        assert_eq!(decided(*sent).0, Unclassified, "{sent:?}");
    }
    for text in WORK {
        assert_eq!(Cause::of_agent(text), None, "{text}");
    }
}
