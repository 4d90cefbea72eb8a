//! Kinds of instruments: thin wrappers that bound their labels.

use super::labels::{Label, attributes};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{self, Meter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Counts things.
#[derive(Debug)]
pub struct Counter(metrics::Counter<u64>);

impl Counter {
    pub(super) fn new(meter: &Meter, name: &'static str, unit: &'static str, description: &'static str) -> Counter {
        Counter(meter.u64_counter(name).with_unit(unit).with_description(description).build())
    }

    /// Adds to the count.
    pub fn add(&self, n: u64, labels: &[Label<'_>]) {
        if n > 0 {
            self.0.add(n, &attributes(labels));
        }
    }
}

/// Sums up amounts that are not whole numbers.
#[derive(Debug)]
pub struct FloatCounter(metrics::Counter<f64>);

impl FloatCounter {
    pub(super) fn new(meter: &Meter, name: &'static str, description: &'static str) -> FloatCounter {
        FloatCounter(meter.f64_counter(name).with_description(description).build())
    }

    /// Adds to the sum.
    pub fn add(&self, amount: f64, labels: &[Label<'_>]) {
        if amount > 0.0 {
            self.0.add(amount, &attributes(labels));
        }
    }
}

/// Distribution of values.
#[derive(Debug)]
pub struct Histogram(metrics::Histogram<f64>);

impl Histogram {
    pub(super) fn new(
        meter: &Meter,
        name: &'static str,
        unit: &'static str,
        bounds: &[f64],
        description: &'static str,
    ) -> Histogram {
        let builder = meter.f64_histogram(name).with_unit(unit).with_description(description);
        Histogram(builder.with_boundaries(bounds.to_vec()).build())
    }

    /// Records a value.
    pub fn record(&self, value: f64, labels: &[Label<'_>]) {
        self.0.record(value.max(0.0), &attributes(labels));
    }

    /// Records a duration, in seconds.
    pub fn duration(&self, value: Duration, labels: &[Label<'_>]) {
        self.record(value.as_secs_f64(), labels);
    }
}

/// Value that is set when it changes.
#[derive(Debug)]
pub struct Gauge(metrics::Gauge<f64>);

impl Gauge {
    pub(super) fn new(meter: &Meter, name: &'static str, unit: &'static str, description: &'static str) -> Gauge {
        Gauge(meter.f64_gauge(name).with_unit(unit).with_description(description).build())
    }

    /// Sets the value.
    pub fn set(&self, value: f64, labels: &[Label<'_>]) {
        self.0.record(value, &attributes(labels));
    }
}

type Rows = Arc<Mutex<Vec<(Vec<KeyValue>, f64)>>>;

/// Values that are replaced together, so that one that no longer exists is no longer reported.
#[derive(Debug)]
pub struct Table(Rows);

impl Table {
    pub(super) fn new(meter: &Meter, name: &'static str, unit: &'static str, description: &'static str) -> Table {
        let rows = Rows::default();
        let read = rows.clone();
        let observe = move |observer: &dyn metrics::AsyncInstrument<f64>| {
            for (attributes, value) in read.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                observer.observe(*value, attributes);
            }
        };
        let builder = meter.f64_observable_gauge(name).with_unit(unit).with_description(description);
        // The SDK keeps the callback; the handle is not needed.
        let _registered = builder.with_callback(observe).build();
        Table(rows)
    }

    /// Replaces all values. Values whose labels are alike, because they were bounded, are added up.
    pub fn replace<'a, L: AsRef<[Label<'a>]>>(&self, values: impl IntoIterator<Item = (L, f64)>) {
        let mut rows: Vec<(Vec<KeyValue>, f64)> = Vec::new();
        for (labels, value) in values {
            let labels = attributes(labels.as_ref());
            match rows.iter_mut().find(|(known, _)| *known == labels) {
                Some((_, sum)) => *sum += value,
                None => rows.push((labels, value)),
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// Replaces the values by a single one without labels.
    pub fn set(&self, value: f64) {
        self.replace([([], value)]);
    }
}
