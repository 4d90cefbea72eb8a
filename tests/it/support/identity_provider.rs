//! A scripted OpenID Connect provider on loopback. It checks requests as strictly as a real one, and issues whatever ID
//! tokens a test asks for.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

pub const CLIENT: &str = "skep";
pub const SECRET: &str = "a secret: with % and +";

/// Changes the header and the claims of the next ID tokens.
pub type Tamper = Box<dyn Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send>;

/// A login that a browser was sent here for.
struct Login {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

struct Inner {
    issuer: String,
    keys: Vec<(String, EcdsaKeyPair)>,
    /// Logins by the code that was issued for them. A code works once.
    logins: BTreeMap<String, Login>,
    issued: u32,
    /// Claims of the account that is logged in here.
    claims: Map<String, Value>,
    /// Claims that only the userinfo endpoint returns; without any, it is out of order.
    userinfo: Map<String, Value>,
    tamper: Option<Tamper>,
    key_requests: u32,
}

#[derive(Clone)]
pub struct Provider(Arc<Mutex<Inner>>);

impl Provider {
    pub async fn start() -> Provider {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let provider = Provider(Arc::new(Mutex::new(Inner {
            issuer,
            keys: vec![("first".to_owned(), key())],
            logins: BTreeMap::new(),
            issued: 0,
            claims: Map::new(),
            userinfo: Map::new(),
            tamper: None,
            key_requests: 0,
        })));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().expect("no panic"))
    }

    pub fn issuer(&self) -> String {
        self.with(|p| p.issuer.clone())
    }

    /// Makes the account with these claims that of the next logins.
    pub fn account(&self, claims: Value) {
        self.with(|p| p.claims = claims.as_object().expect("claims").clone());
    }

    /// Returns these claims from the userinfo endpoint.
    pub fn userinfo(&self, claims: Value) {
        self.with(|p| p.userinfo = claims.as_object().expect("claims").clone());
    }

    pub fn tamper(&self, tamper: impl Fn(&mut Map<String, Value>, &mut Map<String, Value>) + Send + 'static) {
        self.with(|p| p.tamper = Some(Box::new(tamper)));
    }

    /// Signs with a new key from now on, and publishes only that.
    pub fn rotate_key(&self, kid: &str) {
        self.with(|p| p.keys = vec![(kid.to_owned(), key())]);
    }

    /// How often the keys were requested.
    pub fn key_requests(&self) -> u32 {
        self.with(|p| p.key_requests)
    }

    /// Accepts the login of a browser that was sent to this address; returns the query with which it is sent back.
    pub fn accept(&self, location: &str) -> String {
        let url = reqwest::Url::parse(location).expect("an address");
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let field = |name: &str| query.get(name).cloned().unwrap_or_else(|| panic!("no {name} in {location}"));
        assert!(location.starts_with(&format!("{}/authorize?", self.issuer())), "{location}");
        assert_eq!((field("response_type"), field("client_id")), ("code".to_owned(), CLIENT.to_owned()));
        assert_eq!(field("code_challenge_method"), "S256");
        assert!(field("scope").split(' ').any(|scope| scope == "openid"));
        assert!(field("state").len() >= 43 && field("nonce").len() >= 43);
        let login =
            Login { nonce: field("nonce"), challenge: field("code_challenge"), redirect_uri: field("redirect_uri") };
        let code = self.with(|p| {
            p.issued += 1;
            let code = format!("code-{}", p.issued);
            p.logins.insert(code.clone(), login);
            code
        });
        format!("code={code}&state={}", field("state"))
    }
}

fn key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let bytes = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes.as_ref(), &random).expect("a key")
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

async fn metadata(State(provider): State<Provider>) -> Json<Value> {
    let issuer = provider.issuer();
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize?tenant=1"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "response_types_supported": ["code"],
    }))
}

async fn keys(State(provider): State<Provider>) -> Json<Value> {
    provider.with(|p| {
        p.key_requests += 1;
        let keys = p.keys.iter().map(|(kid, key)| {
            let (x, y) = key.public_key().as_ref()[1..].split_at(32);
            json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
            })
        });
        // A key of an unknown kind must not spoil the others.
        let strange = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "strange", "pub": "AA"});
        Json(json!({ "keys": std::iter::once(strange).chain(keys).collect::<Vec<_>>() }))
    })
}

async fn token(State(provider): State<Provider>, headers: HeaderMap, body: Bytes) -> (StatusCode, Json<Value>) {
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error, "error_description": "no"})));
    let form = String::from_utf8_lossy(&body).into_owned();
    let url = reqwest::Url::parse(&format!("http://x/?{form}")).expect("a form");
    let form: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(CLIENT), encoded(SECRET))));
    if headers.get("authorization").is_none_or(|sent| *sent != basic.as_str()) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"})));
    }
    provider.with(|p| {
        let Some(login) = p.logins.remove(&field("code")) else { return refused("invalid_grant") };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier").as_bytes()));
        if challenge != login.challenge
            || field("redirect_uri") != login.redirect_uri
            || field("grant_type") != "authorization_code"
        {
            return refused("invalid_grant");
        }
        let (kid, key) = p.keys.first().expect("a key");
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": kid}).as_object().expect("a header").clone();
        let mut claims = json!({
            "iss": p.issuer, "aud": CLIENT, "sub": "1", "nonce": login.nonce, "iat": now(), "exp": now() + 300,
        });
        let claims = claims.as_object_mut().expect("claims");
        claims.extend(p.claims.clone());
        if let Some(tamper) = &p.tamper {
            tamper(&mut header, claims);
        }
        let encode = |part: &Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::from(part.clone()).to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = match header["alg"].as_str() {
            Some("none") => Vec::new(),
            // With everything that an attacker may know: the client's secret.
            Some("HS256") => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
                ring::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            _ => key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature").as_ref().to_vec(),
        };
        let id_token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        (StatusCode::OK, Json(json!({"id_token": id_token, "access_token": "at", "token_type": "Bearer"})))
    })
}

async fn userinfo(State(provider): State<Provider>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    if headers.get("authorization").is_none_or(|sent| sent != "Bearer at") {
        return (StatusCode::UNAUTHORIZED, Json(Value::Null));
    }
    match provider.with(|p| p.userinfo.clone()) {
        claims if claims.is_empty() => (StatusCode::BAD_GATEWAY, Json(Value::Null)),
        claims => (StatusCode::OK, Json(Value::from(claims))),
    }
}
