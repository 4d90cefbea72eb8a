//! Redacts spans before they are exported, with the rules of log lines: attributes, events and error messages.

use super::clean::names_secret;
use crate::secrets::redact_all;
use opentelemetry::trace::Status;
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use std::borrow::Cow;
use std::time::Duration;

/// An exporter that redacts spans before it passes them on.
#[derive(Debug)]
pub(super) struct Redacting<E>(pub E);

impl<E: SpanExporter> SpanExporter for Redacting<E> {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        for span in &mut batch {
            cow(&mut span.name);
            span.attributes.iter_mut().for_each(attribute);
            for event in &mut span.events.events {
                cow(&mut event.name);
                event.attributes.iter_mut().for_each(attribute);
            }
            if let Status::Error { description } = &mut span.status {
                cow(description);
            }
        }
        self.0.export(batch)
    }
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }
    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn cow(text: &mut Cow<'static, str>) {
    if let Cow::Owned(clean) = redact_all(text) {
        *text = clean.into();
    }
}

fn attribute(attribute: &mut KeyValue) {
    match &mut attribute.value {
        Value::String(_) if names_secret(attribute.key.as_str()) => attribute.value = "***".into(),
        Value::String(text) => string(text),
        Value::Array(Array::String(texts)) => texts.iter_mut().for_each(string),
        _ => {}
    }
}

fn string(text: &mut StringValue) {
    if let Cow::Owned(clean) = redact_all(text.as_str()) {
        *text = clean.into();
    }
}
