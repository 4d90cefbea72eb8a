//! A browser without JavaScript: keeps cookies, and sends forms with the token of the last page.

use super::rest::{Reply, Service};
use axum::body::Body;
use axum::http::{Method, Request};
use std::collections::BTreeMap;

/// Where the service is for this browser.
const HOST: &str = "localhost:7300";

#[derive(Clone)]
pub struct Browser<'a> {
    service: &'a Service,
    cookies: BTreeMap<String, String>,
    /// The last page.
    page: String,
}

impl Reply {
    /// Asserts the status and returns the body.
    #[track_caller]
    pub fn is(self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.text
    }
}

impl<'a> Browser<'a> {
    pub fn new(service: &'a Service) -> Browser<'a> {
        Browser { service, cookies: BTreeMap::new(), page: String::new() }
    }

    /// Opens a page, as if its address was typed.
    pub async fn open(&mut self, path: &str) -> Reply {
        let reply = self
            .get(path, &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")])
            .await;
        self.page.clone_from(&reply.text);
        reply
    }

    /// Sends a GET request with these headers.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.request(Method::GET, path, headers, String::new()).await
    }

    /// Sends a form of the last page: its hidden fields for this action, and these.
    pub async fn send_form(&mut self, action: &str, fields: &[(&str, &str)]) -> Reply {
        let mut all: Vec<(String, String)> = vec![("form_token".to_owned(), self.token())];
        let named = |name: &str| fields.iter().any(|(n, _)| *n == name);
        all.extend(self.hidden(action).into_iter().filter(|(name, _)| name != "form_token" && !named(name)));
        all.extend(fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        self.submit_all(action, &all).await
    }

    /// Sends these fields with the token of the last page.
    pub async fn send(&mut self, action: &str, fields: &[(&str, &str)]) -> Reply {
        let mut all: Vec<(String, String)> = vec![("form_token".to_owned(), self.token())];
        all.extend(fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        self.submit_all(action, &all).await
    }

    /// Sends these fields only.
    pub async fn submit(&mut self, action: &str, fields: &[(&str, &str)]) -> Reply {
        let all: Vec<(String, String)> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.submit_all(action, &all).await
    }

    async fn submit_all(&mut self, action: &str, fields: &[(String, String)]) -> Reply {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let pairs: Vec<String> = fields.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
        self.post(action, &[("origin", &format!("http://{HOST}"))], &pairs.join("&")).await
    }

    /// Sends a POST request with these headers and this body.
    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let headers = [headers, &[("content-type", "application/x-www-form-urlencoded")]].concat();
        self.request(Method::POST, path, &headers, body.to_owned()).await
    }

    async fn request(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Reply {
        let path = path.replace('"', "%22").replace(' ', "%20");
        let mut request = Request::builder().method(method).uri(&path).header("host", HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let reply = self.service.send(request.body(Body::from(body)).expect("a request")).await;
        for cookie in reply.headers.get_all("set-cookie") {
            let text = cookie.to_str().expect("ASCII");
            let (name, value) = text.split(';').next().and_then(|c| c.split_once('=')).expect("a cookie");
            match value.is_empty() {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        reply
    }

    /// The token of the last page's forms.
    fn token(&self) -> String {
        value(&self.page, "name=\"form_token\" value=\"")
    }

    /// The hidden fields of the first form with this action on the last page.
    fn hidden(&self, action: &str) -> Vec<(String, String)> {
        let form = self.page.split("<form").find(|form| form.contains(&format!("action=\"{action}\"")));
        let form = form.and_then(|form| form.split("</form>").next()).unwrap_or_default();
        let fields = form.split("<input type=\"hidden\" name=\"").skip(1);
        fields.filter_map(|field| Some((field.split('"').next()?.to_owned(), value(field, "value=\"")))).collect()
    }
}

fn value(text: &str, before: &str) -> String {
    text.split(before).nth(1).and_then(|t| t.split('"').next()).unwrap_or_default().to_owned()
}
